package infra

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"cloister/internal/fault"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// PayloadType is the DSSE payload type. What it names changes only with the
// number in it.
const PayloadType = "application/vnd.cloister.infrastructure.v1+json"

// Signer signs an index: the key of whoever builds the images.
type Signer interface {
	// SignMessage signs the message itself, not a digest of it.
	SignMessage(message []byte) ([]byte, error)
}

// Sign returns the envelope, which Open opens with the signer's public key, a
// SubjectPublicKeyInfo in DER. Errors are of kind fault.Usage where the index is
// not well formed.
func Sign(ctx context.Context, x Index, signer Signer, spki []byte) ([]byte, error) {
	if err := x.Check(); err != nil {
		return nil, fault.Errorf(fault.Usage, "correct the index", "signing infrastructure details: %w", err)
	}
	payload, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	envelopes, err := dsse.NewEnvelopeSigner(key{signer: signer, spki: spki})
	if err != nil {
		return nil, err
	}
	envelope, err := envelopes.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("signing infrastructure details: %w", err)
	}
	out, err := json.Marshal(envelope)
	if err != nil {
		return nil, err
	}
	signed := append(out, '\n')
	if _, err := Open(ctx, signed, spki); err != nil {
		return nil, fmt.Errorf("signing infrastructure details: reading back what was signed: %w", err)
	}
	return signed, nil
}

// Open returns an index that the key has signed. Errors are of kind
// fault.Refused, and fault.Usage for the key.
func Open(ctx context.Context, signed, spki []byte) (Index, error) {
	public, err := parseKey(spki)
	if err != nil {
		return Index{}, fault.Errorf(fault.Usage, "give the public key of whoever builds the images", "%w", err)
	}
	x, err := open(ctx, signed, key{public: public, spki: spki})
	if err != nil {
		return Index{}, fault.Errorf(fault.Refused, "get the infrastructure details again, and their key from who signs them", "opening infrastructure details: %w", err)
	}
	return x, nil
}

func open(ctx context.Context, signed []byte, k key) (Index, error) {
	if len(signed) > 2*maxSize {
		return Index{}, fmt.Errorf("%d bytes, more than %d", len(signed), 2*maxSize)
	}
	var envelope dsse.Envelope
	if err := json.Unmarshal(signed, &envelope); err != nil {
		return Index{}, err
	}
	if envelope.PayloadType != PayloadType {
		return Index{}, fmt.Errorf("payload type %.80q, not %q", envelope.PayloadType, PayloadType)
	}
	if len(envelope.Signatures) != 1 {
		return Index{}, fmt.Errorf("%d signatures, not 1", len(envelope.Signatures))
	}
	verifier, err := dsse.NewEnvelopeVerifier(k)
	if err != nil {
		return Index{}, err
	}
	if _, err := verifier.Verify(ctx, &envelope); err != nil {
		return Index{}, err
	}
	payload, err := envelope.DecodeB64Payload()
	if err != nil {
		return Index{}, err
	}
	return parse(payload)
}

// key is what the DSSE library asks of one.
type key struct {
	signer Signer
	public crypto.PublicKey
	spki   []byte
}

func parseKey(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("parsing the key of the infrastructure details: %w", err)
	}
	again, err := x509.MarshalPKIXPublicKey(public)
	if err != nil || !bytes.Equal(again, spki) {
		return nil, errors.New("the key of the infrastructure details is not in its one encoding")
	}
	switch k := public.(type) {
	case ed25519.PublicKey:
		return k, nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return k, nil
		}
	}
	return nil, errors.New("the key of the infrastructure details is neither ECDSA P-256 nor Ed25519")
}

func (k key) Sign(_ context.Context, message []byte) ([]byte, error) {
	return k.signer.SignMessage(message)
}

// Verify gets the message in DSSE's pre-authentication encoding, which frames
// type and payload: no other pair has the same signed bytes.
func (k key) Verify(_ context.Context, message, signature []byte) error {
	ok := false
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		ok = ecdsa.VerifyASN1(public, sum[:], signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(public, message, signature)
	}
	if !ok {
		return errors.New("the signature is not by this key")
	}
	return nil
}

func (k key) KeyID() (string, error) {
	sum := sha256.Sum256(k.spki)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func (k key) Public() crypto.PublicKey { return k.public }
