package attest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-jose/go-jose/v4"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
	"cloister/internal/fault"
)

func TestAttest(t *testing.T) {
	s := newService(t)
	token, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData)
	if err != nil {
		t.Fatal(err)
	}
	if token.Authority != s.URL || token.Raw() == "" || token.Expires.Before(time.Now()) || len(token.Checks) == 0 {
		t.Errorf("%+v", token)
	}
	if text := fmt.Sprintf("%v %s %+v %#v", token, token, token, token); strings.Contains(text, token.Raw()[:20]) {
		t.Error("the token shows when it is printed")
	}
	if s.request.RuntimeData.DataType != "JSON" || s.request.Nonce == "" {
		t.Errorf("request %+v", s.request)
	}
}

// Keys may come as numbers, and rotate: only the token's kid counts.
func TestKeysAsNumbersAndRotation(t *testing.T) {
	s := newService(t)
	number := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	s.certs = map[string]any{"keys": []any{
		map[string]any{"kty": "EC", "kid": "key-1"},
		map[string]any{"kty": "RSA", "kid": "key-0", "n": "AQAB", "e": "AQAB"},
		map[string]any{"kty": "RSA", "kid": "key-1", "n": number(testKey().N.Bytes()), "e": "AQAB"},
	}}
	if _, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData); err != nil {
		t.Error(err)
	}
}

// The service began to sign with a new key after it was asked for its keys.
func TestKeysThatAreJustNew(t *testing.T) {
	s := newService(t)
	s.oldCerts = []any{map[string]any{"keys": []any{}}}
	if _, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData); err != nil || s.certsAsked.Load() != 2 {
		t.Errorf("%v after asking %d times", err, s.certsAsked.Load())
	}
}

// The keys come while the service judges: it answers here only when it has been
// asked for them.
func TestKeysAreFetchedMeanwhile(t *testing.T) {
	s := newService(t)
	s.token = func(token string) string {
		for s.certsAsked.Load() == 0 && t.Context().Err() == nil {
			runtime.Gosched()
		}
		return token
	}
	if _, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData); err != nil {
		t.Error(err)
	}
}

func TestBadTokens(t *testing.T) {
	claim := func(name string, value any) func(*service) {
		return func(s *service) { s.claims[name] = value }
	}
	without := func(name string) func(*service) { return func(s *service) { delete(s.claims, name) } }
	now := time.Now().Unix()
	for _, tc := range []struct {
		name   string
		change func(*service)
		want   string
	}{
		{"issuer", claim("iss", "https://elsewhere.example"), "issuer: expected https://127.0.0.1"},
		{"no issuer", without("iss"), "got (absent)"},
		{"expired", claim("exp", now-120), "expiry: expected after"},
		{"no expiry", without("exp"), "expiry: expected after"},
		{"not yet valid", claim("nbf", now+120), "not before: expected no later"},
		{"issued in the future", claim("iat", now+120), "issued: expected no later"},
		{"another request's nonce", claim("nonce", 12), "nonce: expected "},
		{"another key", claim("x-ms-runtime", map[string]any{"keys": []any{}}), `x-ms-runtime: expected our key, got {"keys":[]}`},
		{"no key", without("x-ms-runtime"), "x-ms-runtime: expected our key, got (absent)"},
		{"type", claim("x-ms-attestation-type", "sgx"), "x-ms-attestation-type: expected sevsnpvm, got sgx"},
		{"compliance", claim("x-ms-compliance-status", "none"), "x-ms-compliance-status: expected azure-compliant-uvm, got none"},
		{"host data", claim("x-ms-sevsnpvm-hostdata", "00"), "x-ms-sevsnpvm-hostdata: expected"},
		{"report data", claim("x-ms-sevsnpvm-reportdata", "00"), "x-ms-sevsnpvm-reportdata: expected"},
		{"measurement", claim("x-ms-sevsnpvm-launchmeasurement", "00"), "x-ms-sevsnpvm-launchmeasurement: expected"},
		{"another report", claim("x-ms-sevsnpvm-reportid", "00"), "x-ms-sevsnpvm-reportid: expected"},
		{"debuggable", claim("x-ms-sevsnpvm-is-debuggable", true), "x-ms-sevsnpvm-is-debuggable: expected false, got true"},
		{"debuggable left out", without("x-ms-sevsnpvm-is-debuggable"), "is-debuggable: expected false, got (absent)"},
		{"migration", claim("x-ms-sevsnpvm-migration-allowed", true), "migration-allowed: expected false, got true"},
		{"SMT", claim("x-ms-sevsnpvm-smt-allowed", false), "smt-allowed: expected true, got false"},
		{"VMPL", claim("x-ms-sevsnpvm-vmpl", 1), "x-ms-sevsnpvm-vmpl: expected 0, got 1"},
		{"VMPL left out", without("x-ms-sevsnpvm-vmpl"), "x-ms-sevsnpvm-vmpl: expected 0, got (absent)"},
		{"guest SVN", claim("x-ms-sevsnpvm-guestsvn", 99), "x-ms-sevsnpvm-guestsvn: expected"},
		{"claims of another shape", claim("x-ms-sevsnpvm-vmpl", "zero"), "its claims"},
		{"keys elsewhere", func(s *service) { s.header["jku"] = "https://elsewhere.example/certs" }, `its keys are at "https://elsewhere.example/certs"`},
		{"keys at a look-alike", func(s *service) { s.header["jku"] = s.URL + ".example/certs" }, "its keys are at"},
		{"unknown key", func(s *service) { s.kid = "key-9" }, `no RSA key "key-9"`},
		{"another signer", func(s *service) {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			s.key = key
		}, "its signature is not the service's"},
		{"no signature", func(s *service) {
			s.token = func(string) string { return "eyJhbGciOiJub25lIn0.e30." }
		}, "is refused"},
		{"key confusion", func(s *service) { s.token = hmacToken }, "is refused"},
		{"garbage", func(s *service) { s.token = func(string) string { return "x" } }, "is refused"},
		{"endless", func(s *service) { s.token = func(string) string { return strings.Repeat("x", maxToken+1) } }, "more than the 65536 allowed"},
		{"weak key", func(s *service) {
			s.certs = map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "key-1", "n": "AQAB", "e": "AQAB"}}}
		}, "has 17 bits"},
		{"keys that are not certificates", func(s *service) {
			s.certs = map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "key-1", "x5c": []string{"AAAA"}}}}
		}, "the service's certificate"},
		{"keys that are not JSON", func(s *service) { s.certs = "none" }, "did not answer in JSON"},
		{"evidence refused", func(s *service) { s.status = http.StatusBadRequest }, "refuses the evidence"},
		{"redirected", func(s *service) { s.status = http.StatusTemporaryRedirect }, "answers HTTP 307"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t)
			tc.change(s)
			token, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData)
			if token != nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%v), want a refusal with %q", err, fault.KindOf(err), tc.want)
			}
		})
	}
}

// hmacToken is signed with the service's public key as if it were a secret.
func hmacToken(string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: testKey().N.Bytes()}, nil)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign([]byte("{}"))
	if err != nil {
		panic(err)
	}
	token, _ := signed.CompactSerialize()
	return token
}

func TestEveryFailedClaimIsNamed(t *testing.T) {
	s := newService(t)
	s.claims["x-ms-sevsnpvm-vmpl"] = 3
	s.claims["x-ms-sevsnpvm-is-debuggable"] = true
	_, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData)
	if err == nil || !strings.Contains(err.Error(), "is-debuggable: expected false, got true; x-ms-sevsnpvm-vmpl: expected 0, got 3") {
		t.Errorf("got %v", err)
	}
}

func TestStatusKinds(t *testing.T) {
	for status, kind := range map[int]fault.Kind{401: fault.Denied, 403: fault.Denied, 429: fault.Unavailable, 503: fault.Unavailable, 404: fault.Refused} {
		s := newService(t)
		s.status = status
		if _, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData); fault.KindOf(err) != kind {
			t.Errorf("HTTP %d: %v (%v), want %v", status, err, fault.KindOf(err), kind)
		}
	}
	s := newService(t)
	c := s.client(t)
	s.Close()
	if _, err := c.Attest(t.Context(), testEvidence(), testRuntimeData); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}

// A busy service is asked again, and not for ever.
func TestBusyService(t *testing.T) {
	client := func(s *service, delay, deadline time.Duration) *Client {
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		c, err := New(Options{Authority: s.URL, Skew: time.Minute, Deadline: deadline, Client: policy.ClientOptions{
			Transport: azure.NewTransport(roots), Retry: policy.RetryOptions{RetryDelay: delay, MaxRetryDelay: delay}}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for status, retried := range map[int]bool{429: true, 500: true, 503: true, 400: false, 403: false} {
		s := newService(t)
		s.status, s.times = status, 3
		if _, err := client(s, time.Millisecond, time.Minute).Attest(t.Context(), testEvidence(), testRuntimeData); (err == nil) != retried || (s.times == 0) != retried {
			t.Errorf("HTTP %d: %v with %d to come", status, err, s.times)
		}
	}
	s := newService(t)
	s.status = http.StatusServiceUnavailable
	if _, err := client(s, time.Hour, 100*time.Millisecond).Attest(t.Context(), testEvidence(), testRuntimeData); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("after the deadline: %v (%v)", err, fault.KindOf(err))
	}
}

// Two clocks may differ by the skew and by no more.
func TestClockSkew(t *testing.T) {
	now := time.Now().Unix()
	for name, tc := range map[string]struct {
		claims map[string]any
		ok     bool
	}{
		"expired within":    {map[string]any{"exp": now - 30}, true},
		"expired beyond":    {map[string]any{"exp": now - 90}, false},
		"not before within": {map[string]any{"nbf": now + 30, "iat": now + 30}, true},
		"not before beyond": {map[string]any{"nbf": now + 90}, false},
	} {
		s := newService(t)
		for claim, value := range tc.claims {
			s.claims[claim] = value
		}
		if _, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndlessAnswer(t *testing.T) {
	s := newService(t)
	s.certs = strings.Repeat("x", 2<<20)
	if _, err := s.client(t).Attest(t.Context(), testEvidence(), testRuntimeData); err == nil || !strings.Contains(err.Error(), "has no end") {
		t.Errorf("got %v", err)
	}
}

func TestAuthorityMustBeHTTPS(t *testing.T) {
	for _, authority := range []string{"", "maa.example", "http://maa.example", "https://maa.example/path", "https://u@maa.example", "https://maa.example?x"} {
		if _, err := New(Options{Authority: authority}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", authority, err)
		}
	}
}

// The request that real Azure tooling sent for a real report, rebuilt from its
// parts: what each layer means must be the same.
func TestRequestEqualsTheRealOne(t *testing.T) {
	want := readMeaning(t, sharedEvidence(t, "caci-milan-encryption/maa-request.json"))
	certs, err := snp.ParseHostCerts([]byte(want.certs))
	if err != nil {
		t.Fatal(err)
	}
	e := &snp.Evidence{Report: want.report, SecurityContext: snp.SecurityContext{HostCerts: certs, UVM: want.uvm[0]}}
	body, err := newRequest(e, sharedEvidence(t, "caci-milan-encryption/public-key-jwks"), want.nonce)
	if err != nil {
		t.Fatal(err)
	}
	got := readMeaning(t, body)
	if !bytes.Equal(derOf(got.certs), derOf(want.certs)) {
		t.Error("the certificates differ")
	}
	got.certs, want.certs = "", ""
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the request differs:\n%+v\n%+v", got, want)
	}
}

// meaning is a request with every layer of encoding taken off.
type meaning struct {
	report, runtime []byte
	certs, dataType string
	nonce           json.Number
	uvm             [][]byte
}

func readMeaning(t *testing.T, body []byte) (m meaning) {
	decode := func(text string) []byte {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var r request
	var inner report
	var endorsed endorsements
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(decode(r.Report), &inner); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(decode(inner.Endorsements), &endorsed); err != nil {
		t.Fatal(err)
	}
	for _, u := range endorsed.UVM {
		m.uvm = append(m.uvm, decode(u))
	}
	m.report, m.runtime = decode(inner.SnpReport), decode(r.RuntimeData.Data)
	m.certs, m.dataType, m.nonce = string(decode(inner.VcekCertChain)), r.RuntimeData.DataType, r.Nonce
	return m
}

func derOf(text string) (all []byte) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		all = append(all, block.Bytes...)
	}
}

func sharedEvidence(t *testing.T, name string) []byte {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	folder := filepath.Join(filepath.Dir(dir), "shared", "evidence")
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		t.Skip("the real evidence in ../shared/evidence is not on this machine")
	}
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func FuzzToken(f *testing.F) {
	s := newService(f)
	c := s.client(f)
	f.Add(s.sign())
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("a.b.c")
	keys := keySet{}
	certs, _ := json.Marshal(s.certs)
	if err := json.Unmarshal(certs, &keys); err != nil {
		f.Fatal(err)
	}
	good := s.sign()
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := c.verify(raw, keys, testEvidence(), testRuntimeData, "1"); err == nil && raw != good {
			// Only the same three parts may pass: base64url is decoded strictly.
			if strings.TrimSpace(raw) != good {
				t.Fatalf("a forged token is accepted: %q", raw)
			}
		}
	})
}

// both answers the request for a token and the one for keys.
type both struct{ token, keys []byte }

func (b both) Do(r *http.Request) (*http.Response, error) {
	body := b.keys
	if r.Method == http.MethodPost {
		body = b.token
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// FuzzAnswer: a service that is not the authority's makes no token, whatever it
// answers.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"token":"a.b.c"}`), []byte(`{"keys":[{"kid":"k","kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"token":5}`), []byte(`[]`))
	f.Add([]byte(`{"token":"eyJhbGciOiJub25lIn0.e30."}`), []byte(`{"keys":[{"kid":"k","kty":"RSA","x5c":["`+certificate(f)+`"]}]}`))
	f.Fuzz(func(t *testing.T, token, keys []byte) {
		c, err := New(Options{Authority: "https://maa.example", Client: policy.ClientOptions{Transport: both{token, keys}, Retry: policy.RetryOptions{MaxRetries: -1}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Attest(t.Context(), testEvidence(), testRuntimeData)
		if err == nil {
			t.Fatalf("a token came out of %q: %s", token, got.Claims)
		}
		if fault.KindOf(err) != fault.Refused {
			t.Fatalf("kind %v: %v", fault.KindOf(err), err)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kid":"k","kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[{"kid":"k","kty":"RSA","x5c":["` + certificate(f) + `"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var keys keySet
		if json.Unmarshal(data, &keys) != nil {
			return
		}
		if key, err := keys.find("k"); err == nil && key.N.BitLen() < 2048 {
			t.Fatal("a weak key is accepted")
		}
	})
}
