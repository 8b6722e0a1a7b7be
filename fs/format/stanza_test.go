package format

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"cloister/internal/vectors"
)

// testRecipientKeys are one of each type.
func testRecipientKeys(t testing.TB) map[string]*RecipientKey {
	t.Helper()
	keys := map[string]*RecipientKey{}
	for name, bits := range map[string]int{"X25519": 0, "RSA": minRSA} {
		k, err := NewRecipientKey(bits)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := k.PKCS8()
		if err != nil {
			t.Fatal(err)
		}
		if keys[name], err = ParseRecipientKey(pkcs8); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func sealedFor(t testing.TB, dek *DEK, keys ...*RecipientKey) Preamble {
	t.Helper()
	p := samplePreamble
	p.Kind, p.Sequence, p.Check = KindManifest, 0, dek.Check(p.Volume)
	var recipients []*Recipient
	for _, k := range keys {
		r, err := ParseRecipient(k.Recipient().SPKI())
		if err != nil {
			t.Fatal(err)
		}
		recipients = append(recipients, r)
	}
	var err error
	if p.Stanzas, err = Wrap(dek, p.Volume, p.KeyVersion, recipients...); err != nil {
		t.Fatal(err)
	}
	return p
}

func newDEK(t testing.TB) *DEK {
	return NewRootSecret().DeriveDEK(samplePreamble.Volume, samplePreamble.KeyVersion)
}

func TestEachRecipientOpens(t *testing.T) {
	keys, dek := testRecipientKeys(t), newDEK(t)
	p := sealedFor(t, dek, keys["X25519"], keys["RSA"])
	p, _, err := ParsePreamble(p.append(nil))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := p.Recipients()
	if err != nil || len(ids) != 2 || ids[0] != keys["X25519"].Recipient().KeyID() || ids[1] != keys["RSA"].Recipient().KeyID() {
		t.Errorf("the preamble is for %v, %v", ids, err)
	}
	for name, k := range keys {
		got, err := k.DEK(p)
		if err != nil || got.b != dek.b {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStanzasRefused: whoever is not meant, and whatever was exchanged, is
// refused, each for its own reason.
func TestStanzasRefused(t *testing.T) {
	keys, strangers, dek := testRecipientKeys(t), testRecipientKeys(t), newDEK(t)
	for name, k := range keys {
		good := sealedFor(t, dek, k)
		for what, tc := range map[string]struct {
			key    *RecipientKey
			change func(*Preamble)
			want   error
		}{
			"a stranger":              {strangers[name], func(*Preamble) {}, ErrNotRecipient},
			"no stanzas":              {k, func(p *Preamble) { p.Stanzas = nil }, ErrNotRecipient},
			"another volume's stanza": {k, func(p *Preamble) { p.Volume[0] ^= 1; p.Check = dek.Check(p.Volume) }, ErrAuthentication},
			"another version's":       {k, func(p *Preamble) { p.KeyVersion++ }, ErrAuthentication},
			"under my key id":         {strangers[name], func(p *Preamble) { copy(p.Stanzas[stanzaHead:], strangers[name].public.id[:]) }, ErrAuthentication},
			"a changed byte":          {k, func(p *Preamble) { p.Stanzas[len(p.Stanzas)-1] ^= 1 }, ErrAuthentication},
			"somebody else's DEK":     {k, func(p *Preamble) { p.Stanzas = sealedFor(t, newDEK(t), k).Stanzas }, ErrWrongKey},
			"as the other type":       {k, func(p *Preamble) { p.Stanzas[0] ^= 3 }, ErrMalformed},
			"cut":                     {k, func(p *Preamble) { p.Stanzas = p.Stanzas[:len(p.Stanzas)-1] }, ErrMalformed},
			"one byte more":           {k, func(p *Preamble) { p.Stanzas = append(p.Stanzas, 0) }, nil},
		} {
			p := good
			p.Stanzas = bytes.Clone(good.Stanzas)
			tc.change(&p)
			got, err := tc.key.DEK(p)
			if !errors.Is(err, tc.want) || tc.want != nil && got != nil {
				t.Errorf("%s: %s: got %v, %v; want %v", name, what, got, err, tc.want)
			}
		}
	}
}

// TestForeignStanzaFirst: a stanza that somebody put before mine under my key
// id, and that does not open, does not lock me out.
func TestForeignStanzaFirst(t *testing.T) {
	for name, k := range testRecipientKeys(t) {
		dek := newDEK(t)
		p := sealedFor(t, dek, k)
		broken := bytes.Clone(p.Stanzas)
		broken[len(broken)-1] ^= 1
		p.Stanzas = append(broken, p.Stanzas...)
		if got, err := k.DEK(p); err != nil || got.b != dek.b {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	k, dek := testRecipientKeys(t)["X25519"], newDEK(t)
	if _, err := Wrap(dek, samplePreamble.Volume, 1, k.Recipient(), k.Recipient()); err == nil {
		t.Error("one recipient was named twice and accepted")
	}
	// The key of low order 0: its shared secret would be known to everybody.
	low, err := ecdh.X25519().NewPublicKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRecipient(low)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Wrap(dek, samplePreamble.Volume, 1, r); err == nil {
		t.Error("a key of low order was wrapped for")
	}
	many := make([]*Recipient, MaxStanzas/(stanzaHead+stanzaX25519Body)+1)
	for i := range many {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if many[i], err = newRecipient(k.PublicKey()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Wrap(dek, samplePreamble.Volume, 1, many...); err == nil {
		t.Error("stanzas beyond the limit were made")
	}
	if s, err := Wrap(dek, samplePreamble.Volume, 1, many[1:]...); err != nil || len(s) > MaxStanzas {
		t.Errorf("%d bytes, %v", len(s), err)
	}
}

func TestRecipientKeysRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256 := must(ecdh.P256().GenerateKey(rand.Reader))
	for name, key := range map[string]struct{ private, public any }{
		"RSA of 1024 bits": {small, &small.PublicKey}, "P-256": {p256, p256.PublicKey()},
	} {
		if _, err := ParseRecipient(must(x509.MarshalPKIXPublicKey(key.public))); err == nil {
			t.Errorf("%s: accepted as a recipient", name)
		}
		if _, err := ParseRecipientKey(must(x509.MarshalPKCS8PrivateKey(key.private))); err == nil {
			t.Errorf("%s: accepted as a recipient's key", name)
		}
	}
	for name, k := range testRecipientKeys(t) {
		if _, err := ParseRecipient(append(k.Recipient().SPKI(), 0)); err == nil {
			t.Errorf("%s: accepted with a byte behind it", name)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			if got := fmt.Sprintf(verb, k); got != redacted {
				t.Errorf("%s prints as %q with %s", name, got, verb)
			}
		}
		p := sealedFor(t, newDEK(t), k)
		k.Destroy()
		if _, err := k.DEK(p); err == nil {
			t.Errorf("%s: opens after Destroy", name)
		}
	}
}

// vectorKeys are the two keys of a vector.
func vectorKeys(t testing.TB, v *vectors.Vector) []*RecipientKey {
	t.Helper()
	x := must(ecdh.X25519().NewPrivateKey(v.Hex(t, "recipient-x25519")))
	return []*RecipientKey{
		must(ParseRecipientKey(must(x509.MarshalPKCS8PrivateKey(x)))),
		must(ParseRecipientKey(v.Hex(t, "recipient-rsa"))),
	}
}

// TestStanzasAgreeWithTheVectors: one of the two keys opens what is to be
// accepted, with the right DEK, and neither opens what is to be refused.
func TestStanzasAgreeWithTheVectors(t *testing.T) {
	for _, v := range vectors.Load(t, "stanza") {
		p, _, err := ParsePreamble(v.Body)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		opened := 0
		var errs []error
		for _, k := range vectorKeys(t, &v) {
			dek, err := k.DEK(p)
			errs = append(errs, err)
			if err == nil {
				opened++
				if fmt.Sprintf("%x", dek.b) != v.Get("dek") {
					t.Errorf("%s: another DEK", v.Name)
				}
			}
		}
		err = errors.Join(errs...)
		wrongKey := v.Get("refusal") == "wrong-key"
		switch accepted := v.Get("expect") == "accepted"; {
		case accepted != (opened > 0):
			t.Errorf("%s (%s): %d keys open it: %v", v.Name, v.Get("rule"), opened, err)
		case wrongKey != errors.Is(err, ErrWrongKey):
			t.Errorf("%s (%s): refused with %v", v.Name, v.Get("rule"), err)
		}
	}
}

// FuzzStanzas: whatever stands in a preamble's stanzas, a recipient gets the
// volume's DEK or an error.
func FuzzStanzas(f *testing.F) {
	keys, dek := testRecipientKeys(f), newDEK(f)
	f.Add(sealedFor(f, dek, keys["X25519"], keys["RSA"]).Stanzas)
	for _, v := range vectors.Load(f, "stanza") {
		if p, _, err := ParsePreamble(v.Body); err == nil {
			f.Add(p.Stanzas)
		}
	}
	f.Fuzz(func(t *testing.T, stanzas []byte) {
		if len(stanzas) > MaxStanzas {
			return
		}
		p := samplePreamble
		p.Check, p.Stanzas = dek.Check(p.Volume), stanzas
		ids, err := p.Recipients()
		for _, k := range keys {
			got, derr := k.DEK(p)
			switch {
			case derr == nil && got.b != dek.b:
				t.Fatal("another DEK than the check value's")
			case derr == nil && err == nil && len(ids) == 0:
				t.Fatal("it opens for somebody who is not named")
			case derr == nil:
			case err == nil && errors.Is(derr, ErrMalformed):
				t.Fatalf("named without complaint, and refused as malformed: %v", derr)
			}
		}
	})
}

// TestRecordWithStanzas: what is sealed for recipients is so from the first
// record of the journal.
func TestRecordWithStanzas(t *testing.T) {
	k, dek := testRecipientKeys(t)["X25519"], newDEK(t)
	p := sealedFor(t, dek, k)
	p.Sequence = 1
	sealed, _ := SealRecord(dek, p, sampleRecord())
	mine, err := k.DEK(must2(ParsePreamble(sealed)))
	if err != nil {
		t.Fatal(err)
	}
	got, _, _, err := OpenRecord(bytes.Clone(sealed), mine)
	if err != nil || !bytes.Equal(got.Stanzas, p.Stanzas) {
		t.Errorf("opened with %d bytes of stanzas, %v", len(got.Stanzas), err)
	}
	sealed[preambleSize]++
	if _, _, _, err := OpenRecord(sealed, dek); !errors.Is(err, ErrAuthentication) {
		t.Errorf("a record with another stanza: %v", err)
	}
}

func must2[T, U any](v T, _ U, err error) T { return must(v, err) }
