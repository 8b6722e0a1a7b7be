package vault

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"

	"cloister/internal/localcloud/wire"
	"cloister/policy/release"

	"github.com/go-jose/go-jose/v4"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// wraps are the ways to wrap a released key, by the name of enc: an AES-256 key
// under RSA-OAEP with that hash, then the key under AES-KWP (RFC 5649).
var wraps = map[string]func() hash.Hash{
	"CKM_RSA_AES_KEY_WRAP": sha1.New, // PKCS#11 names no other
	"RSA_AES_KEY_WRAP_256": sha256.New,
	"RSA_AES_KEY_WRAP_384": sha512.New384,
}

type releaseRequest struct {
	Target string `json:"target"`
	Enc    string `json:"enc"`
	Nonce  string `json:"nonce"`
}

// release answers POST …/release.
func (s *Service) release(c call) (any, error) {
	req := releaseRequest{Enc: "CKM_RSA_AES_KEY_WRAP"}
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	newHash := wraps[req.Enc]
	if newHash == nil {
		return nil, badParameter("Property enc %q is not CKM_RSA_AES_KEY_WRAP, RSA_AES_KEY_WRAP_256 or RSA_AES_KEY_WRAP_384.", req.Enc)
	}
	if req.Target == "" {
		return nil, badParameter("Property target is missing.")
	}
	k, err := s.releasable(c)
	if err != nil {
		return nil, err
	}
	target, err := s.admit(k, req.Target)
	if err != nil {
		return nil, err
	}
	wrapped, err := target.wrap(k.Material, req.Enc, newHash())
	if err != nil {
		return nil, err
	}
	return s.releaseAnswer(c, req, k, wrapped)
}

// releasable returns a copy of the key if it may be released to anyone at all.
func (s *Service) releasable(c call) (keyVersion, error) {
	var k keyVersion
	err := s.store.view(func(st *state) error {
		found, err := st.Keys.find("key", c.name, c.version)
		if err == nil {
			k = *found
		}
		return err
	})
	if err != nil {
		return k, err
	}
	if err := s.usable("release", k.Attributes); err != nil {
		return k, err
	}
	if !k.Attributes.Exportable {
		return k, forbidden("KeyNotExportable", "Operation release is not allowed on a key that is not exportable.")
	}
	return k, nil
}

// admit verifies the attestation token and evaluates the key's policy on its
// claims. It returns the key that the release is to be wrapped for.
func (s *Service) admit(k keyVersion, token string) (*targetKey, error) {
	payload, err := wire.Verify(token, s.Authority.PublicKeys(), s.Server.Now())
	if err != nil {
		return nil, notVerified("attestation token: %v", err)
	}
	claims, err := release.ParseClaims(payload)
	if err != nil {
		return nil, notVerified("attestation token: %v", err)
	}
	if issuer, _ := claims["iss"].(string); issuer != s.Authority.URL() {
		return nil, notVerified("attestation token: issuer %q does not own the key that signed it", issuer)
	}
	policy, err := release.Parse(k.Policy.Data)
	if err != nil {
		return nil, err
	}
	decision := policy.Evaluate(map[string]release.Claims{s.Authority.URL(): claims})
	if !decision.Met {
		return nil, notVerified("release policy: %s", failures(decision))
	}
	target, err := parseTarget(payload)
	if err != nil {
		return nil, notVerified("attestation token: %v", err)
	}
	return target, nil
}

func failures(d release.Decision) string {
	all := make([]string, len(d.Failures))
	for i, f := range d.Failures {
		all[i] = f.String()
	}
	return strings.Join(all, "; ")
}

// targetKey is the RSA key in an attested environment for which a release is
// wrapped.
type targetKey struct {
	id  string
	key *rsa.PublicKey
}

// parseTarget finds the first RSA key for encryption among the runtime claims.
func parseTarget(payload []byte) (*targetKey, error) {
	var claims struct {
		Runtime struct {
			Keys []jwk `json:"keys"`
		} `json:"x-ms-runtime"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, fmt.Errorf("x-ms-runtime: %w", err)
	}
	for _, j := range claims.Runtime.Keys {
		if j.Type != "RSA" || !slices.Contains(j.Ops, "encrypt") && !slices.Contains(j.Ops, "wrapKey") {
			continue
		}
		n, e := new(big.Int).SetBytes(j.N), new(big.Int).SetBytes(j.E)
		if n.BitLen() < 2048 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, errors.New("x-ms-runtime: the RSA key for encryption is shorter than 2048 bits or has an odd exponent")
		}
		return &targetKey{id: j.KeyID, key: &rsa.PublicKey{N: n, E: int(e.Int64())}}, nil
	}
	return nil, errors.New("x-ms-runtime names no RSA key with the operation encrypt or wrapKey")
}

// wrappedKey is what key_hsm holds.
type wrappedKey struct {
	SchemaVersion string        `json:"schema_version"`
	Header        wrappedHeader `json:"header"`
	Ciphertext    binary        `json:"ciphertext"`
}

type wrappedHeader struct {
	KeyID string `json:"kid"`
	Alg   string `json:"alg"`
	Enc   string `json:"enc"`
}

// wrap wraps material for the target. The AES key is used once and then lost,
// so nothing is ever wrapped twice under it.
func (t *targetKey) wrap(material []byte, enc string, h hash.Hash) ([]byte, error) {
	key := make([]byte, 32)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	outer, err := rsa.EncryptOAEP(h, rand.Reader, t.key, key, nil)
	if err != nil {
		return nil, err
	}
	kwp, err := subtle.NewKWP(key)
	if err != nil {
		return nil, err
	}
	inner, err := kwp.Wrap(material)
	if err != nil {
		return nil, err
	}
	return json.Marshal(wrappedKey{
		SchemaVersion: "1.0",
		Header:        wrappedHeader{KeyID: t.id, Alg: "dir", Enc: enc},
		Ciphertext:    append(outer, inner...),
	})
}

func (s *Service) releaseAnswer(c call, req releaseRequest, k keyVersion, wrapped []byte) (any, error) {
	bundle, err := s.bundle(c.name, &k)
	if err != nil {
		return nil, err
	}
	key := bundle["key"].(jwk)
	key.HSM = wrapped
	if s.Kind == ManagedHSM {
		key.Type = strings.TrimSuffix(key.Type, "-HSM") // as the real one does, here only
	}
	bundle["key"] = key
	asked := map[string]any{
		"api-version": c.URL.Query().Get("api-version"),
		"enc":         req.Enc,
		"kid":         s.id("keys", c.name, c.version),
	}
	if req.Nonce != "" {
		asked["nonce"] = req.Nonce
	}
	value, err := s.Signer.Sign(map[string]any{
		"request":  asked,
		"response": map[string]any{"key": bundle},
	}, s.releaseHeaders())
	return map[string]string{"value": value}, err
}

func (s *Service) releaseHeaders() map[jose.HeaderKey]any {
	headers := map[jose.HeaderKey]any{
		"x5c":               s.Signer.X5C(),
		"x5t#S256":          s.Signer.Thumbprint256(),
		wire.SimulatedClaim: "true",
	}
	if s.Kind != ManagedHSM {
		thumbprint, _ := hex.DecodeString(s.Signer.KeyID()) // it is hex
		headers["x5t"] = base64.RawURLEncoding.EncodeToString(thumbprint)
		headers["typ"] = "JWT"
	}
	return headers
}
