package snp

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
)

// ledgerTag begins as no other statement's message does.
const ledgerTag = "cloister ledger v1"

// Ledger binds what an attested ledger is known by: Key signs its checkpoints,
// TLSKey its connections.
type Ledger struct {
	Key    string // verifier key of a C2SP signed note
	TLSKey []byte // SubjectPublicKeyInfo, DER
}

func (Ledger) statement() {}

// ReportData is SHA-512 of the tag and the fields, each after its length as a
// 32-bit big-endian number, as an Identity's is under another tag: so neither can
// stand for the other, and KeyRelease's form for none of the two.
func (l Ledger) ReportData() ([64]byte, error) {
	if l.Key == "" || len(l.TLSKey) == 0 {
		return [64]byte{}, errors.New("a ledger's statement needs its key and a TLS key")
	}
	message := []byte(ledgerTag)
	for _, field := range [][]byte{[]byte(l.Key), l.TLSKey} {
		message = binary.BigEndian.AppendUint32(message, uint32(len(field)))
		message = append(message, field...)
	}
	return sha512.Sum512(message), nil
}
