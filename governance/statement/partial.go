package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Partial is a statement of several signers, not all of whom have signed. It
// goes from one to the next as a file, and is no entry before it is complete.
type Partial struct {
	Statement
	payload    []byte
	signatures map[string][]byte // by fingerprint
}

// NewPartial prepares a statement that everybody in s.Signers is to sign.
func NewPartial(s Statement) (*Partial, error) {
	s.Signers = slices.SortedFunc(slices.Values(s.Signers), func(a, b SignerID) int {
		return bytes.Compare([]byte(a.Key), []byte(b.Key))
	})
	payload, err := s.payload()
	if err != nil {
		return nil, err
	}
	return &Partial{s, payload, map[string][]byte{}}, nil
}

// Sign adds a signature of one of the signers.
func (p *Partial) Sign(signer Signer) error {
	fingerprint := signer.Public().Fingerprint()
	if !slices.ContainsFunc(p.Signers, func(id SignerID) bool { return id.Key == fingerprint }) {
		return fmt.Errorf("the statement does not ask for a signature by %s", fingerprint)
	}
	raw, err := signer.SignMessage(preAuth(PayloadType, p.payload))
	if err != nil {
		return fmt.Errorf("signing with %s: %w", fingerprint, err)
	}
	p.signatures[fingerprint] = raw
	return nil
}

// Missing returns the fingerprints of those who have yet to sign.
func (p *Partial) Missing() (keys []string) {
	for _, id := range p.Signers {
		if p.signatures[id.Key] == nil {
			keys = append(keys, id.Key)
		}
	}
	return keys
}

// Entry returns the statement as it is: an entry of the log where nobody is
// missing, and otherwise what ParsePartial reads.
func (p *Partial) Entry() ([]byte, error) {
	env := envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(p.payload), Signatures: []envelopeSignature{}}
	for _, id := range p.Signers {
		if raw := p.signatures[id.Key]; raw != nil {
			env.Signatures = append(env.Signatures, envelopeSignature{KeyID: id.Key, Sig: base64.StdEncoding.EncodeToString(raw)})
		}
	}
	return encode(env)
}

// ParsePartial parses what Entry made. Nothing of it is authentic: whoever adds
// a signature looks at the statement first, and the log judges the rest.
func ParsePartial(raw []byte) (*Partial, error) {
	if len(raw) > MaxEntry {
		return nil, fmt.Errorf("an entry of %d bytes, at most %d are allowed", len(raw), MaxEntry)
	}
	var env envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("parsing the envelope: %w", err)
	}
	if env.PayloadType != PayloadType {
		return nil, fmt.Errorf("payload type %q, want %q", env.PayloadType, PayloadType)
	}
	payload, err := decodeBase64(env.Payload)
	if err != nil {
		return nil, fmt.Errorf("decoding the payload: %w", err)
	}
	s, err := parse(payload)
	if err != nil {
		return nil, err
	}
	p := &Partial{s, payload, map[string][]byte{}}
	if err := p.take(env.Signatures); err != nil {
		return nil, err
	}
	if again, err := p.Entry(); err != nil || !bytes.Equal(again, raw) {
		return nil, errors.New("the envelope is not in its canonical encoding")
	}
	return p, nil
}

func (p *Partial) take(signatures []envelopeSignature) error {
	for i, sig := range signatures {
		raw, err := decodeBase64(sig.Sig)
		if err != nil || len(raw) == 0 {
			return fmt.Errorf("signature %d is empty or not base64", i)
		}
		p.signatures[sig.KeyID] = raw
	}
	return nil
}
