// Package envelope is the wrapped DEK: the one thing that an owner's tools and
// the runtime exchange about a volume's key.
//
// Life of a DEK: the owner's tools call Wrap with the public half of the KEK
// and store the result as a secret of the vault. The runtime fetches the
// secret, parses it, has the KEK released and calls Open, stating which volume,
// key version and check value it expects; it gets the DEK or a refusal.
//
// Wrapping is public-key encryption and authenticates nothing: whoever may
// write the secret can put in a DEK of their own. What is pinned between the
// parties is the check value, so Open never returns a DEK that does not have
// the expected one.
//
// Two forms are read: our own JSON, and the bare base64 of the ciphertext that
// Azure's clean room stores (no label, SHA-256).
package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"

	"cloister/internal/fault"
)

// Algorithm is the only wrapping algorithm of version 1: RSA-OAEP with SHA-256
// as hash and in MGF1 (RFC 8017).
const Algorithm = "RSA-OAEP-SHA256"

// MaxSize bounds a stored envelope, in bytes. The largest legal one (RSA-4096,
// longest KEK id) is below 2.5 KiB; a vault's secret may hold 25 KiB.
const MaxSize = 4096

// maxKEKID bounds the KEK's identifier: a vault's host (at most 253 bytes), a
// key name (127) and a version (32) with room for separators.
const maxKEKID = 512

// Envelope is a wrapped DEK. Nothing in it is secret, and nothing in it is
// authentic until Open has compared it.
type Envelope struct {
	Bare       bool     // Azure clean room's form: only Wrapped is set
	VolumeID   [16]byte // the volume whose DEK this is
	KeyVersion uint32   // the DEK's version, from 1
	CheckValue [32]byte // see CheckValue
	KEKID      string   // the wrapping key's URL, for people and for rotation
	Wrapped    []byte   // RSA-OAEP ciphertext, as long as the KEK's modulus
}

// wire is the JSON form; every field is required.
type wire struct {
	Version    int    `json:"version"`
	VolumeID   string `json:"volumeId"`
	KeyVersion uint32 `json:"keyVersion"`
	CheckValue string `json:"checkValue"`
	Algorithm  string `json:"algorithm"`
	KEKID      string `json:"kekId"`
	Wrapped    string `json:"wrapped"`
}

// Marshal returns the JSON form of an envelope made by Wrap.
func (e *Envelope) Marshal() ([]byte, error) {
	return json.Marshal(wire{
		Version:    1,
		VolumeID:   hex.EncodeToString(e.VolumeID[:]),
		KeyVersion: e.KeyVersion,
		CheckValue: hex.EncodeToString(e.CheckValue[:]),
		Algorithm:  Algorithm,
		KEKID:      e.KEKID,
		Wrapped:    base64.RawURLEncoding.EncodeToString(e.Wrapped),
	})
}

// Parse reads either form. JSON must be, white space aside, exactly what Marshal
// writes, so there is one spelling of each envelope and no second reading of
// repeated or oddly cased fields.
func Parse(data []byte) (*Envelope, error) {
	if len(data) > MaxSize {
		return nil, malformed("it has %d bytes, more than the %d allowed", len(data), MaxSize)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, malformed("it is empty")
	}
	if data[0] != '{' {
		return parseBare(data)
	}
	return parseJSON(data)
}

func parseBare(data []byte) (*Envelope, error) {
	wrapped, err := base64.StdEncoding.Strict().DecodeString(string(data))
	if err != nil {
		return nil, malformed("it is neither JSON nor base64")
	}
	if err := checkWrappedSize(wrapped); err != nil {
		return nil, err
	}
	return &Envelope{Bare: true, Wrapped: wrapped}, nil
}

func parseJSON(data []byte) (*Envelope, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var w wire
	if err := dec.Decode(&w); err != nil {
		return nil, malformed("%v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, malformed("bytes follow the JSON object")
	}
	switch {
	case w.Version != 1:
		return nil, malformed("version %d is not 1", w.Version)
	case w.Algorithm != Algorithm:
		return nil, malformed("algorithm %q is not %s", w.Algorithm, Algorithm)
	case w.KeyVersion == 0:
		return nil, malformed("key versions begin at 1")
	case w.KEKID == "" || len(w.KEKID) > maxKEKID || strings.ContainsFunc(w.KEKID, notPrintable):
		return nil, malformed("the KEK's id must have 1 to %d printable ASCII characters", maxKEKID)
	}
	e := &Envelope{KeyVersion: w.KeyVersion, KEKID: w.KEKID}
	if err := decodeHex(e.VolumeID[:], w.VolumeID, "volume id"); err != nil {
		return nil, err
	}
	if err := decodeHex(e.CheckValue[:], w.CheckValue, "check value"); err != nil {
		return nil, err
	}
	wrapped, err := base64.RawURLEncoding.Strict().DecodeString(w.Wrapped)
	if err != nil || strings.ContainsAny(w.Wrapped, "\r\n") {
		return nil, malformed("the wrapped key is not unpadded base64url")
	}
	if err := checkWrappedSize(wrapped); err != nil {
		return nil, err
	}
	e.Wrapped = wrapped
	if err := canonical(e, data); err != nil {
		return nil, err
	}
	return e, nil
}

func canonical(e *Envelope, data []byte) error {
	var given bytes.Buffer
	if err := json.Compact(&given, data); err != nil {
		return malformed("%v", err)
	}
	written, err := e.Marshal()
	if err != nil {
		return malformed("%v", err)
	}
	if !bytes.Equal(given.Bytes(), written) {
		return malformed("it is not written the one way an envelope is written")
	}
	return nil
}

func notPrintable(r rune) bool { return r <= ' ' || r > '~' }

func decodeHex(dst []byte, text, what string) error {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(dst) || text != strings.ToLower(text) {
		return malformed("the %s must be %d lower-case hex digits", what, 2*len(dst))
	}
	copy(dst, raw)
	return nil
}

// checkWrappedSize admits the ciphertexts of RSA-2048 to RSA-4096.
func checkWrappedSize(wrapped []byte) error {
	if n := len(wrapped); n < 256 || n > 512 {
		return malformed("the wrapped key has %d bytes; RSA-2048 to RSA-4096 make 256 to 512", n)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "provision the volume's key again with the owner's tools",
		"the wrapped DEK is not an envelope: "+format, args...)
}
