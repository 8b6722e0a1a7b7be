package format

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"cloister/internal/vectors"
)

// Stanzas as FORMAT.md §5 lays them out. They are made here from the page
// alone, with RSA-OAEP spelled out as RFC 8017 has it, because the library's
// draws its own seed; what reads them is held against these.

func appendStanza(kind uint16, body []byte) []byte {
	return append(le.AppendUint32(le.AppendUint16(nil, kind), uint32(len(body))), body...)
}

// vectorLabel is the end of a stanza's info or label.
func vectorLabel(name string) string {
	return name + string(vectorVolume[:]) + string(binary.BigEndian.AppendUint32(nil, 2))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func keyID(public any) []byte {
	sum := sha256.Sum256(must(x509.MarshalPKIXPublicKey(public)))
	return sum[:]
}

func sealX25519(recipient *ecdh.PublicKey, ephemeral *ecdh.PrivateKey, dek []byte) []byte {
	public := ephemeral.PublicKey().Bytes()
	aead := x25519AEAD(must(ephemeral.ECDH(recipient)), public, recipient.Bytes())
	return bytes.Join([][]byte{keyID(recipient), public, aead.Seal(nil, make([]byte, 12), dek, nil)}, nil)
}

func x25519AEAD(shared, ephemeral, recipient []byte) cipher.AEAD {
	key := make([]byte, 32)
	deriveInto(key, shared, append(bytes.Clone(ephemeral), recipient...), []byte(vectorLabel("cloister stanza x25519 v1")))
	return must(cipher.NewGCM(must(aes.NewCipher(key))))
}

// sealOAEP is RFC 8017 §7.1.1 with a given seed, for a 2048-bit key.
func sealOAEP(public *rsa.PublicKey, seed, label, message []byte) []byte {
	hash := sha256.Sum256(label)
	db := append(bytes.Clone(hash[:]), make([]byte, public.Size()-len(message)-2*32-2)...)
	db = append(append(db, 1), message...)
	xor(db, mgf1(seed, len(db)))
	seed = bytes.Clone(seed)
	xor(seed, mgf1(db, len(seed)))
	block := new(big.Int).SetBytes(append(seed, db...))
	return block.Exp(block, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

func mgf1(seed []byte, n int) (mask []byte) {
	for i := uint32(0); len(mask) < n; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(bytes.Clone(seed), i))
		mask = append(mask, sum[:]...)
	}
	return mask[:n]
}

func xor(b, mask []byte) {
	for i := range b {
		b[i] ^= mask[i]
	}
}

// testRSA is a key that was made for these vectors. It protects nothing.
func testRSA() *rsa.PrivateKey {
	p, _ := new(big.Int).SetString(testPrimeP, 16)
	q, _ := new(big.Int).SetString(testPrimeQ, 16)
	one, e := big.NewInt(1), big.NewInt(65537)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, D: new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q}}
	k.Precompute()
	return k
}

const (
	testPrimeP = "C439DE4F9DB8F18D880937D32CF997F9081470E70A891CCFAA247413C3ED2A67FF87F56BBFDD31A2EBB138E9E940201992DD2EC810E0D17749DB3A992656A133856F008724150139B00D3F682E3E8C5225222F2EE3ACDF0089CB5E6133DD9E22FBB9AF3B68B398B7868610E126A2ED5E1397FA2D19A0CD8D2F5BB26133EFD18F"
	testPrimeQ = "CC155CBF4D3A5C55AF1A6DA0ACE7D55313065E617794CD0F8398EAAB32F238818A2F3AF57F362F23D55E2D6C9AB5038197C1953C97874E2BEC579481B3D44A6B0F45512019560F06054DA5C82EF77564B9EB9F169E9439396B4EC6AC912DA9661EE9B1A81E5137CE6C91B344DFF157D955F87F22D2D3875DCC7EEF8FD34F1DBB"
)

func stanzaVectors() (all []vectors.Vector) {
	x := must(ecdh.X25519().NewPrivateKey(fixed(32, "recipient")))
	ephemeral := must(ecdh.X25519().NewPrivateKey(fixed(32, "ephemeral")))
	dek := vectorDEK()
	forX := sealX25519(x.PublicKey(), ephemeral, dek.b[:])
	r := testRSA()
	sealedOAEP := sealOAEP(&r.PublicKey, fixed(32, "oaep seed"), []byte(vectorLabel("cloister stanza rsa v1")), dek.b[:])
	forRSA := append(keyID(&r.PublicKey), sealedOAEP...)
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	other := must(DEKFromBytes(fixed(32, "another dek")))
	add := func(v vectors.Vector, stanzas ...[]byte) {
		v.Set("recipient-x25519", "%x", x.Bytes()).Set("recipient-rsa", "%x", must(x509.MarshalPKCS8PrivateKey(r)))
		v.Set("dek", "%x", dek.b)
		p := vectorPreamble()
		p.Check, p.Stanzas = dek.Check(vectorVolume), bytes.Join(stanzas, nil)
		v.Body = p.append(nil)
		all = append(all, v)
	}
	add(accepted("x25519", "§5 stanza type 1"), appendStanza(stanzaX25519, forX))
	add(accepted("rsa-oaep", "§5 stanza type 2"), appendStanza(stanzaRSA, forRSA))
	add(accepted("unknown-type", "§5 a reader skips types it does not know"), appendStanza(77, []byte("?")), appendStanza(stanzaX25519, forX))
	add(accepted("another-recipient-first", "§5 key id"), appendStanza(stanzaX25519, flip(forX, 0)), appendStanza(stanzaRSA, forRSA))
	const none = "no stanza opens"
	add(refused("x25519-ephemeral-key", "§5 the shared secret", "stanza", none), appendStanza(stanzaX25519, flip(forX, 40)))
	add(refused("x25519-wrapped-dek", "§5 the wrapped DEK is authenticated", "stanza", none), appendStanza(stanzaX25519, flip(forX, 70)))
	add(refused("x25519-short", "§5 the body has 112 bytes", "stanza", "type 1 has 111 bytes"), appendStanza(stanzaX25519, forX[:111]))
	add(refused("rsa-oaep-wrapped-dek", "§5 RSA-OAEP-SHA256", "stanza", none), appendStanza(stanzaRSA, flip(forRSA, 100)))
	add(refused("rsa-oaep-label", "§5 the label has volume and key version", "stanza", none), appendStanza(stanzaRSA, append(keyID(&r.PublicKey),
		sealOAEP(&r.PublicKey, fixed(32, "oaep seed"), []byte("cloister stanza rsa v1"), dek.b[:])...)))
	add(refused("of-another-dek", "§5 the check value matches before the DEK is used", "wrong-key", "not this volume's"), appendStanza(stanzaX25519, sealX25519(x.PublicKey(), ephemeral, other.b[:])))
	add(refused("beyond-the-end", "§5 a stanza lies within the stanzas", "stanza", "end early"), appendStanza(stanzaX25519, forX)[:50])
	add(refused("header-cut", "§5 a stanza begins with type and length", "stanza", "end early"), []byte{1, 0, 112, 0, 0})
	return all
}

var errStanza = errors.New("stanzas")

// unwrap does what FORMAT.md §5 asks of a reader who is one of the recipients.
func unwrap(p Preamble, x *ecdh.PrivateKey, r *rsa.PrivateKey) (*DEK, error) {
	for b := p.Stanzas; len(b) > 0; {
		if len(b) < 6 || int64(len(b)-6) < int64(le.Uint32(b[2:])) {
			return nil, fmt.Errorf("%w end early", errStanza)
		}
		kind, body := le.Uint16(b), b[6:][:le.Uint32(b[2:])]
		b = b[6+len(body):]
		var dek []byte
		switch {
		case kind == stanzaX25519 && len(body) != 112:
			return nil, fmt.Errorf("%w: one of type 1 has %d bytes", errStanza, len(body))
		case kind == stanzaX25519 && bytes.Equal(body[:32], keyID(x.PublicKey())):
			ephemeral := body[32:64]
			shared := must(x.ECDH(must(ecdh.X25519().NewPublicKey(ephemeral))))
			dek, _ = x25519AEAD(shared, ephemeral, x.PublicKey().Bytes()).Open(nil, make([]byte, 12), body[64:], nil)
		case kind == stanzaRSA && len(body) > 32 && bytes.Equal(body[:32], keyID(&r.PublicKey)):
			dek, _ = rsa.DecryptOAEP(sha256.New(), nil, r, body[32:], []byte(vectorLabel("cloister stanza rsa v1")))
		}
		if dek != nil {
			d, err := DEKFromBytes(dek)
			if err == nil && !d.Check(p.Volume).Equal(p.Check) {
				err = ErrWrongKey
			}
			return d, err
		}
	}
	return nil, fmt.Errorf("%w: no stanza opens", errStanza)
}

func TestStanzaVectors(t *testing.T) {
	vectors.Compare(t, "stanza", stanzaVectors())
	classes := map[string]error{"stanza": errStanza, "wrong-key": ErrWrongKey}
	for _, v := range vectors.Load(t, "stanza") {
		p, _, err := ParsePreamble(v.Body)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		r := must(x509.ParsePKCS8PrivateKey(v.Hex(t, "recipient-rsa")))
		dek, err := unwrap(p, must(ecdh.X25519().NewPrivateKey(v.Hex(t, "recipient-x25519"))), r.(*rsa.PrivateKey))
		if err == nil && hex.EncodeToString(dek.b[:]) != v.Get("dek") {
			t.Errorf("%s: another DEK", v.Name)
		}
		v.Check(t, err, classes, errors.Is)
	}
}
