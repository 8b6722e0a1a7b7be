package provision

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/internal/fault"
)

// refusing answers each signed request once as a service that refuses it would, the
// first time that it is seen, and sends on all others.
type refusing struct {
	policy.Transporter

	mu      sync.Mutex    // guards what follows
	answer  *cloudRefusal // nil refuses nothing
	refused map[string]bool
	last    string // the request that was refused last
}

// cloudRefusal is a service's answer, and what is to be made of it.
type cloudRefusal struct {
	status        int
	code, message string
	reads         bool // what looks is refused too, and not only what changes
	kind          fault.Kind
	hints         []string
}

func (f *refusing) Do(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	key := r.Method + " " + r.URL.Path
	do := f.answer != nil && r.Header.Get("Authorization") != "" && !f.refused[key] && (f.answer.reads || r.Method != http.MethodGet)
	if do {
		f.refused[key], f.last = true, key
	}
	answer := f.answer
	f.mu.Unlock()
	if !do {
		return f.Transporter.Do(r)
	}
	body := fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, answer.code, answer.message)
	return &http.Response{StatusCode: answer.status, Status: http.StatusText(answer.status), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// next begins to refuse, and says afterwards what was refused.
func (f *refusing) set(answer *cloudRefusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.last = answer, ""
	if answer == nil || f.refused == nil {
		f.refused = map[string]bool{}
	}
}

func (f *refusing) took() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// refusals are those that the issue names, in the services' words.
var refusals = map[string]cloudRefusal{
	"forbidden by the management plane": {403, "AuthorizationFailed", "The client 'x' with object id 'x' does not have authorization to perform action 'Microsoft.Some/thing/write' over scope '/s' or the scope is invalid.",
		true, fault.Denied, []string{"the permission Microsoft.Some/thing/write is missing: ask for the role ", "ten minutes"}},
	"forbidden by a vault": {403, "Forbidden", "Caller is not authorized to perform action on resource.\r\nCaller: oid=x\r\nAction: 'Microsoft.KeyVault/vaults/some/action'\r\nResource: '/r'\r\nAssignment: (not found)",
		true, fault.Denied, []string{"the permission Microsoft.KeyVault/vaults/some/action is missing: ask for the role "}},
	"not found":         {404, "ResourceGroupNotFound", "Resource group 'g' could not be found.", false, fault.NotFound, []string{"create it, or correct its name", "that takes the role "}},
	"in conflict":       {409, "Conflict", "The resource is being changed.", false, fault.Conflict, []string{"see what is there"}},
	"soft-deleted":      {409, "Conflict", "Key x is currently in a deleted but recoverable state, and its name cannot be reused.", false, fault.Conflict, []string{"recover or purge the deleted one"}},
	"over the quota":    {409, "QuotaExceeded", "The quota is exceeded.", false, fault.Unavailable, []string{"ask for a larger quota"}},
	"too many roles":    {400, "RoleAssignmentLimitExceeded", "No more role assignments can be created.", false, fault.Unavailable, []string{"remove what is not used"}},
	"throttled":         {429, "TooManyRequests", "The request is throttled.", true, fault.Unavailable, []string{"wait a minute"}},
	"out of order":      {503, "ServiceUnavailable", "The service is unavailable.", true, fault.Unavailable, []string{"later; it goes on where this one stopped"}},
	"of another tenant": {401, "InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer.", true, fault.Denied, []string{"sign in to the tenant that the resource is in; the role needed is "}},
}

// judge holds a failure against the refusal that it is of: kind, the resource (all
// that a volume has bears its name, or the vault's address) and the remedy.
func (want cloudRefusal) judge(t *testing.T, err error, request string, names ...string) {
	t.Helper()
	hints := strings.Join(fault.Hints(err), "; ")
	if fault.KindOf(err) != want.kind {
		t.Errorf("%s: %v (%v), want %v", request, err, fault.KindOf(err), want.kind)
	}
	for _, hint := range want.hints {
		if !strings.Contains(hints, hint) {
			t.Errorf("%s: %v: hints %q, want %q", request, err, hints, hint)
		}
	}
	for _, name := range names {
		if strings.Contains(err.Error(), name) {
			return
		}
	}
	t.Errorf("%s: %v names none of %q", request, err, names)
}

// Every request of every command, refused in every way that a cloud refuses: what is
// said names resource, permission and role, and the next run goes on to the same.
func TestEveryRefusalIsNamed(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	f := &refusing{Transporter: p.wire.Transporter}
	p.wire.Transporter = f
	e := p.cloud.Endpoints()
	number := 0
	for name, want := range refusals {
		t.Run(name, func(t *testing.T) {
			number++
			v := p.volume(t, fmt.Sprintf("refused-%d", number), e.HSM)
			group := fmt.Sprintf("room-%d", number)
			for what, do := range map[string]func(context.Context) error{
				"identity": func(ctx context.Context) error {
					_, err := p.ApplyIdentity(ctx, "simulated", group, "simulated")
					return err
				},
				"apply": func(ctx context.Context) error { _, err := p.Apply(ctx, v); return err },
			} {
				if n := p.refuseEach(t, f, want, do, v.Name, group, e.HSM, e.Vault, e.Blob); n == 0 {
					t.Errorf("%s: nothing was refused", what)
				}
			}
			if made := fmt.Sprint(p.made(t, v)); made != "map[Azure assignments:2 HSM assignments:1 KEK versions:1 secret versions:1]" {
				t.Errorf("made %s", made)
			}
			p.statusRefused(t, f, want, v)
			if n := p.refuseEach(t, f, want, func(ctx context.Context) error { _, err := p.Revoke(ctx, v); return err }, v.Name, e.HSM, e.Vault, e.Blob); n == 0 {
				t.Error("revoke: nothing was refused")
			}
			items, err := p.Status(t.Context(), v)
			if got := states(items); err != nil || strings.Count(got, "role: missing") != 3 || !strings.Contains(got, "KEK: differs") {
				t.Errorf("after revoke: %s, %v", got, err)
			}
		})
	}
}

// refuseEach does something until nothing of it is refused any more.
func (p party) refuseEach(t *testing.T, f *refusing, want cloudRefusal, do func(context.Context) error, names ...string) (n int) {
	t.Helper()
	defer f.set(nil)
	for f.set(nil); ; n++ {
		f.set(&want)
		err := do(t.Context())
		request := f.took()
		if request == "" {
			if err != nil {
				t.Fatalf("with nothing refused: %v", err)
			}
			return n
		}
		if err == nil {
			// Nothing hides behind a role that is there already, or gone.
			if want.status != http.StatusNotFound || !strings.HasPrefix(request, http.MethodDelete) {
				t.Errorf("%s was refused, and nothing said", request)
			}
			continue
		}
		want.judge(t, err, request, names...)
	}
}

// statusRefused: what cannot be looked at is unknown, and says why and what helps.
func (p party) statusRefused(t *testing.T, f *refusing, want cloudRefusal, v Volume) {
	t.Helper()
	if !want.reads {
		return
	}
	defer f.set(nil)
	unknown := 0
	for f.set(nil); ; {
		f.set(&want)
		items, err := p.Status(t.Context(), v)
		request := f.took()
		if request == "" {
			break
		}
		if err != nil {
			want.judge(t, err, request, v.Name)
			continue
		}
		for _, i := range items {
			if i.State == Unknown {
				unknown++
				if !strings.Contains(i.Detail, want.hints[0]) || i.Resource == "" {
					t.Errorf("%s: %+v, want %q", request, i, want.hints[0])
				}
			}
		}
	}
	if unknown < 4 {
		t.Errorf("status found %d things unknown", unknown)
	}
}

// Whatever request of them fails, before its effect or after it: an identity is made
// once, a status says what it could not see, a revocation is complete the next time.
func TestIdentityStatusRevokeFailingAtEveryRequest(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	v := p.volume(t, "revoke-fails", p.cloud.Endpoints().HSM)
	for n := 1; ; n++ {
		failed := 0
		for _, after := range []bool{false, true} {
			if _, err := p.Apply(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			p.wire.failAt(n, after)
			items, err := p.Status(t.Context(), v)
			if p.wire.count() >= n {
				failed++
				if err == nil && !strings.Contains(states(items), Unknown) {
					t.Errorf("status, request %d: %s", n, states(items))
				}
			}
			p.wire.failAt(n, after)
			if _, err = p.Revoke(t.Context(), v); p.wire.count() >= n {
				failed++
				if err == nil {
					t.Errorf("revoke, request %d, after %t: no error", n, after)
				}
			}
			p.wire.failAt(0, false)
			if _, err := p.Revoke(t.Context(), v); err != nil {
				t.Errorf("revoke, request %d, after %t, again: %v", n, after, err)
			}
			if items, err := p.Status(t.Context(), v); err != nil || strings.Count(states(items), "role: missing") != 3 || !strings.Contains(states(items), "KEK: differs") {
				t.Errorf("revoke, request %d, after %t: %s, %v", n, after, states(items), err)
			}
			if err := p.Restore(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			failed += p.identityFailing(t, n, after)
		}
		if failed == 0 {
			if n < 10 {
				t.Errorf("revoke made %d requests: the test failed few of them", n)
			}
			return
		}
	}
}

func (p party) identityFailing(t *testing.T, n int, after bool) (failed int) {
	t.Helper()
	name := fmt.Sprintf("failing-%d-%t", n, after)
	p.wire.failAt(n, after)
	_, err := p.ApplyIdentity(t.Context(), "simulated", name, "simulated")
	if p.wire.count() >= n {
		failed++
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("identity, request %d, after %t: %v (%v)", n, after, err, fault.KindOf(err))
		}
	}
	p.wire.failAt(0, false)
	again, err := p.ApplyIdentity(t.Context(), "simulated", name, "simulated")
	if err != nil {
		t.Fatal(err)
	}
	third, err := p.ApplyIdentity(t.Context(), "simulated", name, "simulated")
	if err != nil || third.Changed || third.PrincipalID != again.PrincipalID {
		t.Errorf("identity, request %d, after %t: %+v, then %+v, %v", n, after, again, third, err)
	}
	return failed
}

// An application that was not admitted is nobody to give a role to.
func TestPrincipalOfAnotherTenantsApplication(t *testing.T) {
	p := newParty(t, newCloud(t), "owner")
	a, err := p.ApplyApplication(t.Context(), "elsewhere", Identity{PrincipalID: "22222222-0000-4000-8000-000000000001", TenantID: p.cloud.Endpoints().Tenant})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Principal(t.Context(), a.ClientID); fault.KindOf(err) != fault.NotFound || !strings.Contains(strings.Join(fault.Hints(err), ""), "cloister identity admit "+a.ClientID) {
		t.Errorf("before it is admitted: %v", err)
	}
	admitted, _, err := p.Admit(t.Context(), a.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Principal(t.Context(), a.ClientID); err != nil || got != admitted {
		t.Errorf("%s, %v, want %s", got, err, admitted)
	}
	if _, err := p.Principal(t.Context(), "x'y"); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
}
