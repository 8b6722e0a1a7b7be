package format

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
)

// Stanzas, FORMAT.md §5.
const (
	stanzaX25519 = 1
	stanzaRSA    = 2

	stanzaHead       = 6 // type and length, in bytes
	stanzaX25519Body = 32 + 32 + 48
)

// stanza is one stanza as it lies in a preamble.
type stanza struct {
	kind uint16
	body []byte
}

// keyID returns the key id of a stanza of a known type.
func (s stanza) keyID() []byte { return s.body[:len(KeyID{})] }

// stanzas yields the stanzas of the types this version knows. Nothing of them
// is authentic before the stream behind the preamble has opened.
func (p *Preamble) stanzas() iter.Seq2[stanza, error] {
	return func(yield func(stanza, error) bool) {
		for b := p.Stanzas; len(b) > 0; {
			s, size, err := parseStanza(b)
			if err != nil {
				yield(s, err)
				return
			}
			b = b[size:]
			if known := s.kind == stanzaX25519 || s.kind == stanzaRSA; known && !yield(s, nil) {
				return
			}
		}
	}
}

func parseStanza(b []byte) (s stanza, size int, err error) {
	le := binary.LittleEndian
	if len(b) < stanzaHead || int64(len(b)-stanzaHead) < int64(le.Uint32(b[2:])) {
		return s, 0, malformed("the stanzas end early")
	}
	size = stanzaHead + int(le.Uint32(b[2:]))
	s = stanza{le.Uint16(b), b[stanzaHead:size]}
	wrong := s.kind == stanzaX25519 && len(s.body) != stanzaX25519Body ||
		s.kind == stanzaRSA && (len(s.body) < len(KeyID{})+minRSA/8 || len(s.body) > len(KeyID{})+maxRSA/8)
	if wrong {
		return s, 0, malformed("a stanza of type %d has %d bytes", s.kind, len(s.body))
	}
	return s, size, nil
}

// Recipients returns the key ids of the stanzas: who can open the volume, as
// the preamble claims it.
func (p *Preamble) Recipients() (ids []KeyID, err error) {
	for s, err := range p.stanzas() {
		if err != nil {
			return nil, err
		}
		ids = append(ids, KeyID(s.keyID()))
	}
	return ids, nil
}

// Wrap returns the stanzas of a volume at a key version for recipients, each
// named once.
func Wrap(dek *DEK, volume VolumeID, keyVersion uint32, recipients ...*Recipient) (stanzas []byte, err error) {
	seen := map[KeyID]bool{}
	for _, r := range recipients {
		if seen[r.id] {
			return nil, fmt.Errorf("recipient %s is named twice", r.id)
		}
		seen[r.id] = true
		kind, body, err := r.wrap(dek, volume, keyVersion)
		if err != nil {
			return nil, fmt.Errorf("wrapping the DEK for recipient %s: %w", r.id, err)
		}
		stanzas = binary.LittleEndian.AppendUint16(stanzas, kind)
		stanzas = binary.LittleEndian.AppendUint32(stanzas, uint32(len(body)))
		stanzas = append(stanzas, body...)
	}
	if len(stanzas) > MaxStanzas {
		return nil, fmt.Errorf("%d recipients need %d bytes of stanzas, a preamble has at most %d", len(recipients), len(stanzas), MaxStanzas)
	}
	return stanzas, nil
}

func (r *Recipient) wrap(dek *DEK, volume VolumeID, keyVersion uint32) (kind uint16, body []byte, err error) {
	if key, ok := r.key.(*rsa.PublicKey); ok {
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, dek.b[:], stanzaLabel("cloister stanza rsa v1", volume, keyVersion))
		return stanzaRSA, append(r.id[:], wrapped...), err
	}
	key := r.key.(*ecdh.PublicKey)
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return 0, nil, err
	}
	shared, err := ephemeral.ECDH(key) // refuses a key of low order
	if err != nil {
		return 0, nil, err
	}
	public := ephemeral.PublicKey().Bytes()
	aead := stanzaAEAD(shared, public, key.Bytes(), volume, keyVersion)
	return stanzaX25519, aead.Seal(append(r.id[:], public...), zeroNonce[:], dek.b[:], nil), nil
}

// unwrap returns the DEK in a stanza for this key, or nil where it does not
// open.
func (k *RecipientKey) unwrap(s stanza, p *Preamble) *DEK {
	var dek []byte
	sealed := s.body[len(KeyID{}):]
	switch key := k.key.(type) {
	case *rsa.PrivateKey:
		if s.kind == stanzaRSA {
			dek, _ = rsa.DecryptOAEP(sha256.New(), nil, key, sealed, stanzaLabel("cloister stanza rsa v1", p.Volume, p.KeyVersion))
		}
	case *ecdh.PrivateKey:
		if s.kind == stanzaX25519 {
			dek = openX25519(key, sealed[:32], sealed[32:], p)
		}
	}
	defer clear(dek)
	d, err := DEKFromBytes(dek)
	if err != nil {
		return nil
	}
	return d
}

func openX25519(key *ecdh.PrivateKey, ephemeral, sealed []byte, p *Preamble) []byte {
	public, err := ecdh.X25519().NewPublicKey(ephemeral)
	if err != nil {
		return nil
	}
	shared, err := key.ECDH(public) // refuses a key of low order
	if err != nil {
		return nil
	}
	dek, err := stanzaAEAD(shared, ephemeral, key.PublicKey().Bytes(), p.Volume, p.KeyVersion).Open(nil, zeroNonce[:], sealed, nil)
	if err != nil {
		return nil
	}
	return dek
}

// zeroNonce is safe here: the ephemeral key, and so the key that follows from
// it, seals one DEK.
var zeroNonce [12]byte

func stanzaAEAD(shared, ephemeral, recipient []byte, volume VolumeID, keyVersion uint32) cipher.AEAD {
	var key [32]byte
	defer clear(key[:])
	defer clear(shared)
	deriveInto(key[:], shared, bytes.Join([][]byte{ephemeral, recipient}, nil), stanzaLabel("cloister stanza x25519 v1", volume, keyVersion))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("format: a key of 32 bytes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("format: AES-GCM: " + err.Error())
	}
	return aead
}

// stanzaLabel is the info or label of a stanza: it binds the wrapped DEK to its
// volume and key version.
func stanzaLabel(name string, volume VolumeID, keyVersion uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(name), volume[:]...), keyVersion)
}
