package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// ReferencePayloadType is the DSSE payload type of a volume reference, FORMAT.md
// §5: so no statement can stand in for a reference, nor a reference for one.
const ReferencePayloadType = "application/vnd.cloister.reference.v1"

// MaxReferenceSignature is far above what a signed reference takes, in bytes.
const MaxReferenceSignature = 4 << 10

// SignReference returns a DSSE envelope over a volume reference, which holds the
// check value of the DEK: who wrote the volume says so.
func SignReference(reference string, signer Signer) ([]byte, error) {
	raw, err := signer.SignMessage(preAuth(ReferencePayloadType, []byte(reference)))
	if err != nil {
		return nil, fmt.Errorf("signing a volume reference: %w", err)
	}
	return encode(envelope{
		PayloadType: ReferencePayloadType,
		Payload:     base64.StdEncoding.EncodeToString([]byte(reference)),
		Signatures:  []envelopeSignature{{KeyID: signer.Public().Fingerprint(), Sig: base64.StdEncoding.EncodeToString(raw)}},
	})
}

// VerifyReference checks that an envelope is over exactly this reference, and
// signed with key.
func VerifyReference(signed []byte, reference string, key PublicKey) error {
	if len(signed) > MaxReferenceSignature {
		return fmt.Errorf("a signed reference of %d bytes, at most %d are allowed", len(signed), MaxReferenceSignature)
	}
	var env envelope
	if err := json.Unmarshal(signed, &env); err != nil {
		return fmt.Errorf("parsing the envelope: %w", err)
	}
	again, err := encode(env)
	switch {
	case err != nil || !bytes.Equal(again, signed):
		return errors.New("the envelope is not in its canonical encoding")
	case env.PayloadType != ReferencePayloadType:
		return fmt.Errorf("payload type %q, want %q", env.PayloadType, ReferencePayloadType)
	case env.Payload != base64.StdEncoding.EncodeToString([]byte(reference)):
		return errors.New("the signature is over another reference")
	case len(env.Signatures) != 1 || env.Signatures[0].KeyID != key.Fingerprint():
		return fmt.Errorf("it is not signed with key %s", key.Fingerprint())
	}
	raw, err := decodeBase64(env.Signatures[0].Sig)
	if err != nil {
		return fmt.Errorf("decoding the signature: %w", err)
	}
	return key.verify(preAuth(ReferencePayloadType, []byte(reference)), raw)
}
