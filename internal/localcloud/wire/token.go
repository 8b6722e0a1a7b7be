package wire

import (
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// tokenLeeway is the difference between two machines' clocks that the real
// services accept in exp and nbf.
const tokenLeeway = 5 * time.Minute

// Signer signs RS256 tokens with one key and its certificates, leaf first.
type Signer struct {
	Key   *rsa.PrivateKey
	Chain []*x509.Certificate
}

// KeyID names the signer's key: the SHA-1 of its certificate, as the services do.
func (s Signer) KeyID() string {
	sum := sha1.Sum(s.Chain[0].Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// Thumbprint256 is the certificate's x5t#S256 (RFC 7515, section 4.1.8).
func (s Signer) Thumbprint256() string {
	sum := sha256.Sum256(s.Chain[0].Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// X5C is the chain as RFC 7515, section 4.1.6, writes it.
func (s Signer) X5C() []string {
	out := make([]string, len(s.Chain))
	for i, c := range s.Chain {
		out[i] = base64.StdEncoding.EncodeToString(c.Raw)
	}
	return out
}

// Sign returns payload as a compact JWS under the extra headers given.
func (s Signer) Sign(payload any, headers map[jose.HeaderKey]any) (string, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.Key, KeyID: s.KeyID()}},
		&jose.SignerOptions{ExtraHeaders: headers})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(data)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Verify checks that one of keys, by key id, signed token with RS256, and that
// now is within its exp and nbf. It returns the payload.
func Verify(token string, keys map[string]*rsa.PublicKey, now time.Time) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, fmt.Errorf("token is not an RS256 JWS: %w", err)
	}
	key := keys[signed.Signatures[0].Header.KeyID]
	if key == nil {
		return nil, errors.New("token is signed by an unknown key")
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("token signature: %w", err)
	}
	return payload, checkTimes(payload, now)
}

func checkTimes(payload []byte, now time.Time) error {
	var times struct {
		Expires   float64 `json:"exp"`
		NotBefore float64 `json:"nbf"`
	}
	if err := json.Unmarshal(payload, &times); err != nil {
		return fmt.Errorf("token claims: %w", err)
	}
	if times.Expires == 0 {
		return errors.New("token has no exp")
	}
	if exp := time.Unix(int64(times.Expires), 0); now.After(exp.Add(tokenLeeway)) {
		return fmt.Errorf("token expired at %s", exp.UTC().Format(time.RFC3339))
	}
	if nbf := time.Unix(int64(times.NotBefore), 0); now.Before(nbf.Add(-tokenLeeway)) {
		return fmt.Errorf("token is not valid before %s", nbf.UTC().Format(time.RFC3339))
	}
	return nil
}
