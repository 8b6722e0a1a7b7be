package format

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// VolumeID names a volume: 16 random bytes.
type VolumeID [16]byte

// ObjectID names a data object: 16 random bytes, so that the name in the store
// says nothing.
type ObjectID [16]byte

// RunID names one run of a writer: 16 random bytes.
type RunID [16]byte

// Digest is the SHA-256 of a sealed manifest or journal record.
type Digest [sha256.Size]byte

// NewVolumeID returns a random volume id.
func NewVolumeID() VolumeID { return VolumeID(random16()) }

// NewObjectID returns a random object id.
func NewObjectID() ObjectID { return ObjectID(random16()) }

// NewRunID returns a random run id.
func NewRunID() RunID { return RunID(random16()) }

func random16() (b [16]byte) {
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return b
}

func (v VolumeID) String() string { return hex.EncodeToString(v[:]) }
func (o ObjectID) String() string { return hex.EncodeToString(o[:]) }
func (r RunID) String() string    { return hex.EncodeToString(r[:]) }
func (d Digest) String() string   { return hex.EncodeToString(d[:]) }

// ParseVolumeID reads the 32 hex digits that VolumeID.String writes.
func ParseVolumeID(s string) (VolumeID, error) {
	var v VolumeID
	if err := parseHex(v[:], s); err != nil {
		return v, fmt.Errorf("volume id %q: %w", s, err)
	}
	return v, nil
}

// ParseDigest reads the 64 hex digits that Digest.String writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if err := parseHex(d[:], s); err != nil {
		return d, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}

func parseHex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) || s != hex.EncodeToString(b) {
		return fmt.Errorf("want %d lower-case hex digits", 2*len(dst))
	}
	copy(dst, b)
	return nil
}

// Prefixes of the names in the store, FORMAT.md §2.
const (
	DataPrefix     = "data/"
	ManifestPrefix = "manifest/"
	JournalPrefix  = "journal/"
	// SignaturePrefix begins the names of the writer's signatures.
	SignaturePrefix = "signature/"
)

// ObjectName returns the name of a data object in the store.
func ObjectName(id ObjectID) string { return DataPrefix + id.String() }

// ManifestName returns the name of the manifest of an epoch in the store.
func ManifestName(epoch uint64) string { return fmt.Sprintf("%s%016x", ManifestPrefix, epoch) }

// SignatureName returns the name in the store of the signature over the
// reference of an epoch.
func SignatureName(epoch uint64) string { return fmt.Sprintf("%s%016x", SignaturePrefix, epoch) }

// RecordName returns the name of a journal record in the store.
func RecordName(epoch, sequence uint64) string {
	return fmt.Sprintf("%s%016x-%016x", JournalPrefix, epoch, sequence)
}

// ParseManifestName returns the epoch that a manifest's name states.
func ParseManifestName(name string) (epoch uint64, ok bool) {
	n, err := fmt.Sscanf(name, ManifestPrefix+"%016x", &epoch)
	return epoch, err == nil && n == 1 && ManifestName(epoch) == name
}

// ParseRecordName returns the epoch and sequence that a journal record's name
// states.
func ParseRecordName(name string) (epoch, sequence uint64, ok bool) {
	n, err := fmt.Sscanf(name, JournalPrefix+"%016x-%016x", &epoch, &sequence)
	return epoch, sequence, err == nil && n == 2 && RecordName(epoch, sequence) == name
}
