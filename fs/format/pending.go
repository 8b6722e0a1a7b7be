package format

import "fmt"

// PendingPrefix begins the names of pending records. FORMAT.md §2.
const PendingPrefix = "pending/"

// PendingName returns the name of a pending record in the store.
func PendingName(run RunID, sequence uint64) string {
	return fmt.Sprintf("%s%s-%016x", PendingPrefix, run, sequence)
}

// SealPending seals what a Builder made as a pending record: the files, or
// parts of files, that are in one data object of an epoch being made. It sets
// the preamble's kind and check value. The kind is part of what the stream is
// sealed as, so nobody can pass the record off as the manifest of an epoch.
func SealPending(dek *DEK, p Preamble, plaintext []byte) []byte {
	p.Kind = KindPending
	sealed, _ := p.seal(dek, NewHeader(), plaintext)
	return sealed
}

// OpenPending opens a pending record, as OpenManifest does a manifest.
func OpenPending(sealed []byte, dek *DEK) (*Manifest, error) {
	return openTree(sealed, dek, KindPending, nil)
}
