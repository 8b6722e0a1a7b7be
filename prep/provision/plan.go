package provision

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cloister/internal/fault"
)

// Volume is what one volume of a party's shall have in the cloud. Of DEK, the DEK
// itself may be nil where nothing is applied.
type Volume struct {
	Name string
	KEK  KEK
	DEK  WrappedDEK
	// Principal is whom roles are given to; "" gives none, and makes no container.
	Principal string
	// Container is the address of the blob container that holds the volume, or ""
	// where it is in none; Writes has the clean room write there.
	Container string
	Writes    bool
	// Make has vaults made that are not there; nil refuses where one is not.
	Make *Vaults
}

// What a resource is found to be.
const (
	There   = "there"   // as wanted
	Missing = "missing" // apply makes it
	Differs = "differs" // apply is refused; Detail has the difference
	Unknown = "unknown" // it could not be looked at; Detail says why
)

// Kinds of resource, in the order in which they are made.
const (
	KindVault      = "vault"
	KindKEK        = "KEK"
	KindRelease    = "release role"
	KindSecret     = "wrapped DEK"
	KindSecretRole = "secret role"
	KindContainer  = "container"
	KindBlobRole   = "container role"
)

// Item is one resource of one volume.
type Item struct {
	Volume   string `json:"volume"`
	Kind     string `json:"kind"`
	Resource string `json:"resource"`
	State    string `json:"state"`
	Detail   string `json:"detail,omitempty"`
	Changed  bool   `json:"changed,omitempty"` // made, or taken, by this run
}

// resource is one that is wanted. look says what is there; make makes it, and is
// called only after look has said Missing; take removes it, and is nil for what
// a removal has to leave.
type resource struct {
	kind, name string
	look       func(context.Context) (state, detail string, err error)
	make       func(context.Context) error
	take       func(context.Context) error
}

// applied is what the resources of one volume learn from one another.
type applied struct {
	absent map[string]bool // vaults that are not there yet, by address
	kek    *AppliedKEK
	secret string
}

// Applied is what there is of a volume when Apply has returned.
type Applied struct {
	Volume                    string
	KEK, Secret               string // addresses, with versions
	KEKChanged, SecretChanged bool
	Items                     []Item
}

// resources lists what a volume needs, in order. Finding the ids that roles are
// given on asks the management plane.
func (c *Client) resources(ctx context.Context, v Volume, a *applied) ([]resource, error) {
	if v.Principal == "" && v.Make == nil {
		return []resource{c.kek(v, a), c.secret(v, a)}, nil
	}
	kek, err := c.placeOf(ctx, v.KEK.Vault, v.Make)
	if err != nil {
		return nil, err
	}
	secret, err := c.placeOf(ctx, v.DEK.Vault, v.Make)
	if err == nil && secret.hsm {
		err = fault.Errorf(fault.Usage, "keep the wrapped DEK in a Key Vault", "%s is a Managed HSM, which has no secrets", v.DEK.Vault)
	}
	if err != nil {
		return nil, err
	}
	list := c.vaults(kek, secret, v, a)
	if v.Principal == "" {
		return append(list, c.kek(v, a), c.secret(v, a)), nil
	}
	release := grant{role: hsmRelease, principal: v.Principal, hsm: v.KEK.Vault, scope: "/keys/" + v.KEK.Name}
	if !kek.hsm {
		release = grant{role: vaultRelease, principal: v.Principal, scope: kek.id + "/keys/" + v.KEK.Name}
	}
	list = append(list, c.kek(v, a), c.role(KindRelease, release), c.secret(v, a),
		c.role(KindSecretRole, grant{role: secretsUser, principal: v.Principal, scope: secret.id + "/secrets/" + v.DEK.Name}))
	if v.Container == "" {
		return list, nil
	}
	id, err := c.containerID(ctx, v.Container)
	if err != nil {
		return nil, err
	}
	access := grant{role: blobsReader, principal: v.Principal, scope: id}
	if v.Writes {
		access.role = blobsWriter
	}
	return append(list, c.container(v, id), c.role(KindBlobRole, access)), nil
}

// vaults are those that are made where they are not there, each once.
func (c *Client) vaults(kek, secret place, v Volume, a *applied) (list []resource) {
	a.absent = map[string]bool{}
	if v.Make == nil {
		return nil
	}
	if !kek.hsm {
		list = append(list, c.vaultAt(kek, *v.Make, a))
	}
	if secret.id != kek.id {
		list = append(list, c.vaultAt(secret, *v.Make, a))
	}
	return list
}

func (c *Client) kek(v Volume, a *applied) resource {
	return resource{
		kind: KindKEK, name: v.KEK.Vault + "/keys/" + v.KEK.Name,
		look: func(ctx context.Context) (state, detail string, err error) {
			if a.absent[v.KEK.Vault] {
				return Missing, "", nil
			}
			a.kek, err = c.FindKEK(ctx, v.KEK)
			return found(a.kek != nil, err)
		},
		make: func(ctx context.Context) (err error) {
			a.kek, err = c.ApplyKEK(ctx, v.KEK)
			return err
		},
		take: func(ctx context.Context) error { return c.deleteKEK(ctx, v.KEK) },
	}
}

func (c *Client) secret(v Volume, a *applied) resource {
	return resource{
		kind: KindSecret, name: v.DEK.Vault + "/secrets/" + v.DEK.Name,
		look: func(ctx context.Context) (state, detail string, err error) {
			if a.absent[v.DEK.Vault] {
				return Missing, "", nil
			}
			there, err := c.FindDEK(ctx, v.DEK, a.kek)
			if there != nil {
				a.secret = there.ID
			}
			return found(there != nil, err)
		},
		make: func(ctx context.Context) error {
			there, err := c.ApplyDEK(ctx, v.DEK, a.kek)
			if err == nil {
				a.secret = there.ID
			}
			return err
		},
		take: func(ctx context.Context) error { return c.deleteDEK(ctx, v.DEK) },
	}
}

func (c *Client) role(kind string, g grant) resource {
	name := ""
	return resource{
		kind: kind, name: g.role.name + " on " + g.hsm + g.scope,
		look: func(ctx context.Context) (state, detail string, err error) {
			name, err = c.findGrant(ctx, g)
			return found(name != "", err)
		},
		make: func(ctx context.Context) error { return c.giveGrant(ctx, g) },
		take: func(ctx context.Context) error { return c.takeGrant(ctx, g, name) },
	}
}

func (c *Client) container(v Volume, id string) resource {
	const role = "Contributor, or Storage Blob Data Contributor, on the storage account"
	return resource{
		kind: KindContainer, name: v.Container,
		look: func(ctx context.Context) (state, detail string, err error) {
			err = c.manage(ctx, http.MethodGet, id, storageVersion, nil, nil)
			if isNotFound(err) {
				return Missing, "", nil
			}
			if err != nil {
				return "", "", explain(err, "looking for the container "+v.Container, "Reader on the storage account")
			}
			return There, "", nil
		},
		make: func(ctx context.Context) error {
			if err := c.manage(ctx, http.MethodPut, id, storageVersion, map[string]any{"properties": map[string]any{}}, nil); err != nil {
				return explain(err, "making the container "+v.Container, role)
			}
			return nil
		},
		take: func(ctx context.Context) error {
			if err := c.manage(ctx, http.MethodDelete, id, storageVersion, nil, nil); err != nil && !isNotFound(err) {
				return explain(err, "deleting the container "+v.Container, role)
			}
			return nil
		},
	}
}

// found turns an answer into a state. What is there and is not the one wanted is
// a conflict, which is no failure to look.
func found(there bool, err error) (state, detail string, _ error) {
	switch {
	case fault.KindOf(err) == fault.Conflict:
		return Differs, told(err), nil
	case err != nil:
		return "", "", err
	case there:
		return There, "", nil
	}
	return Missing, "", nil
}

// told is a failure with what to do about it.
func told(err error) string {
	return strings.Join(append([]string{err.Error()}, fault.Hints(err)...), "; ")
}

// Status looks at everything that a volume needs. What cannot be looked at is
// Unknown, and the rest is looked at still.
func (c *Client) Status(ctx context.Context, v Volume) ([]Item, error) {
	list, err := c.resources(ctx, v, &applied{})
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	var items []Item
	for _, r := range list {
		state, detail, err := r.look(ctx)
		if err != nil {
			state, detail = Unknown, told(err)
		}
		items = append(items, Item{Volume: v.Name, Kind: r.kind, Resource: r.name, State: state, Detail: detail})
	}
	return items, ctx.Err()
}

// Apply makes what is missing, in order, and stops at what differs. Everything
// that it makes is looked for first, so that calling it again goes on.
func (c *Client) Apply(ctx context.Context, v Volume) (Applied, error) {
	a := &applied{}
	done := Applied{Volume: v.Name}
	list, err := c.resources(ctx, v, a)
	if err != nil {
		return done, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	for _, r := range list {
		item := Item{Volume: v.Name, Kind: r.kind, Resource: r.name}
		if item.State, item.Detail, err = r.look(ctx); err == nil && item.State == Missing {
			err = r.make(ctx)
			item.State, item.Changed = There, err == nil
		}
		if err == nil && item.State == Differs {
			err = fault.Errorf(fault.Conflict, "", "%s", item.Detail)
		}
		if err != nil {
			return done, fmt.Errorf("volume %s, %s: %w", v.Name, r.kind, err)
		}
		done.Items = append(done.Items, item)
	}
	done.KEK, done.Secret = a.kek.ID, a.secret
	done.KEKChanged, done.SecretChanged = done.changed(KindKEK), done.changed(KindSecret)
	return done, nil
}

func (a Applied) changed(kind string) bool {
	return slices.ContainsFunc(a.Items, func(i Item) bool { return i.Kind == kind && i.Changed })
}

// Removal says what Destroy takes beside the roles.
type Removal struct {
	Keys bool // the KEK and the wrapped DEK
	Data bool // the container, with everything in it
}

// Takes says whether a resource of a kind goes: roles always do.
func (r Removal) Takes(kind string) bool {
	switch kind {
	case KindKEK, KindSecret:
		return r.Keys
	case KindContainer:
		return r.Data
	case KindVault: // others' keys may be in it
		return false
	}
	return true
}

// Destroy takes what Apply made, roles first, and goes on after a failure. The
// items say of everything what is left: There for what was not asked to go.
func (c *Client) Destroy(ctx context.Context, v Volume, r Removal) ([]Item, error) {
	list, err := c.resources(ctx, v, &applied{})
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	slices.SortStableFunc(list, func(a, b resource) int { return ofKey(a.kind) - ofKey(b.kind) })
	var items []Item
	var errs []error
	for _, x := range list {
		item, err := destroy(ctx, x, r)
		item.Volume = v.Name
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s, %s: %w", v.Name, x.kind, err))
		}
		items = append(items, item)
	}
	return items, errors.Join(errs...)
}

// ofKey orders a removal: while a role is there the keys can be had by it.
func ofKey(kind string) int {
	if kind == KindVault || kind == KindKEK || kind == KindSecret || kind == KindContainer {
		return 1
	}
	return 0
}

func destroy(ctx context.Context, x resource, r Removal) (Item, error) {
	item := Item{Kind: x.kind, Resource: x.name}
	var err error
	if item.State, item.Detail, err = x.look(ctx); err != nil {
		item.State, item.Detail = Unknown, told(err)
		return item, err
	}
	// What differs is not what apply made, and is not ours to take.
	if item.State != There || !r.Takes(x.kind) {
		return item, nil
	}
	if err := x.take(ctx); err != nil {
		return item, err
	}
	item.State, item.Changed = Missing, true
	if x.kind == KindKEK || x.kind == KindSecret {
		item.Detail = "soft-deleted: it can be recovered until it is purged, by default after 90 days; its name is taken till then"
	}
	return item, nil
}
