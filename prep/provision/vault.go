package provision

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"cloister/internal/fault"
)

// Vaults has the Key Vaults made that a volume's addresses name and that are not
// there, in an existing resource group. Managed HSMs are not made: an HSM is
// activated by the holders of its security domain.
type Vaults struct {
	Group    string // of resources
	Location string // the Azure region
}

const vaultRole = "Key Vault Contributor, or Contributor, on the resource group"

// vaultNameForm is what the service admits, of at most 24 characters:
// https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
var vaultNameForm = regexp.MustCompile(`^[a-zA-Z](-?[a-zA-Z0-9]){2,23}$`)

// vaultName is the resource's name of the vault at an address: a Key Vault's is the
// first label of its host. The simulated cloud has addresses in place of labels.
func vaultName(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	if strings.HasPrefix(u.Hostname(), "127.") {
		name = "simulated-" + strings.ReplaceAll(u.Hostname(), ".", "-")
	}
	if len(name) > 24 || !vaultNameForm.MatchString(name) {
		return "", fault.Errorf(fault.Usage, "a name has 3 to 24 letters, digits and dashes, a letter first", "no Key Vault can be made at the address %s", address)
	}
	return name, nil
}

// place is a vault as a resource, or as the one that it will be.
type place struct {
	address, id string
	hsm         bool // a Managed HSM, whose roles are its own and not by id
}

// placeOf finds a vault. One that is not there is fault.NotFound, or is to be made.
func (c *Client) placeOf(ctx context.Context, address string, make *Vaults) (place, error) {
	id, hsm, err := c.vaultID(ctx, address)
	if fault.KindOf(err) != fault.NotFound || make == nil {
		return place{address, id, hsm}, err
	}
	name, err := vaultName(address)
	return place{address, "/subscriptions/" + c.opts.Manager.Subscription + "/resourceGroups/" + make.Group + "/providers/Microsoft.KeyVault/vaults/" + name, false}, err
}

// vaultResource is a vault, as far as it is looked at.
type vaultResource struct {
	Properties struct {
		ProvisioningState       string `json:"provisioningState"`
		EnableRBACAuthorization bool   `json:"enableRbacAuthorization"`
		SKU                     struct {
			Name string `json:"name"`
		} `json:"sku"`
	} `json:"properties"`
}

// vaultAt is a vault of SKU premium, which keeps keys in an HSM, as a KEK has to be
// kept to be released; and in which role assignments count.
func (c *Client) vaultAt(p place, want Vaults, a *applied) resource {
	return resource{
		kind: KindVault, name: p.address,
		look: func(ctx context.Context) (state, detail string, err error) {
			var there vaultResource
			err = c.manage(ctx, http.MethodGet, p.id, vaultVersion, nil, &there)
			switch {
			case isNotFound(err):
				a.absent[p.address] = true
				return Missing, "", nil
			case err != nil:
				return "", "", explain(err, "looking for the vault "+p.id, "Reader on it")
			case !strings.EqualFold(there.Properties.SKU.Name, "premium"):
				return Differs, fmt.Sprintf("the vault %s is of SKU %.20q, not premium, which keeps keys in an HSM", p.id, there.Properties.SKU.Name), nil
			case !there.Properties.EnableRBACAuthorization:
				return Differs, fmt.Sprintf("the vault %s has access policies in the place of role assignments", p.id), nil
			}
			return There, "", nil
		},
		make: func(ctx context.Context) error {
			err := c.makeVault(ctx, p, want)
			a.absent[p.address] = err != nil
			return err
		},
	}
}

func (c *Client) makeVault(ctx context.Context, p place, want Vaults) error {
	doing := "making the vault " + p.id
	var subscription struct {
		TenantID string `json:"tenantId"`
	}
	if err := c.manage(ctx, http.MethodGet, "/subscriptions/"+c.opts.Manager.Subscription, subscriptionVersion, nil, &subscription); err != nil {
		return explain(err, "looking for the subscription "+c.opts.Manager.Subscription, "Reader on the subscription")
	}
	var made vaultResource
	err := c.manage(ctx, http.MethodPut, p.id, vaultVersion, map[string]any{"location": want.Location, "properties": map[string]any{
		"tenantId": subscription.TenantID, "sku": map[string]string{"family": "A", "name": "premium"},
		"enableRbacAuthorization": true, "enableSoftDelete": true}}, &made)
	if err != nil {
		return explain(err, doing, vaultRole)
	}
	for made.Properties.ProvisioningState != "Succeeded" { // its name is not known everywhere yet
		if err := wait(ctx, vaultPoll); err != nil {
			return fault.Errorf(fault.Unavailable, "give the command again, which goes on", "%s: it is %s still: %w", doing, made.Properties.ProvisioningState, err)
		}
		if err := c.manage(ctx, http.MethodGet, p.id, vaultVersion, nil, &made); err != nil {
			return explain(err, doing, vaultRole)
		}
	}
	return nil
}

// vaultPoll is between two questions whether a vault is ready: it takes about half a
// minute, and the management plane asks clients for no more often than this.
const vaultPoll = 5 * time.Second

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
