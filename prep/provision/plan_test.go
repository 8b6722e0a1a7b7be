package provision

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"cloister/enclave/azure"
	"cloister/enclave/envelope"
	"cloister/internal/azurite"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
)

// faulty sends requests on and fails the n-th of them, before it has its effect
// or after.
type faulty struct {
	policy.Transporter

	mu    sync.Mutex // guards what follows
	n     int        // requests so far
	at    int        // which fails; 0 is none
	after bool
}

var errInjected = errors.New("the connection was cut")

func (f *faulty) Do(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.n++
	fails, after := f.n == f.at, f.after
	f.mu.Unlock()
	if fails && !after {
		return nil, errInjected
	}
	resp, err := f.Transporter.Do(r)
	if fails && err == nil {
		resp.Body.Close()
		return nil, errInjected
	}
	return resp, err
}

func (f *faulty) failAt(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.at, f.after = 0, n, after
}

func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// newCloud is a cloud of the test's own that checks roles, with blobs in Azurite.
func newCloud(t *testing.T) *localcloud.Cloud {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloud") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := localcloud.Start(t.Context(), localcloud.Config{Dir: dir, Roles: true, Azurite: azurite.Start(t).Endpoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type party struct {
	*Client
	cloud *localcloud.Cloud
	wire  *faulty
}

// newParty signs in as an identity of the cloud.
func newParty(t *testing.T, c *localcloud.Cloud, name string) party {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	id, err := c.AddIdentity(name)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{Transporter: azure.NewTransport(roots)}
	plain := policy.ClientOptions{Transport: azure.NewTransport(roots)}
	plain.Cloud.ActiveDirectoryAuthorityHost = c.Endpoints().Authority
	cred, err := azidentity.NewClientAssertionCredential(c.Endpoints().Tenant, id.ClientID,
		func(context.Context) (string, error) { return c.FederatedToken(name) },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: plain, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	e := c.Endpoints()
	opts := policy.ClientOptions{Transport: f, Retry: policy.RetryOptions{MaxRetries: -1}}
	return party{cloud: c, wire: f, Client: New(Options{Credential: cred, Client: opts, PrivateCloud: true, HSMScope: "https://managedhsm.azure.net/.default",
		Directory: Directory{Endpoint: e.Authority + "/v1.0", Scope: "https://graph.microsoft.com/.default", Authority: e.Authority},
		Manager:   Manager{Endpoint: e.Manager, Scope: "https://management.azure.com/.default", Subscription: e.Subscription}})}
}

// volume is one whose names nobody has used; kekIn is the vault of the KEK.
func (p party) volume(t *testing.T, name, kekIn string) Volume {
	t.Helper()
	dek, err := envelope.NewDEK(slices.Repeat([]byte{7}, envelope.DEKSize))
	if err != nil {
		t.Fatal(err)
	}
	room, err := p.cloud.AddIdentity("room-of-" + name)
	if err != nil {
		t.Fatal(err)
	}
	e := p.cloud.Endpoints()
	return Volume{Name: name, Principal: room.ObjectID, Container: e.Blob + "/" + name,
		KEK: KEK{Vault: kekIn, Name: name + "-kek", Policy: parsePolicy(t, policyText), Bits: 2048},
		DEK: WrappedDEK{Vault: e.Vault, Name: name + "-dek", VolumeID: [16]byte{1}, KeyVersion: 1, DEK: dek}}
}

// made counts the versions and assignments that there are of a volume.
func (p party) made(t *testing.T, v Volume) map[string]int {
	t.Helper()
	count := map[string]int{}
	keys, err := p.keys(v.KEK.Vault)
	if err != nil {
		t.Fatal(err)
	}
	for pager := keys.NewListKeyPropertiesVersionsPager(v.KEK.Name, nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if isNotFound(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		count["KEK versions"] += len(page.Value)
	}
	secrets, err := p.vault(v.DEK.Vault)
	if err != nil {
		t.Fatal(err)
	}
	for pager := secrets.NewListSecretPropertiesVersionsPager(v.DEK.Name, nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if isNotFound(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		count["secret versions"] += len(page.Value)
	}
	for where, g := range map[string]grant{"HSM": {hsm: v.KEK.Vault, scope: "/keys/" + v.KEK.Name}, "Azure": {scope: "/subscriptions/" + p.opts.Manager.Subscription}} {
		if where == "HSM" && v.KEK.Vault != p.cloud.Endpoints().HSM {
			continue
		}
		var list struct{ Value []assignment }
		if err := p.ask(t.Context(), g, http.MethodGet, "?$filter=principalId+eq+'"+v.Principal+"'", nil, &list); err != nil {
			t.Fatal(err)
		}
		count[where+" assignments"] += len(list.Value)
	}
	return count
}

func states(items []Item) string {
	var all []string
	for _, i := range items {
		all = append(all, fmt.Sprintf("%s: %s %t", i.Kind, i.State, i.Changed))
	}
	return strings.Join(all, ", ")
}

const (
	allMissing = "KEK: missing false, release role: missing false, wrapped DEK: missing false, secret role: missing false, container: missing false, container role: missing false"
	allThere   = "KEK: there false, release role: there false, wrapped DEK: there false, secret role: there false, container: there false, container role: there false"
)

func TestPlanApplyStatusDestroy(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	e := p.cloud.Endpoints()
	for name, kekIn := range map[string]string{"whole-hsm": e.HSM, "whole-vault": e.Vault} {
		v := p.volume(t, name, kekIn)
		v.Writes = kekIn == e.Vault
		status := func(want string) {
			t.Helper()
			if items, err := p.Status(t.Context(), v); err != nil || states(items) != want {
				t.Errorf("%s: %s, %v, want %s", name, states(items), err, want)
			}
		}
		status(allMissing)
		first, err := p.Apply(t.Context(), v)
		if err != nil || states(first.Items) != strings.ReplaceAll(allThere, "false", "true") || !first.KEKChanged || !first.SecretChanged {
			t.Fatalf("%s: %+v, %v", name, first, err)
		}
		status(allThere)
		again, err := p.Apply(t.Context(), v)
		if err != nil || states(again.Items) != allThere || again.KEK != first.KEK || again.Secret != first.Secret {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
		left, err := p.Destroy(t.Context(), v, Removal{})
		if want := "release role: missing true, secret role: missing true, container role: missing true, KEK: there false, wrapped DEK: there false, container: there false"; err != nil || states(left) != want {
			t.Errorf("%s: %s, %v", name, states(left), err)
		}
		if _, err := p.Destroy(t.Context(), v, Removal{Keys: true, Data: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		status(allMissing)
		_, err = p.Apply(t.Context(), v)
		wantConflict(t, err, "deleted but recoverable state")
		if hints := strings.Join(fault.Hints(err), " "); !strings.Contains(hints, "recover or purge") {
			t.Errorf("%s: %s", name, hints)
		}
	}
}

// Whatever request fails, before its effect or after it: the next run comes to the
// same, and nothing is made twice.
func TestAFailureAtEveryRequest(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	calls := 0
	for n := 1; ; n++ {
		failed := 0
		for _, after := range []bool{false, true} {
			v := p.volume(t, fmt.Sprintf("fault-%d-%t", n, after), p.cloud.Endpoints().HSM)
			p.wire.failAt(n, after)
			_, err := p.Apply(t.Context(), v)
			if calls = p.wire.count(); calls >= n {
				failed++
				if err == nil || fault.KindOf(err) != fault.Unavailable || len(fault.Hints(err)) == 0 {
					t.Errorf("request %d, after %t: %v (%v)", n, after, err, fault.KindOf(err))
				}
			}
			p.wire.failAt(0, false)
			if _, err := p.Apply(t.Context(), v); err != nil {
				t.Fatalf("request %d, after %t, again: %v", n, after, err)
			}
			if items, err := p.Status(t.Context(), v); err != nil || states(items) != allThere {
				t.Errorf("request %d, after %t: %s, %v", n, after, states(items), err)
			}
			if got := fmt.Sprint(p.made(t, v)); got != "map[Azure assignments:2 HSM assignments:1 KEK versions:1 secret versions:1]" {
				t.Errorf("request %d, after %t: made %s", n, after, got)
			}
			p.destroyFailing(t, v, n, after)
		}
		if failed == 0 {
			break
		}
	}
	if calls < 15 {
		t.Errorf("apply made %d requests: the test failed few of them", calls)
	}
}

// destroyFailing fails the n-th request of a removal, and removes again.
func (p party) destroyFailing(t *testing.T, v Volume, n int, after bool) {
	t.Helper()
	all := Removal{Keys: true, Data: true}
	p.wire.failAt(n, after)
	_, err := p.Destroy(t.Context(), v, all)
	if p.wire.count() >= n && err == nil {
		t.Errorf("destroy, request %d, after %t: no error", n, after)
	}
	p.wire.failAt(0, false)
	if _, err := p.Destroy(t.Context(), v, all); err != nil {
		t.Errorf("destroy, request %d, after %t, again: %v", n, after, err)
	}
	if items, err := p.Status(t.Context(), v); err != nil || states(items) != allMissing {
		t.Errorf("destroy, request %d, after %t: %s, %v", n, after, states(items), err)
	}
}

// Rotation fails at every request too: one new KEK, whatever happens.
func TestRotationFailingAtEveryRequest(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	for n := 1; ; n++ {
		failed := 0
		for _, after := range []bool{false, true} {
			v := p.volume(t, fmt.Sprintf("rotate-%d-%t", n, after), p.cloud.Endpoints().HSM)
			v.Container = ""
			before, err := p.Apply(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			p.wire.failAt(n, after)
			done, err := p.Rotate(t.Context(), v, false)
			if p.wire.count() >= n {
				failed++
			}
			p.wire.failAt(0, false)
			finished := err == nil
			if made := p.made(t, v); !finished && made["secret versions"] < 2 {
				if done, err = p.Rotate(t.Context(), v, false); err != nil {
					t.Fatal(err)
				}
			}
			if made := p.made(t, v); made["KEK versions"] != 2 || made["secret versions"] != 2 || finished && done.KEK == before.KEK {
				t.Errorf("request %d, after %t: %v, %+v", n, after, made, done)
			}
			if items, err := p.Status(t.Context(), v); err != nil || strings.Contains(states(items), Missing) {
				t.Errorf("request %d, after %t: %s, %v", n, after, states(items), err)
			}
		}
		if failed == 0 {
			return
		}
	}
}

func TestRotateRetiresAndRevokeDisables(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	v := p.volume(t, "retire", p.cloud.Endpoints().HSM)
	if _, err := p.Rotate(t.Context(), v, true); fault.KindOf(err) != fault.NotFound {
		t.Errorf("rotating nothing: %v", err)
	}
	if _, err := p.Apply(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	done, err := p.Rotate(t.Context(), v, true)
	if err != nil || !done.Retired {
		t.Fatalf("%+v, %v", done, err)
	}
	enabled := func(id string) bool {
		version := azkeys.ID(id)
		client, err := p.keys(v.KEK.Vault)
		if err != nil {
			t.Fatal(err)
		}
		key, err := client.GetKey(t.Context(), v.KEK.Name, version.Version(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return *key.Attributes.Enabled
	}
	if enabled(done.Before) || !enabled(done.KEK) {
		t.Error("not the one before is disabled")
	}
	items, err := p.Revoke(t.Context(), v)
	if err != nil || strings.Count(states(items), "role: missing true") != 3 || enabled(done.KEK) {
		t.Errorf("%s, %v", states(items), err)
	}
	_, err = p.Apply(t.Context(), v)
	wantConflict(t, err, "it is disabled")
	if err := p.Restore(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), v); err != nil {
		t.Error(err)
	}
}

// Refusals name the resource, the permission and the role.
func TestRefusalsNameWhatIsMissing(t *testing.T) {
	stranger := newParty(t, newCloud(t), "stranger")
	v := stranger.volume(t, "refused", stranger.cloud.Endpoints().HSM)
	_, err := stranger.Apply(t.Context(), v)
	wantDenied(t, err, "looking for the Microsoft.KeyVault/vaults at", "Microsoft.KeyVault/vaults/read is missing: ask for the role Reader on the subscription")
	v.Principal = ""
	_, err = stranger.Apply(t.Context(), v)
	wantDenied(t, err, "refused-kek", "Microsoft.KeyVault/managedHsm/keys/read/action is missing: ask for the role Managed HSM Crypto User")
	items, err := stranger.Status(t.Context(), v)
	if err != nil || len(items) != 2 || items[0].State != Unknown || !strings.Contains(items[1].Detail, "ForbiddenByRbac") && !strings.Contains(items[1].Detail, "403") {
		t.Errorf("%+v, %v", items, err)
	}
	owner := newParty(t, stranger.cloud, "owner")
	v = owner.volume(t, "elsewhere", "https://127.0.0.1:1")
	if _, err := owner.Apply(t.Context(), v); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "shows no vault at https://127.0.0.1:1") {
		t.Errorf("%v", err)
	}
	if err := CheckPrincipal("x'y"); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
}

func wantDenied(t *testing.T, err error, text, hint string) {
	t.Helper()
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), text) || !strings.Contains(strings.Join(fault.Hints(err), " "), hint) {
		t.Errorf("got %v (%v; %v), want denied with %q and %q", err, fault.KindOf(err), fault.Hints(err), text, hint)
	}
}

func TestIdentityIsMadeOnce(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	first, err := p.ApplyIdentity(t.Context(), "simulated", "made-once", "simulated")
	if err != nil || !first.Changed || CheckPrincipal(first.PrincipalID) != nil {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := p.ApplyIdentity(t.Context(), "simulated", "made-once", "simulated")
	if err != nil || again.Changed || again.PrincipalID != first.PrincipalID {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := json.Marshal(first); err != nil {
		t.Error(err)
	}
	_, err = newParty(t, p.cloud, "stranger").ApplyIdentity(t.Context(), "simulated", "made-never", "simulated")
	wantDenied(t, err, "made-never", "Reader on it")
}

// An application and its one credential are made once, whatever request fails;
// likewise its principal in a tenant.
func TestApplicationIsMadeOnce(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	i := Identity{PrincipalID: "22222222-0000-4000-8000-000000000001", TenantID: p.cloud.Endpoints().Tenant}
	do := func(name string) (clientID string, err error) {
		a, err := p.ApplyApplication(t.Context(), name, i)
		if err == nil {
			_, _, err = p.Admit(t.Context(), a.ClientID)
		}
		return a.ClientID, err
	}
	for n := 1; ; n++ {
		failed := 0
		for _, after := range []bool{false, true} {
			name := fmt.Sprintf("application-%d-%t", n, after)
			p.wire.failAt(n, after)
			_, err := do(name)
			if p.wire.count() >= n {
				failed++
				if fault.KindOf(err) != fault.Unavailable {
					t.Errorf("request %d, after %t: %v (%v)", n, after, err, fault.KindOf(err))
				}
			}
			p.wire.failAt(0, false)
			clientID, err := do(name)
			if err != nil {
				t.Fatalf("request %d, after %t, again: %v", n, after, err)
			}
			p.madeOnce(t, name, clientID)
		}
		if failed == 0 {
			break
		}
	}
	for _, bad := range []string{"", "a'b"} {
		if _, err := p.ApplyApplication(t.Context(), bad, i); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func (p party) madeOnce(t *testing.T, name, clientID string) {
	t.Helper()
	var apps struct{ Value []struct{ ID, AppID string } }
	if err := p.graph(t.Context(), http.MethodGet, "/applications?$filter=displayName+eq+'"+name+"'", nil, &apps); err != nil {
		t.Fatal(err)
	}
	if len(apps.Value) != 1 || apps.Value[0].AppID != clientID {
		t.Fatalf("%s: made %+v", name, apps)
	}
	var trusts struct{ Value []struct{ Subject string } }
	if err := p.graph(t.Context(), http.MethodGet, "/applications/"+apps.Value[0].ID+"/federatedIdentityCredentials", nil, &trusts); err != nil {
		t.Fatal(err)
	}
	if len(trusts.Value) != 1 {
		t.Errorf("%s: made %+v", name, trusts)
	}
}
