package provision

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"cloister/internal/fault"
)

// ownVault is an address at which there is no vault yet, and the name of one there.
func (p party) ownVault(t *testing.T, n int) (address, id string) {
	t.Helper()
	u, err := url.Parse(p.cloud.Endpoints().Vault)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("https://127.0.2.%d:%s", n, u.Port()),
		fmt.Sprintf("/subscriptions/%s/resourceGroups/simulated/providers/Microsoft.KeyVault/vaults/simulated-127-0-2-%d", p.cloud.Endpoints().Subscription, n)
}

// A party that has no vault has one made, whatever request fails, once; it is left
// by a removal.
func TestVaultIsMadeWhereThereIsNone(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	for n := 1; ; n++ {
		address, id := p.ownVault(t, n)
		v := p.volume(t, fmt.Sprintf("own-%d", n), address)
		v.DEK.Vault, v.Container = address, ""
		if _, err := p.Status(t.Context(), v); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "shows no vault at "+address) {
			t.Fatalf("without being told to make one: %v", err)
		}
		v.Make = &Vaults{Group: "simulated", Location: "simulated"}
		want := "vault: missing false, KEK: missing false, release role: missing false, wrapped DEK: missing false, secret role: missing false"
		if items, err := p.Status(t.Context(), v); err != nil || states(items) != want {
			t.Fatalf("before: %s, %v", states(items), err)
		}
		p.wire.failAt(n, n%2 == 0)
		_, err := p.Apply(t.Context(), v)
		failed := p.wire.count() >= n
		if failed && (err == nil || fault.KindOf(err) != fault.Unavailable) {
			t.Errorf("request %d: %v (%v)", n, err, fault.KindOf(err))
		}
		p.wire.failAt(0, false)
		if _, err := p.Apply(t.Context(), v); err != nil {
			t.Fatalf("request %d, again: %v", n, err)
		}
		if items, err := p.Status(t.Context(), v); err != nil || states(items) != strings.ReplaceAll(want, "missing", "there") {
			t.Errorf("request %d: %s, %v", n, states(items), err)
		}
		left, err := p.Destroy(t.Context(), v, Removal{Keys: true})
		if err != nil || !strings.Contains(states(left), "vault: there false") {
			t.Errorf("request %d: left %s, %v", n, states(left), err)
		}
		if !failed {
			p.vaultRefusals(t, v, id)
			return
		}
	}
}

// vaultRefusals: a name whose vault is soft-deleted, one of SKU standard, a stranger.
func (p party) vaultRefusals(t *testing.T, v Volume, id string) {
	t.Helper()
	manage := func(method, path string, body any) {
		t.Helper()
		if err := p.manage(t.Context(), method, path, vaultVersion, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	manage(http.MethodDelete, id, nil)
	_, err := p.Apply(t.Context(), v)
	if hints := strings.Join(fault.Hints(err), " "); fault.KindOf(err) != fault.Conflict || !strings.Contains(hints, "recover or purge") || !strings.Contains(err.Error(), id) {
		t.Errorf("deleted: %v (%v)", err, hints)
	}
	deleted := "/subscriptions/" + p.cloud.Endpoints().Subscription + "/providers/Microsoft.KeyVault/locations/simulated/deletedVaults/" + id[strings.LastIndexByte(id, '/')+1:]
	manage(http.MethodPost, deleted+"/purge", nil)
	stranger := newParty(t, p.cloud, "no-vault-maker")
	v.Principal = ""
	_, err = stranger.Apply(t.Context(), v)
	wantDenied(t, err, v.KEK.Vault, "Microsoft.KeyVault/vaults/read is missing: ask for the role Reader on the subscription")
	manage(http.MethodPut, id, map[string]any{"location": "simulated", "properties": map[string]any{
		"tenantId": p.cloud.Endpoints().Tenant, "sku": map[string]string{"family": "A", "name": "standard"}}})
	_, err = p.Apply(t.Context(), v)
	wantConflict(t, err, `is of SKU "standard", not premium`)
	v.Make = nil
	_, err = p.Apply(t.Context(), v)
	wantConflict(t, err, "not supported by a vault of SKU standard")
	v.KEK.Vault, v.Make = "https://x.y.example", &Vaults{Group: "simulated", Location: "simulated"}
	if _, err := p.Apply(t.Context(), v); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "no Key Vault can be made at the address") {
		t.Errorf("a name that cannot be: %v", err)
	}
}
