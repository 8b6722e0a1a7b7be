package attest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-sev-guest/verify/testdata"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
)

// service plays an attestation service that says whatever the test wants.
type service struct {
	certsAsked atomic.Int32
	oldCerts   []any // what /certs says first
	*httptest.Server
	claims  map[string]any // what it says; filled with the truth by newService
	header  map[jose.HeaderKey]any
	kid     string
	key     *rsa.PrivateKey
	certs   any // the answer of /certs
	status  int // of /attest, when not 200
	times   int // answer it so often; 0 is always
	token   func(string) string
	request request // the last one
}

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var testRuntimeData = []byte(`{"keys":[{"kty":"RSA","kid":"k","key_ops":["encrypt"],"n":"AQAB","e":"AQAB"}]}`)

func testEvidence() *snp.Evidence {
	return &snp.Evidence{Report: testdata.AttestationBytes[:snp.ReportSize]}
}

func newService(t testing.TB) *service {
	r, err := snp.ParseReport(testEvidence().Report)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{kid: "key-1", key: testKey(), header: map[jose.HeaderKey]any{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	now := time.Now().Unix()
	var runtimeData any
	if err := json.Unmarshal(testRuntimeData, &runtimeData); err != nil {
		t.Fatal(err)
	}
	s.header["jku"] = s.URL + "/certs"
	s.certs = map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "key-1", "x5c": []string{certificate(t)}}}}
	s.claims = map[string]any{
		"iss": s.URL, "exp": now + 3600, "nbf": now, "iat": now,
		"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-uvm", "x-ms-runtime": runtimeData,
		"x-ms-sevsnpvm-hostdata":          hex.EncodeToString(r.HostData[:]),
		"x-ms-sevsnpvm-reportdata":        hex.EncodeToString(r.ReportData[:]),
		"x-ms-sevsnpvm-launchmeasurement": hex.EncodeToString(r.Measurement[:]),
		"x-ms-sevsnpvm-reportid":          hex.EncodeToString(r.ReportID[:]),
		"x-ms-sevsnpvm-is-debuggable":     false, "x-ms-sevsnpvm-migration-allowed": false,
		"x-ms-sevsnpvm-smt-allowed": r.SMT, "x-ms-sevsnpvm-vmpl": 0, "x-ms-sevsnpvm-guestsvn": r.GuestSVN,
	}
	return s
}

// certificate holds the service's key, as /certs of the real one does.
func certificate(t testing.TB) string {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attestation"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &testKey().PublicKey, testKey())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/certs":
		if n := s.certsAsked.Add(1); int(n) <= len(s.oldCerts) {
			json.NewEncoder(w).Encode(s.oldCerts[n-1])
			return
		}
		json.NewEncoder(w).Encode(s.certs)
	case "/attest/SevSnpVm":
		body, _ := io.ReadAll(r.Body)
		json.Unmarshal(body, &s.request)
		if s.status != 0 {
			if s.times--; s.times == 0 {
				defer func() { s.status = 0 }()
			}
			w.WriteHeader(s.status)
			io.WriteString(w, `{"error":{"code":"InvalidParameter","message":"The report is not to our liking."}}`)
			return
		}
		if s.claims["nonce"] == nil {
			s.claims["nonce"] = s.request.Nonce
		}
		token := s.sign()
		if s.token != nil {
			token = s.token(token)
		}
		json.NewEncoder(w).Encode(map[string]string{"token": token})
	case "/attest/AzureGuest":
		json.NewEncoder(w).Encode(map[string]string{"token": s.token(s.sign())})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *service) sign() string {
	opts := (&jose.SignerOptions{ExtraHeaders: s.header}).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.key, KeyID: s.kid}}, opts)
	if err != nil {
		panic(err)
	}
	payload, _ := json.Marshal(s.claims)
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	token, _ := signed.CompactSerialize()
	return token
}

func (s *service) client(t testing.TB) *Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c, err := New(Options{
		Authority: s.URL + "/", Skew: time.Minute,
		Client: policy.ClientOptions{Transport: azure.NewTransport(roots), Retry: policy.RetryOptions{MaxRetries: -1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
