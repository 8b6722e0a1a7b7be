//go:build !production

package kbs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/log"

	"cloister/enclave"
	"cloister/enclave/kbs"
	"cloister/enclave/vault"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// between is who sits before the broker with a certificate that the runtime
// trusts: it sees everything, and may change it.
type between struct {
	*httptest.Server
	broker string
	client *http.Client
	// change is given each answer, before it is passed on. A nil answer is made up.
	change func(r *http.Request, answer *answer)

	mu    sync.Mutex // guards asked
	asked []asked
}

type asked struct {
	path, cookie string
	body         []byte
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (w *world) between(t *testing.T, change func(*http.Request, *answer)) *between {
	b := &between{broker: w.cloud.Endpoints().Broker, change: change}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	b.Server = httptest.NewTLSServer(b)
	t.Cleanup(b.Close)
	w.roots.AddCert(b.Certificate())
	transport.TLSClientConfig = b.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.RootCAs = w.roots
	b.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	for i := range w.plan.Data {
		v := &w.plan.Data[i]
		v.WrappedDEK = strings.Replace(v.WrappedDEK, b.broker, b.URL, 1)
		v.KEK = strings.Replace(v.KEK, b.broker, b.URL, 1)
	}
	return b
}

func (b *between) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	b.mu.Lock()
	b.asked = append(b.asked, asked{r.URL.Path, r.Header.Get("Cookie"), body})
	b.mu.Unlock()
	a, err := b.ask(r.Method, r.URL.Path, r.Header.Get("Cookie"), body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	b.change(r, a)
	for name, values := range a.header {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(a.status)
	w.Write(a.body)
}

// ask is a request of the attacker's own to the broker, with a cookie or a bearer
// token.
func (b *between) ask(method, path, credential string, body []byte) (*answer, error) {
	req, err := http.NewRequest(method, b.broker+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(credential, "Bearer ") {
		req.Header.Set("Authorization", credential)
	} else if credential != "" {
		req.Header.Set("Cookie", credential)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, data}, err
}

func (w *world) through(t *testing.T, b *between) enclave.KeySource {
	return kbs.NewSource(map[string]*kbs.Client{"sales": w.client(t, b.URL, w.judged)})
}

// edit changes one field of an answer in JSON.
func edit(t *testing.T, a *answer, change func(fields map[string]any)) {
	var fields map[string]any
	if err := json.Unmarshal(a.body, &fields); err != nil {
		t.Error(err)
		return
	}
	change(fields)
	var err error
	if a.body, err = json.Marshal(fields); err != nil {
		t.Error(err)
	}
}

func set(name string, value any) func(map[string]any) {
	return func(f map[string]any) { f[name] = value }
}

// turn changes the first character of a text in base64url, which is all its bits.
func turn(name string) func(map[string]any) {
	return func(f map[string]any) {
		text := f[name].(string)
		first := "A"
		if text[0] == 'A' {
			first = "B"
		}
		f[name] = first + text[1:]
	}
}

func TestHostileAnswers(t *testing.T) {
	const auth, attest, resource = "/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource/"
	huge := bytes.Repeat([]byte(" "), 2<<20)
	body := func(data []byte) func(*testing.T, *answer) { return func(_ *testing.T, a *answer) { a.body = data } }
	field := func(change func(map[string]any)) func(*testing.T, *answer) {
		return func(t *testing.T, a *answer) { edit(t, a, change) }
	}
	for _, tc := range []struct {
		name   string
		path   string // of the answer to change
		change func(*testing.T, *answer)
		kind   fault.Kind
		want   string
	}{
		{"challenge without nonce", auth, field(set("nonce", "")), fault.Refused, "its nonce \"\" is not"},
		{"nonce that is JSON", auth, field(set("nonce", `","tee-pubkey":{}`)), fault.Refused, "is not 1 to 256 characters of base64"},
		{"nonce without end", auth, field(set("nonce", strings.Repeat("A", 257))), fault.Refused, "is not 1 to 256 characters of base64"},
		{"nonce that is a number", auth, field(set("nonce", 7)), fault.Refused, "it is not a challenge"},
		{"another nonce", auth, field(set("nonce", "AAAA")), fault.Refused, "AttestationError"},
		{"the attestation service's hash", auth, field(set("extra-params", map[string]any{"selected-hash-algorithm": "sha256"})), fault.Refused, "it selects the hash \"sha256\""},
		{"an identity's hash", auth, field(set("extra-params", map[string]any{"selected-hash-algorithm": "SHA512"})), fault.Refused, "it selects the hash \"SHA512\""},
		{"no cookie", auth, func(_ *testing.T, a *answer) { a.header.Del("Set-Cookie") }, fault.Refused, "there is no cookie kbs-session-id"},
		{"a cookie without end", auth, func(_ *testing.T, a *answer) {
			a.header.Set("Set-Cookie", "kbs-session-id="+strings.Repeat("a", 300))
		}, fault.Refused, "there is no cookie kbs-session-id"},
		{"somebody else's cookie", auth, func(_ *testing.T, a *answer) { a.header.Set("Set-Cookie", "kbs-session-id=0123") }, fault.Refused, "AttestationError"},
		{"a challenge that is a page", auth, body([]byte("<html>")), fault.Refused, "it is not a challenge"},
		{"a challenge without end", auth, body(huge), fault.Refused, "has no end"},
		{"no token", attest, body([]byte(`{}`)), fault.Refused, "there is no token"},
		{"an attestation without end", attest, body(huge), fault.Refused, "has no end"},
		{"a resource without end", resource, body(huge), fault.Refused, "has no end"},
		{"a resource in the clear", resource, body([]byte("secret")), fault.Refused, "it is not a JWE in flattened form"},
		{"altered header", resource, field(turn("protected")), fault.Refused, "its JWE's header"},
		{"altered key", resource, field(turn("encrypted_key")), fault.Refused, "was altered"},
		{"altered nonce of the cipher", resource, field(turn("iv")), fault.Refused, "was altered"},
		{"altered ciphertext", resource, field(turn("ciphertext")), fault.Refused, "was altered"},
		{"altered tag", resource, field(turn("tag")), fault.Refused, "was altered"},
		{"no tag", resource, field(set("tag", "")), fault.Refused, "this session's key does not open"},
		{"a short tag", resource, field(func(f map[string]any) { f["tag"] = f["tag"].(string)[:8] }), fault.Refused, "this session's key does not open"},
		{"additional data", resource, field(set("aad", "AAAA")), fault.Refused, "has additional data"},
		{"an unprotected header", resource, field(set("unprotected", map[string]any{"zip": "DEF"})), fault.Refused, "unknown field"},
		{"many recipients", resource, field(set("recipients", []any{})), fault.Refused, "unknown field"},
		{"compression", resource, field(set("protected", "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJ6aXAiOiJERUYifQ")), fault.Refused, "unknown field \"zip\""},
		{"the direct algorithm", resource, field(set("protected", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0")), fault.Refused, "its JWE is in \"dir\""},
		{"a redirect", resource, func(_ *testing.T, a *answer) {
			a.status = http.StatusFound
			a.header.Set("Location", "https://127.0.0.1:1/")
		}, fault.Refused, "HTTP 302"},
		{"an error that acts on a terminal", resource, func(_ *testing.T, a *answer) {
			a.status, a.body = 401, []byte(`{"type":"https://github.com/confidential-containers/kbs/errors/\u001b[2J","detail":"\u001b[31m`+strings.Repeat("x", 9999)+`"}`)
		}, fault.Refused, `HTTP 401, no error of the protocol: "\x1b[31mxx`},
		{"an error that is a page", resource, func(_ *testing.T, a *answer) { a.status, a.body = 400, []byte("<html>") }, fault.Refused, "is not the protocol's error information"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, platform.GuestConfig{})
			changed := 0
			b := w.between(t, func(r *http.Request, a *answer) {
				if strings.HasPrefix(r.URL.Path, tc.path) {
					changed++
					tc.change(t, a)
				}
			})
			_, mounted, err := w.open(t, w.through(t, b))
			if fault.KindOf(err) != tc.kind || len(mounted) > 0 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tc.kind, tc.want)
			}
			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the message is %d bytes: %q", len(err.Error()), err)
			}
			if changed != 1 {
				t.Errorf("%d answers were changed", changed)
			}
		})
	}
}

// Whoever is between passes everything on unchanged, and learns nothing.
func TestPassiveAttacker(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	var seen bytes.Buffer
	b := w.between(t, func(_ *http.Request, a *answer) { seen.Write(a.body) })
	// The envelope names the KEK's address as the owner knows it.
	v := w.plan.Data[0]
	s := w.through(t, b)
	if _, err := s.WrappedDEK(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client(t, b.URL, w.judged).Resource(t.Context(), v.KEK); err != nil {
		t.Fatal(err)
	}
	for _, asked := range b.asked {
		seen.Write(asked.body)
	}
	for what, secret := range w.secrets(t) {
		for _, form := range forms(secret) {
			if bytes.Contains(seen.Bytes(), form) {
				t.Errorf("%s was seen", what)
			}
		}
	}
	if seen.Len() < 5000 {
		t.Errorf("only %d bytes were seen", seen.Len())
	}
}

// secrets are what must be nowhere: the DEK, and the KEK as the broker keeps it.
func (w *world) secrets(t *testing.T) map[string][]byte {
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(w.cloud.Endpoints().CA), "broker.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct{ Resources map[string][]byte }
	if err := json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	kek := kept.Resources[w.keys.KEK]
	if _, err := vault.ParseKEK("kek", kek); err != nil {
		t.Fatal(err)
	}
	// Its last bytes: the first are the same in every key.
	return map[string][]byte{"the DEK": w.dek.Bytes(), "the KEK": kek[len(kek)-48:]}
}

// Evidence is for one challenge: recorded and shown again, to a session of its
// own or under another's cookie, it is refused.
func TestReplayedEvidence(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	b := w.between(t, func(*http.Request, *answer) {})
	if err := w.client(t, b.URL, w.judged).Attest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var recorded []byte
	for _, a := range b.asked {
		if a.path == "/kbs/v0/attest" {
			recorded = a.body
		}
	}
	begin := func() (cookie, nonce string) {
		a, err := b.ask(http.MethodPost, "/kbs/v0/auth", "", []byte(`{"version":"0.4.0","tee":"snp","extra-params":{}}`))
		if err != nil || a.status != 200 {
			t.Fatal(a, err)
		}
		var challenge struct{ Nonce string }
		if err := json.Unmarshal(a.body, &challenge); err != nil {
			t.Fatal(err)
		}
		cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
		return cookie, challenge.Nonce
	}
	refused := func(what, cookie string, body []byte, want string) {
		t.Helper()
		a, err := b.ask(http.MethodPost, "/kbs/v0/attest", cookie, body)
		if err != nil || a.status != 401 || !strings.Contains(string(a.body), "/AttestationError") || !strings.Contains(string(a.body), want) {
			t.Errorf("%s: %d %s, %v", what, a.status, a.body, err)
		}
		if r, err := b.ask(http.MethodGet, "/kbs/v0/resource/"+w.keys.KEK, cookie, nil); err != nil || r.status != 401 || !strings.Contains(string(r.body), "/TokenNotFound") {
			t.Errorf("%s: and then a resource: %d %s, %v", what, r.status, r.body, err)
		}
	}
	cookie, nonce := begin()
	refused("as it was", cookie, recorded, "the nonce is not the session's")
	var message map[string]any
	if err := json.Unmarshal(recorded, &message); err != nil {
		t.Fatal(err)
	}
	message["runtime-data"].(map[string]any)["nonce"] = nonce
	renewed, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	refused("with the new nonce", cookie, renewed, "report data: expected")
	refused("without a cookie", "", recorded, "cookie not found")
	for _, hello := range []string{`{"version":"0.1.1","tee":"snp"}`, `{"version":"0.4.0","tee":"tdx"}`, `{`} {
		if a, err := b.ask(http.MethodPost, "/kbs/v0/auth", "", []byte(hello)); err != nil || a.status != 401 || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %s, %v", hello, a.status, a.body, err)
		}
	}
}

// A token is as good as the session that it was made for, for as long; what it
// gets is still for that session's key alone, and nothing else passes for one.
func TestTokens(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	var result struct{ Token string }
	b := w.between(t, func(r *http.Request, a *answer) {
		if r.URL.Path == "/kbs/v0/attest" {
			if err := json.Unmarshal(a.body, &result); err != nil {
				t.Error(err)
			}
		}
	})
	defer w.cloud.SetFault(localcloud.Broker, wire.Fault{})
	if err := w.client(t, b.URL, w.judged).Attest(t.Context()); err != nil {
		t.Fatal(err)
	}
	admin, err := os.ReadFile(w.cloud.Endpoints().BrokerToken)
	if err != nil {
		t.Fatal(err)
	}
	get := func(what, token string, status int, want string) {
		t.Helper()
		a, err := b.ask(http.MethodGet, "/kbs/v0/resource/"+w.keys.KEK, "Bearer "+token, nil)
		if err != nil || a.status != status || !strings.Contains(string(a.body), want) {
			t.Errorf("%s: %d %s, %v", what, a.status, a.body, err)
		}
	}
	get("the guest's", result.Token, 200, `"encrypted_key"`)
	get("the administrator's", string(admin), 401, "/TokenVerifierError")
	get("none", "e30.e30.e30", 401, "/TokenVerifierError")
	// Its five minutes, and those by which two clocks may differ.
	if err := w.cloud.SetFault(localcloud.Broker, wire.Fault{ClockSkew: 11 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	get("an old one", result.Token, 401, "token expired at")
	if a, err := b.ask(http.MethodPost, "/kbs/v0/resource/"+w.keys.KEK, "Bearer "+result.Token, []byte("mine")); err != nil || a.status != 401 || !strings.Contains(string(a.body), "/AdminAuthAccess") {
		t.Errorf("a guest places a resource: %d %s, %v", a.status, a.body, err)
	}
}

// A JWE of another session, even of the same machine and resource, opens nothing.
func TestAnothersResponse(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	var first []byte
	b := w.between(t, func(r *http.Request, a *answer) {
		if strings.HasPrefix(r.URL.Path, "/kbs/v0/resource/") {
			if first == nil {
				first = a.body
			}
			a.body = first
		}
	})
	v := w.plan.Data[0]
	if _, err := w.client(t, b.URL, w.judged).Resource(t.Context(), v.KEK); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client(t, b.URL, w.judged).Resource(t.Context(), v.KEK); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "its JWE is for another key") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

// What the SDK logs, what the cloud logs, what errors and values print: none has
// a key, the session's cookie or the administrator's token in it.
func TestNothingSecretIsLogged(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	var text bytes.Buffer
	var mu sync.Mutex
	log.SetListener(func(event log.Event, line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(&text, event, line)
	})
	defer log.SetListener(nil)
	b := w.between(t, func(*http.Request, *answer) {})
	client := w.client(t, b.URL, w.judged)
	v := w.plan.Data[0]
	material, err := client.Resource(t.Context(), v.KEK)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := vault.ParseKEK(v.KEK, material)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Resource(t.Context(), v.KEK+"x")
	mu.Lock()
	defer mu.Unlock()
	fmt.Fprintln(&text, err, kek, w.keys.Token, w.dek)
	fmt.Fprintf(&text, "%+v %#v %+v", client, w.keys, w.plan)
	text.Write(w.log(t))
	if !strings.Contains(text.String(), "/kbs/v0/attest") || !strings.Contains(text.String(), localcloud.Broker) {
		t.Errorf("nothing was logged: %q", text.String())
	}
	secrets := w.secrets(t)
	secrets["the cookie"] = []byte(strings.TrimPrefix(b.asked[len(b.asked)-1].cookie, "kbs-session-id="))
	token, err := os.ReadFile(w.cloud.Endpoints().BrokerToken)
	if err != nil {
		t.Fatal(err)
	}
	secrets["the administrator's token"] = token
	for what, secret := range secrets {
		if len(secret) < 16 {
			t.Errorf("%s is %d bytes", what, len(secret))
		}
		for _, form := range forms(secret) {
			if bytes.Contains(text.Bytes(), form) {
				t.Errorf("%s is in the logs", what)
			}
		}
	}
}
