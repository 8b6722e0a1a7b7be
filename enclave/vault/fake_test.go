package vault

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-jose/go-jose/v4"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"cloister/enclave/attest"
	"cloister/enclave/azure"
	"cloister/policy/release"
)

// fakeVault says whatever a test wants under a certificate of its own. What a
// real vault does is package localcloud's part.
type fakeVault struct {
	*httptest.Server
	release  *ReleaseKey // whom it wraps for
	material []byte
	hash     Wrap           // what it really wraps with; "" is what it is asked
	request  map[string]any // overrides of the statement's request
	key      map[string]any // overrides of the released key
	header   map[string]any // overrides of key_hsm's header
	policy   string
	status   int
	times    int // answer status so often; 0 is always
	body     string
	tamper   func(string) string
	signer   *rsa.PrivateKey
	x5c      []string
	secret   string
}

const agreedPolicy = `{"version":"1.0.0","anyOf":[{"authority":"https://maa.example","allOf":[{"claim":"x-ms-sevsnpvm-vmpl","equals":"0"},{"claim":"x-ms-sevsnpvm-is-debuggable","equals":"false"}]}]}`

// The same policy as a service writes it.
const rewrittenPolicy = `{"anyOf":[{"allOf":[{"equals":"false","claim":"x-ms-sevsnpvm-is-debuggable"},{"equals":"0","claim":"x-ms-sevsnpvm-vmpl"}],"authority":"https://maa.example/"}],"version":"1.0.0"}`

var (
	testReleaseKey = sync.OnceValue(func() *ReleaseKey { return must(NewReleaseKey(2048)) })
	testKEK        = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	testCA         = sync.OnceValue(func() *authority { return newAuthority() })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type authority struct {
	key, leafKey *rsa.PrivateKey
	cert         *x509.Certificate
}

func newAuthority() *authority {
	a := &authority{key: must(rsa.GenerateKey(rand.Reader, 2048)), leafKey: must(rsa.GenerateKey(rand.Reader, 2048))}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vault root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key))
	a.cert = must(x509.ParseCertificate(der))
	return a
}

// leaf issues a certificate for a host, valid until the given time.
func (a *authority) leaf(ip string, until time.Time) []string {
	der := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "vault"}, IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}, a.cert, &a.leafKey.PublicKey, a.key))
	enc := base64.StdEncoding.EncodeToString
	return []string{enc(der), enc(a.cert.Raw)}
}

func newFakeVault(t testing.TB) *fakeVault {
	v := &fakeVault{
		release: testReleaseKey(), policy: rewrittenPolicy, signer: testCA().leafKey,
		x5c:      testCA().leaf("127.0.0.1", time.Now().Add(time.Hour)),
		material: must(x509.MarshalPKCS8PrivateKey(testKEK())),
		request:  map[string]any{}, key: map[string]any{}, header: map[string]any{},
	}
	v.Server = httptest.NewTLSServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/tenant", resource="https://vault.example"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if v.status != 0 {
		if v.times--; v.times == 0 {
			defer func() { v.status = 0 }()
		}
		w.WriteHeader(v.status)
		io.WriteString(w, v.body)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/secrets/") {
		json.NewEncoder(w).Encode(map[string]string{"value": v.secret})
		return
	}
	var req struct{ Enc, Nonce string }
	json.NewDecoder(r.Body).Decode(&req)
	value := v.statement(req.Enc, req.Nonce)
	if v.tamper != nil {
		value = v.tamper(value)
	}
	json.NewEncoder(w).Encode(map[string]string{"value": value})
}

func (v *fakeVault) statement(enc, nonce string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	how := v.hash
	if how == "" {
		how = Wrap(enc)
	}
	hsm := map[string]any{
		"schema_version": "1.0", "ciphertext": b64(v.wrap(how)),
		"header": merge(map[string]any{"kid": v.release.kid, "alg": "dir", "enc": enc}, v.header),
	}
	kid := v.URL + "/keys/kek"
	pub := testKEK().PublicKey
	payload := map[string]any{
		"request": merge(map[string]any{"api-version": "7.4", "enc": enc, "kid": kid, "nonce": nonce}, v.request),
		"response": map[string]any{"key": map[string]any{
			"key": merge(map[string]any{
				"kid": kid + "/0123", "kty": "RSA-HSM", "n": b64(pub.N.Bytes()), "e": "AQAB", "key_hsm": b64(must(json.Marshal(hsm))),
			}, v.key),
			"release_policy": map[string]any{"data": b64([]byte(v.policy)), "immutable": true},
		}},
	}
	opts := (&jose.SignerOptions{}).WithHeader("x5c", v.x5c)
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: v.signer}, opts))
	return must(must(signer.Sign(must(json.Marshal(payload)))).CompactSerialize())
}

func (v *fakeVault) wrap(how Wrap) []byte {
	aes := make([]byte, 32)
	rand.Read(aes)
	hash := must(how.hash())
	outer := must(rsa.EncryptOAEP(hash.New(), rand.Reader, v.release.public, aes, nil))
	return append(outer, must(must(subtle.NewKWP(aes)).Wrap(v.material))...)
}

// merge overrides entries; nil removes one.
func merge(base, over map[string]any) map[string]any {
	for name, value := range over {
		if base[name] = value; value == nil {
			delete(base, name)
		}
	}
	return base
}

type tokenSource struct{}

func (tokenSource) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// patient repeats tries after the delay, until the deadline.
func (v *fakeVault) patient(delay, deadline time.Duration) *Client {
	c := v.client()
	o := c.opts
	o.Client.Retry, o.Deadline = policy.RetryOptions{RetryDelay: delay, MaxRetryDelay: delay}, deadline
	return New(o)
}

func (v *fakeVault) client() *Client {
	tls, statements := x509.NewCertPool(), x509.NewCertPool()
	tls.AddCert(v.Certificate())
	statements.AddCert(testCA().cert)
	return New(Options{
		Credential: tokenSource{}, Roots: statements, PrivateCloud: true,
		Client: policy.ClientOptions{Transport: azure.NewTransport(tls), Retry: policy.RetryOptions{MaxRetries: -1}},
	})
}

func (v *fakeVault) ask() Request {
	return Request{KEK: ID{Vault: v.URL, Name: "kek"}, Policy: must(release.Parse([]byte(agreedPolicy)))}
}

// token stands for a verified one: only its claims are looked at here.
func token(claims string) *attest.Token {
	return &attest.Token{Authority: "https://maa.example", Claims: json.RawMessage(claims)}
}
