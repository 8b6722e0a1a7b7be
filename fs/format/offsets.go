package format

import "math/bits"

// All offset arithmetic is in this file. A sealedOff counts bytes of an object
// (or of the stream in a manifest), a plainOff bytes of its plaintext, a
// segment is an index.

const (
	headerSize = 40 // length byte, salt, nonce prefix: Tink's AES-GCM-HKDF streaming header
	tagSize    = 16 // AES-GCM
)

// Suite names AEAD and segment size of a stream. FORMAT.md §4.
type Suite uint8

const (
	// Suite16K is AES-256-GCM-HKDF-SHA256 with sealed segments of 16 KiB: what
	// writers use.
	Suite16K Suite = 1
	// Suite64K is the same with sealed segments of 64 KiB.
	Suite64K Suite = 2
)

// Known reports whether this version of the format defines the suite.
func (s Suite) Known() bool { return s == Suite16K || s == Suite64K }

// SegmentSize returns the size of a sealed segment in bytes. The suite must be
// known.
func (s Suite) SegmentSize() int64 {
	if s == Suite64K {
		return 64 << 10
	}
	return 16 << 10
}

// SealedLen returns the length of the stream that seals plainLen bytes without
// padding.
func (s Suite) SealedLen(plainLen int64) int64 {
	per := s.SegmentSize() - tagSize
	segments := max(1, (plainLen+headerSize+per-1)/per)
	return headerSize + plainLen + segments*tagSize
}

// PlainLen returns how many bytes a stream of sealedLen seals; ok is false
// where no stream has that length.
func (s Suite) PlainLen(sealedLen int64) (plainLen int64, ok bool) {
	segments := s.Segments(sealedLen)
	plainLen = sealedLen - headerSize - segments*tagSize
	return plainLen, plainLen >= 0 && s.SealedLen(plainLen) == sealedLen
}

// PaddedPlainLen returns how long the plaintext becomes when zeros are
// appended to plainLen bytes so that the sealed length is the least one not
// below Padmé's.
func (s Suite) PaddedPlainLen(plainLen int64) int64 {
	target := padme(s.SealedLen(plainLen))
	padded, ok := s.PlainLen(target)
	for !ok {
		// The target falls where a segment would hold a tag and nothing else:
		// at most tagSize+1 lengths in a row are not a stream's.
		target++
		padded, ok = s.PlainLen(target)
	}
	return padded
}

// Segments returns the number of segments in a stream of sealedLen bytes.
func (s Suite) Segments(sealedLen int64) int64 {
	return (sealedLen + s.SegmentSize() - 1) / s.SegmentSize()
}

// SegmentAt returns the segment that holds plainOff.
func (s Suite) SegmentAt(plainOff int64) int64 {
	return (plainOff + headerSize) / (s.SegmentSize() - tagSize)
}

// PlainStart returns the plainOff of a segment's first byte.
func (s Suite) PlainStart(segment int64) int64 {
	return max(0, segment*(s.SegmentSize()-tagSize)-headerSize)
}

// SealedOff returns where plainOff lies in the stream; 0, with the header, for
// the first byte.
func (s Suite) SealedOff(plainOff int64) int64 {
	if plainOff == 0 {
		return 0
	}
	return headerSize + plainOff + s.SegmentAt(plainOff)*tagSize
}

// SealedRange returns where a segment lies in a stream of sealedLen bytes, the
// header not included.
func (s Suite) SealedRange(segment, sealedLen int64) (sealedOff, length int64) {
	sealedOff = max(headerSize, segment*s.SegmentSize())
	return sealedOff, min((segment+1)*s.SegmentSize(), sealedLen) - sealedOff
}

// padme rounds a length up so that its size class shows O(log log L) bits
// only. Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
// Communication with PURBs", PoPETs 2019, algorithm 1.
func padme(n int64) int64 {
	if n < 2 {
		return n
	}
	e := bits.Len64(uint64(n)) - 1
	low := e - bits.Len64(uint64(e))
	mask := int64(1)<<low - 1
	return (n + mask) &^ mask
}
