package format

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"cloister/internal/fault"
)

// ErrAuthentication is what a segment, manifest or record that does not open
// under its key as what it claims to be is refused with.
var ErrAuthentication = fault.Sentinel(fault.Refused, "authentication failed: the bytes are not those that were sealed")

const version = 1

var magic = [8]byte{'C', 'L', 'O', 'I', 'S', 'T', 'E', 'R'}

// Kind is the kind of a sealed object.
type Kind uint8

const (
	KindData     Kind = 1
	KindManifest Kind = 2
	KindRecord   Kind = 3
	KindPending  Kind = 4
)

// Identity is what an object is sealed as. It goes into the associated data,
// so an object opens under the identity it was sealed with and no other.
type Identity struct {
	Suite  Suite
	Kind   Kind
	Slot   uint32   // origin slot of the object key; 0 for manifest and record
	Volume VolumeID // of data: the origin volume
	Object ObjectID
}

// AssociatedData returns the 48 bytes of FORMAT.md §4: of fixed length, every
// field at its place, so two identities never give the same bytes.
func (id Identity) AssociatedData() []byte {
	ad := make([]byte, 48)
	copy(ad, magic[:])
	binary.LittleEndian.PutUint16(ad[8:], version)
	ad[10] = byte(id.Suite)
	ad[11] = byte(id.Kind)
	binary.LittleEndian.PutUint32(ad[12:], id.Slot)
	copy(ad[16:], id.Volume[:])
	copy(ad[32:], id.Object[:])
	return ad
}

// Header is the first 40 bytes of a stream: its length, a salt, a nonce
// prefix. The manifest pins the header of every data object.
type Header [headerSize]byte

// NewHeader returns a header with a random salt and nonce prefix. One header
// seals one stream, ever.
func NewHeader() (h Header) {
	h[0] = headerSize
	rand.Read(h[1:])
	return h
}

// SealData seals plaintext and its padding as a data object and appends the
// object to dst. plaintext and dst's spare capacity must not overlap. The
// object is finished before the caller can send a byte of it: a retry sends
// the same bytes, a change needs a new identity.
func SealData(dst []byte, key *ObjectKey, id Identity, plaintext []byte, pad bool) (sealed []byte, h Header) {
	h = NewHeader()
	return sealStream(dst, key.b[:], id, h, plaintext, pad), h
}

// SealDataFrom is SealData of n bytes that never lie in one piece: fill is
// called with consecutive parts of them, each once and in order, to write into.
func SealDataFrom(dst []byte, key *ObjectKey, id Identity, n int64, pad bool, fill func(p []byte)) (sealed []byte, h Header) {
	h = NewHeader()
	return sealFrom(dst, key.b[:], id, h, n, pad, fill), h
}

func sealStream(dst, key []byte, id Identity, h Header, plaintext []byte, pad bool) []byte {
	return sealFrom(dst, key, id, h, int64(len(plaintext)), pad, func(p []byte) {
		plaintext = plaintext[copy(p, plaintext):]
	})
}

// sealFrom appends header and segments to dst. The stream key is derived from a
// random 32-byte salt, so a nonce prefix of 7 random bytes and a counter never
// repeat under one AES key. Each segment is sealed where its plaintext was
// written, which is out of reach until all are.
func sealFrom(dst, key []byte, id Identity, h Header, n int64, pad bool, fill func(p []byte)) []byte {
	aead := streamAEAD(key, id, h)
	plainLen := n
	if pad {
		plainLen = id.Suite.PaddedPlainLen(n)
	}
	sealedLen := id.Suite.SealedLen(plainLen)
	dst = grow(dst, sealedLen)
	dst = append(dst, h[:]...)
	last := id.Suite.Segments(sealedLen) - 1
	for i := int64(0); i <= last; i++ {
		start := id.Suite.PlainStart(i)
		end := min(id.Suite.PlainStart(i+1), plainLen)
		plain := dst[len(dst) : int64(len(dst))+end-start]
		if used := max(0, min(n, end)-start); used > 0 {
			fill(plain[:used])
			clear(plain[used:])
		} else {
			clear(plain)
		}
		nonce := segmentNonce(h, i, i == last)
		dst = aead.Seal(dst, nonce[:], plain, nil)
	}
	return dst
}

func grow(b []byte, n int64) []byte {
	if int64(cap(b)-len(b)) >= n {
		return b
	}
	grown := make([]byte, len(b), int64(len(b))+n)
	copy(grown, b)
	return grown
}

func streamAEAD(key []byte, id Identity, h Header) cipher.AEAD {
	var derived [32]byte
	deriveInto(derived[:], key, h[1:33], id.AssociatedData())
	defer clear(derived[:])
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		panic("format: AES-256 refuses a 32-byte key: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("format: GCM refuses AES: " + err.Error())
	}
	return aead
}

// segmentNonce is Tink's: prefix, segment index big-endian, 1 for the last.
func segmentNonce(h Header, segment int64, last bool) (nonce [12]byte) {
	copy(nonce[:], h[33:])
	binary.BigEndian.PutUint32(nonce[7:], uint32(segment))
	if last {
		nonce[11] = 1
	}
	return nonce
}

// Opener opens the segments of one stream, in any order, from any number of
// goroutines.
type Opener struct {
	aead      cipher.AEAD
	header    Header
	suite     Suite
	sealedLen int64
	plainLen  int64
}

// NewOpener returns an Opener for an object whose identity, header and length
// are authentic: pinned by a manifest, or, for a manifest, the length of what
// was digested.
func NewOpener(key *ObjectKey, id Identity, h Header, sealedLen int64) (*Opener, error) {
	return newOpener(key.b[:], id, h, sealedLen)
}

func newOpener(key []byte, id Identity, h Header, sealedLen int64) (*Opener, error) {
	if !id.Suite.Known() {
		return nil, malformed("suite %d is not known to this version", id.Suite)
	}
	plainLen, ok := id.Suite.PlainLen(sealedLen)
	if !ok {
		return nil, malformed("no stream is %d bytes long", sealedLen)
	}
	if h[0] != headerSize {
		return nil, malformed("stream header says it is %d bytes long, want %d", h[0], headerSize)
	}
	return &Opener{aead: streamAEAD(key, id, h), header: h, suite: id.Suite, sealedLen: sealedLen, plainLen: plainLen}, nil
}

// Suite returns the stream's suite, whose methods say where segments lie.
func (o *Opener) Suite() Suite { return o.suite }

// SealedLen returns the stream's length in bytes.
func (o *Opener) SealedLen() int64 { return o.sealedLen }

// PlainLen returns the length of the plaintext, padding included, in bytes.
func (o *Opener) PlainLen() int64 { return o.plainLen }

// OpenSegment opens a segment, given as Suite.SealedRange says (without the
// header), and appends its plaintext to dst. sealed and dst's spare capacity
// must overlap exactly (dst = sealed[:0]) or not at all. The error wraps
// ErrAuthentication; on error nothing of the plaintext is revealed.
func (o *Opener) OpenSegment(dst, sealed []byte, segment int64) ([]byte, error) {
	last := o.suite.Segments(o.sealedLen) - 1
	if _, want := o.suite.SealedRange(segment, o.sealedLen); segment < 0 || segment > last || int64(len(sealed)) != want {
		return nil, malformed("segment %d of %d with %d bytes is not of this stream", segment, last+1, len(sealed))
	}
	nonce := segmentNonce(o.header, segment, segment == last)
	plain, err := o.aead.Open(dst, nonce[:], sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("segment %d: %w", segment, ErrAuthentication)
	}
	return plain, nil
}

// openInPlace opens a whole stream into the memory that holds it.
func (o *Opener) openInPlace(stream []byte) ([]byte, error) {
	plain := stream[:0]
	for i := range o.suite.Segments(o.sealedLen) {
		off, n := o.suite.SealedRange(i, o.sealedLen)
		sealed := stream[off : off+n]
		opened, err := o.OpenSegment(sealed[:0], sealed, i)
		if err != nil {
			return nil, err
		}
		// Moves down by the header and the tags before it: append is memmove.
		plain = append(plain, opened...)
	}
	return plain, nil
}
