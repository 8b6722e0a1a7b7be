package proof

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"reflect"
	"testing"

	"cloister/internal/fault"
)

func example() Evidence {
	return Evidence{RunID: [16]byte{1}, ContractDigest: [32]byte{2}, AuditKey: []byte("key"), Report: []byte("report"),
		Certificates: [][]byte{[]byte("vcek"), []byte("ask")}, Endorsement: []byte("uvm")}
}

func TestCertificateCarriesEvidence(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made, err := Certificate(key, example())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	got, err := OfCertificate(cert)
	if err != nil || !reflect.DeepEqual(got, example()) {
		t.Errorf("got %+v, %v", got, err)
	}
	cert.Extensions = append(cert.Extensions, pkix.Extension{Id: extensionOID, Value: cert.Extensions[len(cert.Extensions)-1].Value})
	if _, err := OfCertificate(cert); fault.KindOf(err) != fault.Refused {
		t.Errorf("evidence that is there twice: %v", err)
	}
	if _, err := OfCertificate(&x509.Certificate{}); !errors.Is(err, ErrNone) {
		t.Errorf("no evidence: %v", err)
	}
}

func wrapped(t testing.TB, r record) []byte {
	t.Helper()
	raw, err := encoding.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestBadExtensions(t *testing.T) {
	good, err := example().extension()
	if err != nil {
		t.Fatal(err)
	}
	short, err := encoding.Marshal(value{RunID: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"empty":          nil,
		"cut":            good[:len(good)-1],
		"more":           append(bytes.Clone(good), 0),
		"too long":       make([]byte, maxExtension+1),
		"no record":      {4, 1, 0xf6},
		"another type":   wrapped(t, record{Type: "text/plain", Indicator: indicator}),
		"an endorsement": wrapped(t, record{Type: mediaType, Indicator: 2}),
		"no map":         wrapped(t, record{Type: mediaType, Value: []byte{0}, Indicator: indicator}),
		"short run id":   wrapped(t, record{Type: mediaType, Value: short, Indicator: indicator}),
		"unknown field":  wrapped(t, record{Type: mediaType, Value: []byte{0xa1, 0x07, 0x00}, Indicator: indicator}),
	} {
		if _, err := parseExtension(der); fault.KindOf(err) != fault.Refused {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// FuzzExtension: whatever is read is written the same again, so that no two
// extensions are one evidence.
func FuzzExtension(f *testing.F) {
	good, err := example().extension()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(wrapped(f, record{Type: mediaType, Value: []byte{0xa0}, Indicator: indicator}))
	f.Add([]byte{4, 1, 0xf6})
	f.Fuzz(func(t *testing.T, der []byte) {
		e, err := parseExtension(der)
		if err != nil {
			return
		}
		if again, err := e.extension(); err != nil || !bytes.Equal(again, der) {
			t.Fatalf("%x is read and written as %x, %v", der, again, err)
		}
	})
}

// TestStatementsDiffer: no two statements share a message, wherever a byte moves.
func TestStatementsDiffer(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := Statement{Nonce: [32]byte{1}, Exporter: [32]byte{2}, Contract: [32]byte{3}, Checkpoint: []byte("at")}
	sum := sha256.Sum256(signed.message())
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if !signed.Verify(&key.PublicKey, signature) {
		t.Fatal("a good signature is refused")
	}
	for _, change := range []func(*Statement){
		func(s *Statement) { s.Nonce[31] ^= 1 }, func(s *Statement) { s.Exporter[0] ^= 1 },
		func(s *Statement) { s.Contract[0] ^= 1 }, func(s *Statement) { s.Checkpoint = []byte("a") },
	} {
		s := signed
		change(&s)
		if s.Verify(&key.PublicKey, signature) {
			t.Errorf("the signature of another statement is good for %+v", s)
		}
	}
	if signed.Verify("no key", signature) {
		t.Error("what is no key verifies")
	}
}
