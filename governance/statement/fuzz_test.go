package statement

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

// FuzzDocument: what parses as a party's document is the same party when it is
// written and parsed again.
func FuzzDocument(f *testing.F) {
	key, err := newPrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	doc, err := EncodeDocument(Party{Name: "hospital", Key: key.Public().spki})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParseDocument(raw)
		if err != nil {
			return
		}
		again, err := EncodeDocument(p)
		if err != nil {
			t.Fatalf("%q parses and cannot be written: %v", raw, err)
		}
		if q, err := ParseDocument(again); err != nil || q.Name != p.Name || q.Fingerprint() != p.Fingerprint() {
			t.Errorf("%q is party %q, written and parsed again %q, %v", raw, p.Name, q.Name, err)
		}
	})
}

// FuzzPublicKey: a key has one encoding.
func FuzzPublicKey(f *testing.F) {
	key, err := newPrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Public().spki)
	f.Fuzz(func(t *testing.T, spki []byte) {
		if k, err := ParsePublicKey(spki); err == nil && !bytes.Equal(k.spki, spki) {
			t.Errorf("%x is taken for %x", spki, k.spki)
		}
	})
}
