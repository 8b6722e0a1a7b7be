package provision

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"cloister/internal/fault"
)

// Rotated is what Rotate did.
type Rotated struct {
	Volume  string `json:"volume"`
	KEK     string `json:"kek"`    // address of the new version
	Before  string `json:"before"` // of the one before it, "" where an earlier run made the new one
	Secret  string `json:"secret"`
	Retired bool   `json:"retired"` // the one before is disabled
}

// Rotate gives a volume a new KEK, a version of the same key under the same
// policy, and stores the same DEK wrapped with it. A run that ended between the
// two is gone on with: no second new KEK is made. retire disables the version
// before, with which nobody can then open an older copy of the secret.
func (c *Client) Rotate(ctx context.Context, v Volume, retire bool) (Rotated, error) {
	done := Rotated{Volume: v.Name}
	kek, err := c.FindKEK(ctx, v.KEK)
	if err == nil && kek == nil {
		err = fault.Errorf(fault.NotFound, "make it first: cloister provision apply", "there is no KEK %s in %s to rotate", v.KEK.Name, v.KEK.Vault)
	}
	if err != nil {
		return done, fmt.Errorf("rotating the KEK of %s: %w", v.Name, err)
	}
	same, err := c.FindDEK(ctx, v.DEK, kek)
	if err != nil {
		return done, fmt.Errorf("rotating the KEK of %s: %w", v.Name, err)
	}
	if same != nil {
		done.Before = kek.ID
		if kek, err = c.newVersion(ctx, v.KEK); err != nil {
			return done, fmt.Errorf("rotating the KEK of %s: %w", v.Name, err)
		}
	}
	stored, err := c.ApplyDEK(ctx, v.DEK, kek)
	if err != nil {
		return done, fmt.Errorf("rotating the KEK of %s: %w", v.Name, err)
	}
	done.KEK, done.Secret = kek.ID, stored.ID
	if retire && done.Before != "" {
		before := azkeys.ID(done.Before)
		err = c.enableKEK(ctx, v.KEK, before.Version(), false)
		done.Retired = err == nil
	}
	return done, err
}

func (c *Client) newVersion(ctx context.Context, k KEK) (*AppliedKEK, error) {
	doing := fmt.Sprintf("making a new version of the KEK %s in %s", k.Name, k.Vault)
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	client, err := c.keys(k.Vault)
	if err != nil {
		return nil, err
	}
	bundle, err := k.make(ctx, client)
	if err != nil {
		return nil, explain(err, doing, kekRole)
	}
	public, err := k.compare(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return &AppliedKEK{ID: string(*bundle.Key.KID), Public: public, Changed: true}, nil
}

// Revoke ends a volume's release: the roles go, and the KEK is disabled, which
// refuses a release to whomever still has one. What was made stays, and a run
// that has the keys keeps them until consent is withdrawn.
func (c *Client) Revoke(ctx context.Context, v Volume) ([]Item, error) {
	disable := c.disableKEK(ctx, v.KEK)
	if v.Principal == "" {
		return nil, disable
	}
	items, err := c.Destroy(ctx, v, Removal{})
	if disable != nil {
		return items, disable
	}
	return items, err
}

func (c *Client) disableKEK(ctx context.Context, k KEK) error { return c.enableKEK(ctx, k, "", false) }

// Restore undoes what Revoke did to the KEK; Apply gives the roles again.
func (c *Client) Restore(ctx context.Context, v Volume) error {
	return c.enableKEK(ctx, v.KEK, "", true)
}

// enableKEK enables or disables a version, "" being the newest.
func (c *Client) enableKEK(ctx context.Context, k KEK, version string, enabled bool) error {
	client, err := c.keys(k.Vault)
	if err != nil {
		return err
	}
	_, err = client.UpdateKey(ctx, k.Name, version, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(enabled)}}, nil)
	if err != nil {
		return explain(err, fmt.Sprintf("setting the KEK %s in %s to enabled=%t", k.Name, k.Vault, enabled), kekRole)
	}
	return nil
}
