package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

const preambleSize = 132 // without stanzas

// Preamble is the clear beginning of a manifest or journal record: what can be
// said of it without a key. It is authentic only once the stream behind it has
// opened, as the stream is sealed under an identity that digests it.
type Preamble struct {
	Suite      Suite
	Kind       Kind
	KeyVersion uint32
	Volume     VolumeID
	Run        RunID
	Epoch      uint64
	Sequence   uint64 // of a journal or pending record; 0 for a manifest
	Previous   Digest
	Check      CheckValue
	Stanzas    []byte // recipient stanzas, undecoded
}

func (p *Preamble) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, magic[:]...)
	dst = le.AppendUint16(dst, version)
	dst = append(dst, byte(p.Suite), byte(p.Kind))
	dst = le.AppendUint32(dst, p.KeyVersion)
	dst = append(dst, p.Volume[:]...)
	dst = append(dst, p.Run[:]...)
	dst = le.AppendUint64(dst, p.Epoch)
	dst = le.AppendUint64(dst, p.Sequence)
	dst = append(dst, p.Previous[:]...)
	dst = append(dst, p.Check[:]...)
	dst = le.AppendUint32(dst, uint32(len(p.Stanzas)))
	return append(dst, p.Stanzas...)
}

// ParsePreamble reads the preamble at the beginning of b, and returns how many
// bytes of b it takes. b may be the beginning of a manifest only.
func ParsePreamble(b []byte) (p Preamble, size int, err error) {
	le := binary.LittleEndian
	if len(b) < preambleSize || !bytes.Equal(b[:8], magic[:]) {
		return p, 0, malformed("it does not begin with a manifest's or record's preamble")
	}
	if v := le.Uint16(b[8:]); v != version {
		return p, 0, malformed("it is of format version %d, this program reads version %d", v, version)
	}
	p = Preamble{
		Suite: Suite(b[10]), Kind: Kind(b[11]),
		KeyVersion: le.Uint32(b[12:]),
		Volume:     VolumeID(b[16:32]), Run: RunID(b[32:48]),
		Epoch: le.Uint64(b[48:]), Sequence: le.Uint64(b[56:]),
		Previous: Digest(b[64:96]), Check: CheckValue(b[96:128]),
	}
	stanzas := le.Uint32(b[128:])
	switch {
	case !p.Suite.Known():
		return p, 0, malformed("suite %d is not known to this version", p.Suite)
	case p.Kind != KindManifest && p.Kind != KindRecord && p.Kind != KindPending:
		return p, 0, malformed("kind %d has no preamble", p.Kind)
	case p.KeyVersion == 0 || p.Epoch == 0:
		return p, 0, malformed("key version %d and epoch %d must be 1 or more", p.KeyVersion, p.Epoch)
	case (p.Kind == KindManifest) != (p.Sequence == 0):
		return p, 0, malformed("sequence %d does not fit kind %d", p.Sequence, p.Kind)
	case stanzas > MaxStanzas || int64(stanzas) > int64(len(b)-preambleSize):
		return p, 0, malformed("stanzas of %d bytes are too long", stanzas)
	}
	size = preambleSize + int(stanzas)
	p.Stanzas = b[preambleSize:size]
	return p, size, nil
}

// identity is what the stream behind a preamble is sealed as: the object id is
// a digest of the preamble, so neither can be exchanged without the other.
func (p *Preamble) identity() Identity {
	sum := sha256.Sum256(p.append(nil))
	return Identity{Suite: p.Suite, Kind: p.Kind, Volume: p.Volume, Object: ObjectID(sum[:16])}
}

// seal returns preamble and sealed plaintext, and their digest.
func (p *Preamble) seal(dek *DEK, h Header, plaintext []byte) ([]byte, Digest) {
	p.Check = dek.Check(p.Volume)
	sealed := p.append(nil)
	plainLen := p.Suite.PaddedPlainLen(int64(len(plaintext)))
	sealed = grow(sealed, p.Suite.SealedLen(plainLen))
	sealed = sealStream(sealed, dek.b[:], p.identity(), h, plaintext, true)
	return sealed, sha256.Sum256(sealed)
}

// open opens the stream behind the preamble, in place.
func (p *Preamble) open(dek *DEK, stream []byte) ([]byte, error) {
	if !dek.Check(p.Volume).Equal(p.Check) {
		return nil, ErrWrongKey
	}
	if len(stream) < headerSize {
		return nil, malformed("it ends within its header")
	}
	o, err := newOpener(dek.b[:], p.identity(), Header(stream[:headerSize]), int64(len(stream)))
	if err != nil {
		return nil, err
	}
	return o.openInPlace(stream)
}
