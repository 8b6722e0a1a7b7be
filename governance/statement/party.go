package statement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Document is what a party hands to the others, out of band: they compare the
// fingerprint over another way before they rely on it.
type Document struct {
	Fingerprint string `json:"fingerprint"`
	Party
	Kind string `json:"type"`
}

const documentKind = "cloister-party/v1"

// maxDocument is far above what a document with its three keys takes.
const maxDocument = 16 << 10

// EncodeDocument returns the party's document as JSON with a new line at its end.
func EncodeDocument(p Party) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(Document{Fingerprint: p.Fingerprint(), Party: p, Kind: documentKind}, "", "  ")
	return append(raw, '\n'), err
}

// ParseDocument parses a party's document, strictly, and checks that its
// fingerprint is that of its key.
func ParseDocument(raw []byte) (Party, error) {
	if len(raw) > maxDocument {
		return Party{}, fmt.Errorf("a party document of %d bytes, at most %d are allowed", len(raw), maxDocument)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var doc Document
	if err := dec.Decode(&doc); err != nil {
		return Party{}, fmt.Errorf("parsing a party document: %w", err)
	}
	if dec.More() {
		return Party{}, errors.New("more than one value in a party document")
	}
	if doc.Kind != documentKind {
		return Party{}, fmt.Errorf("type %q, want %q", doc.Kind, documentKind)
	}
	if err := doc.Party.check(); err != nil {
		return Party{}, err
	}
	if doc.Fingerprint != doc.Party.Fingerprint() {
		return Party{}, fmt.Errorf("the document says fingerprint %q, its key has %q", doc.Fingerprint, doc.Party.Fingerprint())
	}
	return doc.Party, nil
}

// DocumentFingerprint returns "sha256:" and a hash over the party's name and all
// of its public keys: what the holders of a document compare.
func (p Party) DocumentFingerprint() (string, error) {
	raw, err := encode(p)
	return Digest(append([]byte("cloister party v1\n"), raw...)), err
}

func (p Party) check() error {
	return Contract{Parties: []Party{p}}.checkParties()
}
