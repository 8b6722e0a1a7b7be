package wire

import (
	"crypto/rsa"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
)

func newSigner(t *testing.T, name string) Signer {
	t.Helper()
	key, err := Keys{t.TempDir()}.RSA(name)
	if err != nil {
		t.Fatal(err)
	}
	return Signer{Key: key, Chain: []*x509.Certificate{{Raw: []byte(name)}}}
}

// TestVerify: a token is its signer's, and within its times.
func TestVerify(t *testing.T) {
	s, other := newSigner(t, "one"), newSigner(t, "another")
	keys := map[string]*rsa.PublicKey{s.KeyID(): &s.Key.PublicKey}
	now := time.Unix(1_700_000_000, 0)
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	impostor := Signer{Key: other.Key, Chain: s.Chain}
	for name, tc := range map[string]struct {
		by     Signer
		claims map[string]any
		said   string // "" is: it is believed
	}{
		"good":             {s, map[string]any{"exp": at(time.Hour), "nbf": at(-time.Hour)}, ""},
		"within the slack": {s, map[string]any{"exp": at(1 - tokenLeeway), "nbf": at(tokenLeeway)}, ""},
		"expired":          {s, map[string]any{"exp": at(-tokenLeeway - time.Second)}, "expired"},
		"not yet":          {s, map[string]any{"exp": at(time.Hour), "nbf": at(tokenLeeway + time.Second)}, "not valid before"},
		"for ever":         {s, map[string]any{}, "no exp"},
		"another's":        {other, map[string]any{"exp": at(time.Hour)}, "unknown key"},
		"an impostor's":    {impostor, map[string]any{"exp": at(time.Hour)}, "signature"},
	} {
		token, err := tc.by.Sign(tc.claims, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(token, keys, now)
		if tc.said == "" && err != nil || tc.said != "" && (err == nil || !strings.Contains(err.Error(), tc.said)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify("eyJhbGciOiJub25lIn0.e30.", keys, now); err == nil {
		t.Error("a token that nobody signed is believed")
	}
}

// TestKeysStay: a restart keeps its world, and what is not a key is not replaced.
func TestKeysStay(t *testing.T) {
	keys := Keys{t.TempDir()}
	first, err := keys.RSA("a")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(keys.Dir, "a.pem")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if again, err := keys.RSA("a"); err != nil || !again.Equal(first) {
		t.Errorf("another key after a restart: %v", err)
	}
	if err := os.WriteFile(file, []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.RSA("a"); err == nil || !strings.Contains(err.Error(), "no PEM") {
		t.Errorf("what is no key: %v", err)
	}
	if left, err := os.ReadDir(keys.Dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestFaults: a service fails as often as it is told to, and then serves.
func TestFaults(t *testing.T) {
	log, err := OpenLog(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := NewServer("test", log)
	if err := s.SetFault(Fault{Status: http.StatusNotFound, Times: 1}); err == nil {
		t.Error("a fault that is none of the service's")
	}
	if err := s.SetFault(Fault{Status: http.StatusTooManyRequests, Times: 2, RetryAfter: 7}); err != nil {
		t.Fatal(err)
	}
	h := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, http.StatusOK, 1) }))
	for i, want := range []int{429, 429, 200} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != want || (want == 429) != (w.Header().Get("Retry-After") == "7") || w.Header().Get(SimulatedClaim) != "true" {
			t.Errorf("request %d: %d, %v", i, w.Code, w.Header())
		}
	}
}

// TestReadJSON: a body is one value, of bounded size.
func TestReadJSON(t *testing.T) {
	for body, ok := range map[string]bool{`{"a":1,"more":2}`: true, ``: false, `{}{}`: false, `{} x`: false, `{`: false} {
		var v struct{ A int }
		if err := ReadJSON(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)), &v); (err == nil) != ok {
			t.Errorf("%q: %v", body, err)
		}
	}
	var err error
	log, openErr := OpenLog(filepath.Join(t.TempDir(), "log"))
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer log.Close()
	h := NewServer("test", log).Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var v string
		err = ReadJSON(r, &v)
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`"`+strings.Repeat("x", maxBody)+`"`)))
	if err == nil {
		t.Error("a body without bound was read")
	}
}

// TestListenUnix: a dead socket is replaced, a live one is not.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := ListenUnix(path); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a live one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as when it is killed
	first.Close()
	second, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if _, err := ListenUnix("/" + strings.Repeat("x", maxSocketPath)); fault.KindOf(err) != fault.Usage {
		t.Errorf("a path too long: %v", err)
	}
}
