package kbs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
)

// session is one attestation: the broker's cookie, which stands for it, and the
// key that it encrypts resources to.
type session struct {
	cookie string
	key    *ecdsa.PrivateKey
	jwk    publicJWK
}

// publicJWK is the protocol's form of an EC key, its members in canonical order.
type publicJWK struct {
	Alg string `json:"alg"`
	Crv string `json:"crv"`
	KTY string `json:"kty"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// newKey makes the session's key: P-256, the protocol's own choice where a
// client makes none, has no less than the 128 bits of strength of all here.
func (s *session) newKey() (err error) {
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("making the session's key: %w", err)
	}
	point, err := s.key.PublicKey.Bytes() // 4 ‖ X ‖ Y
	if err != nil {
		return err
	}
	enc := base64.RawURLEncoding.EncodeToString
	s.jwk = publicJWK{Alg: string(keyAlgorithm), Crv: "P-256", KTY: "EC", X: enc(point[1:33]), Y: enc(point[33:])}
	return nil
}

// destroy zeroes the private half.
func (s *session) destroy() {
	if s.key != nil && s.key.D != nil {
		clear(s.key.D.Bits())
		s.key.D.SetInt64(0)
	}
}

const redacted = "[key broker session]"

func (session) String() string             { return redacted }
func (session) GoString() string           { return redacted }
func (session) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }
func (session) LogValue() slog.Value       { return slog.StringValue(redacted) }
