package envelope

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"cloister/internal/fault"
)

const labelPrefix = "cloister wrap v1"

// label binds the ciphertext to its volume and key version: every part has a
// fixed length, so no two pairs share a label.
func label(volumeID [16]byte, keyVersion uint32) []byte {
	out := make([]byte, 0, len(labelPrefix)+16+4)
	out = append(out, labelPrefix...)
	out = append(out, volumeID[:]...)
	return binary.BigEndian.AppendUint32(out, keyVersion)
}

// Wrap seals a volume's DEK to the KEK's public half.
func Wrap(kek *rsa.PublicKey, kekID string, dek *DEK, volumeID [16]byte, keyVersion uint32) (*Envelope, error) {
	if keyVersion == 0 {
		return nil, fmt.Errorf("wrapping the DEK of volume %x: key versions begin at 1", volumeID)
	}
	// OAEP hides the key and gives a chosen-ciphertext-secure box; it is safe
	// without a signature because Open compares the pinned check value.
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, kek, dek.Bytes(), label(volumeID, keyVersion))
	if err != nil {
		return nil, fmt.Errorf("wrapping the DEK of volume %x: %w", volumeID, err)
	}
	e := &Envelope{
		VolumeID: volumeID, KeyVersion: keyVersion, KEKID: kekID,
		CheckValue: CheckValue(dek.Bytes(), volumeID), Wrapped: wrapped,
	}
	// What Parse would refuse must not be stored.
	data, err := e.Marshal()
	if err != nil {
		return nil, err
	}
	if _, err := Parse(data); err != nil {
		return nil, err
	}
	return e, nil
}

// Expected is what the contract pins about a volume's key.
type Expected struct {
	VolumeID   [16]byte
	KeyVersion uint32
	CheckValue [32]byte
}

// Open unwraps the DEK and returns it only when it is the expected one. The
// envelope's own words are compared first so that the refusal can say which of
// them is wrong; the DEK's check value decides.
func (e *Envelope) Open(kek *rsa.PrivateKey, want Expected) (*DEK, error) {
	if err := e.Matches(want); err != nil {
		return nil, err
	}
	var l []byte
	if !e.Bare {
		l = label(want.VolumeID, want.KeyVersion)
	}
	key, err := rsa.DecryptOAEP(sha256.New(), nil, kek, e.Wrapped, l)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "wrap the DEK again with the KEK's public half",
			"the wrapped DEK of volume %x does not open with the released KEK", want.VolumeID)
	}
	defer clear(key)
	return accept(key, want)
}

// Matches compares what the envelope says about itself with what is expected,
// naming every difference. A bare envelope says nothing.
func (e *Envelope) Matches(want Expected) error {
	if e.Bare {
		return nil
	}
	var wrong []string
	if e.VolumeID != want.VolumeID {
		wrong = append(wrong, fmt.Sprintf("volume id %x, expected %x", e.VolumeID, want.VolumeID))
	}
	if e.KeyVersion != want.KeyVersion {
		wrong = append(wrong, fmt.Sprintf("key version %d, expected %d", e.KeyVersion, want.KeyVersion))
	}
	if e.CheckValue != want.CheckValue {
		wrong = append(wrong, fmt.Sprintf("check value %s…, expected %s…", short(e.CheckValue), short(want.CheckValue)))
	}
	if wrong == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "the vault's secret holds another volume's key, or another version of it: store the one the contract pins",
		"the wrapped DEK is not the one agreed: %s", strings.Join(wrong, "; "))
}

// accept turns unwrapped bytes into a DEK when their check value, compared in
// constant time, is the pinned one.
func accept(key []byte, want Expected) (*DEK, error) {
	dek, err := NewDEK(key)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "", "unwrapping the DEK of volume %x: %w", want.VolumeID, err)
	}
	got := CheckValue(dek.Bytes(), want.VolumeID)
	if subtle.ConstantTimeCompare(got[:], want.CheckValue[:]) != 1 {
		dek.Destroy()
		return nil, fault.Errorf(fault.Refused, "somebody replaced the wrapped DEK, or the contract pins another one: ask the volume's owner",
			"the DEK of volume %x does not have the agreed check value", want.VolumeID)
	}
	return dek, nil
}

// short is the start of a check value: enough to tell two apart on a terminal.
func short(v [32]byte) string { return hex.EncodeToString(v[:4]) }
