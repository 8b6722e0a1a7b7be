package statement

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// PayloadType is the DSSE payload type. What it names changes only with the
// number at its end.
const PayloadType = "application/vnd.cloister.statement.v1+json"

// envelope is a DSSE envelope, members in rising order. It is written here
// because the library that has it brings an SSH implementation into the
// enclave; the test opens our envelopes with that library.
type envelope struct {
	Payload     string              `json:"payload"`
	PayloadType string              `json:"payloadType"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// preAuth is DSSE's pre-authentication encoding, version 1. It frames both parts
// with their lengths, so no other pair of type and payload has the same signed
// bytes.
func preAuth(payloadType string, payload []byte) []byte {
	head := "DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " "
	return append([]byte(head), payload...)
}

// Signature is one signer of a statement to be made.
type Signature struct {
	Signer  Signer
	Counter uint64
}

// Sign completes s with its signers and returns the entry: the DSSE envelope
// as it goes into the log. s.Signers is ignored.
func Sign(s Statement, signatures ...Signature) ([]byte, error) {
	signatures = slices.Clone(signatures)
	slices.SortFunc(signatures, func(a, b Signature) int {
		return cmp.Compare(a.Signer.Public().Fingerprint(), b.Signer.Public().Fingerprint())
	})
	s.Signers = nil
	for _, sig := range signatures {
		s.Signers = append(s.Signers, SignerID{Counter: sig.Counter, Key: sig.Signer.Public().Fingerprint()})
	}
	payload, err := s.payload()
	if err != nil {
		return nil, err
	}
	env := envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(payload)}
	for i, sig := range signatures {
		raw, err := sig.Signer.SignMessage(preAuth(PayloadType, payload))
		if err != nil {
			return nil, fmt.Errorf("signing with %s: %w", s.Signers[i].Key, err)
		}
		env.Signatures = append(env.Signatures, envelopeSignature{
			KeyID: s.Signers[i].Key, Sig: base64.StdEncoding.EncodeToString(raw)})
	}
	entry, err := encode(env)
	if err != nil {
		return nil, err
	}
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("the statement makes an entry of %d bytes, at most %d are allowed", len(entry), MaxEntry)
	}
	return entry, nil
}

// maxSignature is the longest signature in bytes of the keys that there are: P-256's
// in ASN.1 has 72 at most, Ed25519's 64.
const maxSignature = 72

// Size returns how many bytes the entry of a statement that one key signs has at most.
// s.Signers is ignored. It is more than MaxEntry for what Sign would refuse.
func Size(s Statement) (int, error) {
	s.Signers = []SignerID{{Counter: maxCounter, Key: digestOf([sha256.Size]byte{})}}
	payload, err := s.payload()
	if err != nil {
		return 0, err
	}
	entry, err := encode(envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []envelopeSignature{{KeyID: s.Signers[0].Key, Sig: base64.StdEncoding.EncodeToString(make([]byte, maxSignature))}}})
	return len(entry), err
}

// Opened is an entry that is well formed. Nothing of it is authentic before
// Verify has said so.
type Opened struct {
	Statement
	message    []byte
	signatures [][]byte
	leaf       tlog.Hash
	// ahead holds the fingerprints of the keys that VerifyAhead found to be right.
	ahead []string
}

// Leaf returns the entry's RFC 6962 leaf hash.
func (o *Opened) Leaf() tlog.Hash { return o.leaf }

// EntryDigest returns what the function EntryDigest returns for the entry.
func (o *Opened) EntryDigest() string { return digestOf(o.leaf) }

// Open parses an entry. It accepts only what Sign makes, byte for byte, up to
// the signatures themselves.
func Open(entry []byte) (*Opened, error) {
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("an entry of %d bytes, at most %d are allowed", len(entry), MaxEntry)
	}
	env, err := openEnvelope(entry)
	if err != nil {
		return nil, err
	}
	payload, err := decodeBase64(env.Payload)
	if err != nil {
		return nil, fmt.Errorf("decoding the payload: %w", err)
	}
	s, err := parse(payload)
	if err != nil {
		return nil, err
	}
	opened := &Opened{Statement: s, message: preAuth(PayloadType, payload), leaf: tlog.RecordHash(entry)}
	return opened, opened.takeSignatures(env.Signatures)
}

func openEnvelope(entry []byte) (env envelope, err error) {
	r := &reader{rest: entry}
	if env = r.envelope(); r.done() {
		return env, nil
	}
	env = envelope{}
	if err := json.Unmarshal(entry, &env); err != nil {
		return env, fmt.Errorf("parsing the envelope: %w", err)
	}
	if env.PayloadType != PayloadType {
		return env, fmt.Errorf("payload type %q, want %q", env.PayloadType, PayloadType)
	}
	if again, err := encode(env); err != nil || !bytes.Equal(again, entry) {
		return env, errors.New("the envelope is not in its canonical encoding")
	}
	return env, nil
}

func (o *Opened) takeSignatures(signatures []envelopeSignature) error {
	if len(signatures) != len(o.Signers) {
		return fmt.Errorf("%d signatures for %d signers", len(signatures), len(o.Signers))
	}
	for i, sig := range signatures {
		if sig.KeyID != o.Signers[i].Key {
			return fmt.Errorf("signature %d is by %q, the statement names %q", i, sig.KeyID, o.Signers[i].Key)
		}
		raw, err := decodeBase64(sig.Sig)
		if err != nil {
			return fmt.Errorf("decoding signature %d: %w", i, err)
		}
		o.signatures = append(o.signatures, raw)
	}
	return nil
}

// decodeBase64 accepts the one standard form with padding.
func decodeBase64(s string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(s, "\r\n") { // which the decoder passes over
		return nil, errors.New("base64 with line breaks")
	}
	return raw, nil
}

// Verify checks the signature of the i-th signer with key, which the caller
// trusts for it.
func (o *Opened) Verify(i int, key PublicKey) error {
	if i < 0 || i >= len(o.Signers) {
		return fmt.Errorf("no signer %d", i)
	}
	fp := key.Fingerprint()
	if fp != o.Signers[i].Key {
		return fmt.Errorf("key %s was given for signer %s", fp, o.Signers[i].Key)
	}
	if slices.Contains(o.ahead, fp) {
		return nil
	}
	return key.verify(o.message, o.signatures[i])
}

// VerifyAhead does the work of Verify before it is known whether the key may sign
// this: Verify with a key that was right here costs nothing more. It decides
// nothing, as a signer's fingerprint fits one key only.
func (o *Opened) VerifyAhead(keyOf func(fingerprint string) (PublicKey, bool)) {
	for i, id := range o.Signers {
		if key, ok := keyOf(id.Key); ok && o.Verify(i, key) == nil {
			o.ahead = append(o.ahead, id.Key)
		}
	}
}

// EntryDigest returns "sha256:" and the RFC 6962 leaf hash of an entry in
// hexadecimal: its name in a run's chain, and in proofs of the log.
func EntryDigest(entry []byte) string { return digestOf(tlog.RecordHash(entry)) }

func digestOf(h [sha256.Size]byte) string { return "sha256:" + hex.EncodeToString(h[:]) }
