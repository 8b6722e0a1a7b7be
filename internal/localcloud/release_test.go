package localcloud

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/go-jose/go-jose/v4"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// releasePolicy admits good guests of the container policy, as an owner would
// write it by hand.
func releasePolicy(c *Cloud, policy []byte) []byte {
	return fmt.Appendf(nil, `{"version":"1.0.0","anyOf":[{"authority":%q,"allOf":[
		{"claim":"x-ms-attestation-type","equals":"sevsnpvm"},
		{"claim":"x-ms-compliance-status","equals":"azure-compliant-uvm"},
		{"claim":"x-ms-sevsnpvm-hostdata","equals":%q},
		{"claim":"x-ms-sevsnpvm-is-debuggable","equals":"false"},
		{"claim":"x-ms-sevsnpvm-migration-allowed","equals":"false"},
		{"claim":"x-ms-sevsnpvm-vmpl","equals":"0"},
		{"claim":"x-ms-sevsnpvm-microcode-svn","greaterOrEquals":"200"},
		{"claim":"x-cloister-simulated","equals":"true"}]}]}`, c.Endpoints().Attestation, hostData(policy))
}

func exportable(kty azkeys.KeyType, size int32, policy []byte) azkeys.CreateKeyParameters {
	p := azkeys.CreateKeyParameters{
		Kty:           &kty,
		KeyAttributes: &azkeys.KeyAttributes{Exportable: to.Ptr(true)},
		ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: policy, Immutable: to.Ptr(true)},
	}
	if size != 0 {
		p.KeySize = &size
	}
	return p
}

func releaseKey(client *azkeys.Client, name, token string, enc azkeys.KeyEncryptionAlgorithm) (string, error) {
	resp, err := client.Release(context.Background(), name, "", azkeys.ReleaseParameters{
		TargetAttestationToken: &token, Algorithm: &enc, Nonce: to.Ptr("nonce-1"),
	}, nil)
	if err != nil {
		return "", err
	}
	return *resp.Value, nil
}

// released is a release answer's payload.
type released struct {
	Request struct {
		APIVersion string `json:"api-version"`
		Enc, Kid   string
		Nonce      string
	}
	Response struct {
		Key struct {
			Key struct {
				Kid, Kty string
				HSM      string `json:"key_hsm"`
			}
			Attributes    struct{ Exportable bool }
			ReleasePolicy struct {
				Data      string
				Immutable bool
			} `json:"release_policy"`
		}
	}
}

func unbase(t *testing.T, s string) []byte {
	t.Helper()
	out, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// open verifies a release answer, chain to the CA and all, and unwraps the key:
// a reading of the protocol of its own.
func open(t *testing.T, c *Cloud, value string, e ephemeral, newHash func() hash.Hash) ([]byte, released) {
	t.Helper()
	signed, err := jose.ParseSignedCompact(value, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	chains, err := signed.Signatures[0].Header.Certificates(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	leaf := chains[0][0]
	thumbprint := sha256.Sum256(leaf.Raw)
	if got := signed.Signatures[0].Header.ExtraHeaders["x5t#S256"]; got != base64.RawURLEncoding.EncodeToString(thumbprint[:]) {
		t.Errorf("x5t#S256 %v", got)
	}
	payload, err := signed.Verify(leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var r released
	if err := json.Unmarshal(payload, &r); err != nil {
		t.Fatal(err)
	}
	var wrapped struct {
		SchemaVersion string `json:"schema_version"`
		Header        struct{ Kid, Alg, Enc string }
		Ciphertext    string
	}
	if err := json.Unmarshal(unbase(t, r.Response.Key.Key.HSM), &wrapped); err != nil {
		t.Fatal(err)
	}
	if wrapped.SchemaVersion != "1.0" || wrapped.Header.Alg != "dir" || wrapped.Header.Kid != "release-1" || wrapped.Header.Enc != r.Request.Enc {
		t.Errorf("key_hsm: %+v", wrapped)
	}
	sealed := unbase(t, wrapped.Ciphertext)
	aes, err := rsa.DecryptOAEP(newHash(), nil, e.key, sealed[:e.key.Size()], nil)
	if err != nil {
		t.Fatal(err)
	}
	kwp, err := subtle.NewKWP(aes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := kwp.Unwrap(sealed[e.key.Size():])
	if err != nil {
		t.Fatal(err)
	}
	return key, r
}

func TestReleaseOfEveryKeyUnderEveryWrap(t *testing.T) {
	c := theCloud(t)
	e := newEphemeral(t)
	token, status, body := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), e.jwks))
	if status != http.StatusOK {
		t.Fatalf("%s", body)
	}
	hashes := map[azkeys.KeyEncryptionAlgorithm]func() hash.Hash{
		azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP: sha1.New,
		azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP256: sha256.New,
		azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP384: sha512.New384,
	}
	for _, tc := range []struct {
		service, url, name string
		kty                azkeys.KeyType
		size               int32
		answered           string // kty in the answer
	}{
		{"vault", c.Endpoints().Vault, "vault-rsa", azkeys.KeyTypeRSAHSM, 2048, "RSA-HSM"},
		{"vault", c.Endpoints().Vault, "vault-ec", azkeys.KeyTypeECHSM, 0, "EC-HSM"},
		{"hsm", c.Endpoints().HSM, "hsm-rsa3072", azkeys.KeyTypeRSAHSM, 3072, "RSA"},
		{"hsm", c.Endpoints().HSM, "hsm-ec", azkeys.KeyTypeECHSM, 0, "EC"},
		{"hsm", c.Endpoints().HSM, "hsm-oct", azkeys.KeyTypeOctHSM, 256, "oct"},
	} {
		client := keysClient(t, c, tc.url)
		made, err := client.CreateKey(context.Background(), tc.name, exportable(tc.kty, tc.size, releasePolicy(c, containerPolicy)), nil)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		for enc, newHash := range hashes {
			value, err := releaseKey(client, tc.name, token, enc)
			if err != nil {
				t.Errorf("%s %s: %v", tc.name, enc, err)
				continue
			}
			key, r := open(t, c, value, e, newHash)
			checkSameKey(t, tc.name, key, made.Key)
			if r.Request.Kid != tc.url+"/keys/"+tc.name || r.Request.Nonce != "nonce-1" || r.Request.APIVersion != "2025-07-01" ||
				r.Response.Key.Key.Kid != string(*made.Key.KID) || r.Response.Key.Key.Kty != tc.answered ||
				!r.Response.Key.Attributes.Exportable || !r.Response.Key.ReleasePolicy.Immutable {
				t.Errorf("%s %s: %+v", tc.name, enc, r)
			}
		}
	}
}

func checkSameKey(t *testing.T, name string, material []byte, public *azkeys.JSONWebKey) {
	t.Helper()
	if *public.Kty == azkeys.KeyTypeOctHSM {
		if len(material) != 32 {
			t.Errorf("%s: %d bytes", name, len(material))
		}
		return
	}
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		t.Fatal(err)
	}
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		if string(key.N.Bytes()) != string(public.N) {
			t.Errorf("%s: another modulus", name)
		}
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes()
		if err != nil || string(point[1:]) != string(public.X)+string(public.Y) {
			t.Errorf("%s: another point (%v)", name, err)
		}
	}
}

func TestReleaseRefusesEveryBadGuest(t *testing.T) {
	c := theCloud(t)
	e := newEphemeral(t)
	client := keysClient(t, c, c.Endpoints().HSM)
	policy := releasePolicy(c, containerPolicy)
	if _, err := client.CreateKey(context.Background(), "guarded", exportable(azkeys.KeyTypeOctHSM, 256, policy), nil); err != nil {
		t.Fatal(err)
	}
	changed := append([]byte(nil), containerPolicy...)
	changed[0] ^= 1
	for _, tc := range []struct {
		name   string
		config platform.GuestConfig
		note   string
	}{
		{"a policy changed by one byte", platform.GuestConfig{Policy: changed}, "x-ms-sevsnpvm-hostdata"},
		{"another policy than shown", platform.GuestConfig{WrongHostData: true}, "x-ms-sevsnpvm-hostdata"},
		{"debug", platform.GuestConfig{Debug: true}, "x-ms-sevsnpvm-is-debuggable"},
		{"migration", platform.GuestConfig{Migration: true}, "x-ms-sevsnpvm-migration-allowed"},
		{"vmpl", platform.GuestConfig{VMPL: 2}, "x-ms-sevsnpvm-vmpl"},
		{"old tcb", platform.GuestConfig{OldTCB: true}, "x-ms-sevsnpvm-microcode-svn"},
	} {
		token, status, body := attest(t, c, gather(t, guest(t, c, tc.config), e.jwks))
		if status != http.StatusOK {
			t.Fatalf("%s: %s", tc.name, body)
		}
		_, err := releaseKey(client, "guarded", token, azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP256)
		wantStatus(t, tc.name, err, http.StatusForbidden, "Forbidden")
		for _, part := range []string{"Target environment attestation statement cannot be verified.", "AccessDenied"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not hold %q", tc.name, err, part)
			}
		}
		last := requests(t, c)
		if entry := last[len(last)-1]; entry.Status != http.StatusForbidden || entry.Path != "/keys/guarded/release" || !strings.Contains(entry.Note, tc.note) {
			t.Errorf("%s: logged %+v", tc.name, entry)
		}
	}
}

func TestReleaseRefusesTokensThatAreNotTheAuthoritys(t *testing.T) {
	c := theCloud(t)
	e := newEphemeral(t)
	client := keysClient(t, c, c.Endpoints().Vault)
	if _, err := client.CreateKey(context.Background(), "tokens", exportable(azkeys.KeyTypeECHSM, 0, releasePolicy(c, containerPolicy)), nil); err != nil {
		t.Fatal(err)
	}
	good, _, _ := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), e.jwks))
	parts := strings.Split(good, ".")
	other := startIn(t, newDir(t))
	foreign, _, _ := attest(t, other, gather(t, guest(t, other, platform.GuestConfig{}), e.jwks))
	noKey, _, _ := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), []byte(`{"keys":[]}`)))
	signing := []byte(strings.Replace(string(e.jwks), "encrypt", "sign", 1))
	forSigning, _, _ := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), signing))
	identityToken, err := c.FederatedToken(identity.CleanRoom)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"not a token":            "x",
		"changed payload":        parts[0] + "." + parts[1][:len(parts[1])-2] + "AA." + parts[2],
		"no signature":           parts[0] + "." + parts[1] + ".",
		"unsigned":               base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"another service's":      foreign,
		"the directory's":        identityToken,
		"without a key":          noKey,
		"with a key for signing": forSigning,
	} {
		_, err := releaseKey(client, "tokens", token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
		wantStatus(t, name, err, http.StatusForbidden, "Forbidden")
	}
	_, err = releaseKey(client, "tokens", good, "AES")
	wantStatus(t, "enc", err, http.StatusBadRequest, "BadParameter")
	_, err = releaseKey(client, "tokens", "", azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
	wantStatus(t, "no token", err, http.StatusBadRequest, "BadParameter")
	_, err = releaseKey(client, "nothing", good, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
	wantStatus(t, "no key", err, http.StatusNotFound, "KeyNotFound")
	if _, err = releaseKey(client, "tokens", good, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP); err != nil {
		t.Errorf("the good token: %v", err)
	}
}

func TestReleaseOfKeysThatMayNotBe(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	client := keysClient(t, c, c.Endpoints().Vault)
	token, _, _ := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), newEphemeral(t).jwks))
	if _, err := client.CreateKey(ctx, "plain", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := releaseKey(client, "plain", token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
	wantStatus(t, "not exportable", err, http.StatusForbidden, "Forbidden")

	if _, err := client.CreateKey(ctx, "timed", exportable(azkeys.KeyTypeECHSM, 0, releasePolicy(c, containerPolicy)), nil); err != nil {
		t.Fatal(err)
	}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, tc := range []struct {
		name, code string
		a          azkeys.KeyAttributes
	}{
		{"expired", "KeyExpired", azkeys.KeyAttributes{Expires: &past}},
		{"early", "KeyNotYetValid", azkeys.KeyAttributes{Expires: &future, NotBefore: &future}},
		{"disabled", "KeyDisabled", azkeys.KeyAttributes{Enabled: to.Ptr(false)}},
	} {
		if _, err := client.UpdateKey(ctx, "timed", "", azkeys.UpdateKeyParameters{KeyAttributes: &tc.a}, nil); err != nil {
			t.Fatal(err)
		}
		_, err := releaseKey(client, "timed", token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
		wantStatus(t, tc.name, err, http.StatusForbidden, "Forbidden")
		if err == nil || !strings.Contains(err.Error(), tc.code) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// The fault switch: with every key expired, nothing is released or unwrapped,
// and good order comes back.
func TestExpiredKeysFault(t *testing.T) {
	c := startIn(t, newDir(t))
	ctx := context.Background()
	token, _, _ := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), newEphemeral(t).jwks))
	for service, url := range map[string]string{Vault: c.Endpoints().Vault, HSM: c.Endpoints().HSM} {
		client := keysClient(t, c, url)
		if _, err := client.CreateKey(ctx, "k", exportable(azkeys.KeyTypeRSAHSM, 2048, releasePolicy(c, containerPolicy)), nil); err != nil {
			t.Fatal(err)
		}
		use := func() (release, unwrap error) {
			_, release = releaseKey(client, "k", token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
			_, unwrap = client.WrapKey(ctx, "k", "", azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: make([]byte, 32)}, nil)
			return release, unwrap
		}
		if err := c.SetFault(service, wire.Fault{ExpiredKeys: true}); err != nil {
			t.Fatal(err)
		}
		release, unwrap := use()
		for what, err := range map[string]error{"release": release, "wrapkey": unwrap} {
			wantStatus(t, service+" "+what, err, http.StatusForbidden, "Forbidden")
			if err == nil || !strings.Contains(err.Error(), "KeyExpired") {
				t.Errorf("%s %s: %v", service, what, err)
			}
		}
		if err := c.SetFault(service, wire.Fault{}); err != nil {
			t.Fatal(err)
		}
		if release, unwrap = use(); release != nil || unwrap != nil {
			t.Errorf("%s in good order again: %v, %v", service, release, unwrap)
		}
	}
	if err := c.SetFault(Attestation, wire.Fault{ExpiredKeys: true}); fault.KindOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
}

// Every answer, refusals too, has the headers that the services' recordings
// have: all of theirs but those of roles, which are not there, and of HTTP.
func TestHeadersAreThoseOfTheRecordings(t *testing.T) {
	c := theCloud(t)
	const module = "github.com/Azure/azure-sdk-for-go/sdk/keyvault/azkeys@v0.6.0"
	download := exec.Command("go", "mod", "download", "-json", module)
	download.Dir = t.TempDir() // outside any module: go.mod must not change
	out, err := download.Output()
	if err != nil {
		t.Fatalf("the recordings are not here: run `go mod download %s`: %v", module, err)
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	for file, url := range map[string]string{"KV": c.Endpoints().Vault, "MHSM": c.Endpoints().HSM} {
		data, err := os.ReadFile(filepath.Join(info.Dir, "testdata/recordings/TestReleaseKey", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var recording struct {
			Entries []struct {
				StatusCode      int
				ResponseHeaders map[string]any
			}
		}
		if err := json.Unmarshal(data, &recording); err != nil {
			t.Fatal(err)
		}
		refused := recording.Entries[0]
		if refused.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%s: the first answer is a %d", file, refused.StatusCode)
		}
		resp, err := transport(c).Get(url + "/keys/k?api-version=7.4")
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		for name := range refused.ResponseHeaders {
			if name != "Date" && resp.Header.Get(name) == "" {
				t.Errorf("%s: no %s", file, name)
			}
		}
	}
}

// requests reads the request log.
func requests(t *testing.T, c *Cloud) []wire.Entry {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, RequestsFile))
	if err != nil {
		t.Fatal(err)
	}
	var out []wire.Entry
	for line := range strings.Lines(string(data)) {
		var e wire.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		t.Fatal("the request log is empty")
	}
	return out
}
