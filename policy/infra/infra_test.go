package infra

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
)

type testSigner struct{ crypto.Signer }

func (s testSigner) SignMessage(m []byte) ([]byte, error) {
	if _, ok := s.Signer.(ed25519.PrivateKey); ok {
		return s.Sign(rand.Reader, m, crypto.Hash(0))
	}
	sum := sha256.Sum256(m)
	return s.Sign(rand.Reader, sum[:], crypto.SHA256)
}

func newSigner(t testing.TB, kind string) (testSigner, []byte) {
	t.Helper()
	var s crypto.Signer
	var err error
	if kind == "p256" {
		s, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		_, s, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return testSigner{s}, spki
}

func hash(c string) string { return strings.Repeat(c, 64/len(c)) }

func example() Index {
	image := func(c string, svn uint32, layers ...string) Image {
		d := "sha256:" + hash(c)
		return Image{Program: ProgramRuntime, Reference: "registry.example/runtime@" + d, Digest: d, Layers: layers, SVN: svn}
	}
	return Index{Format: Format, Sequence: 7, MinSVN: 2, Runtimes: []Image{image("a", 1, hash("1")), image("b", 2, hash("2"), hash("3")), image("c", 3, hash("4"))}, FragmentSVN: 5}
}

func TestSignedAndOpened(t *testing.T) {
	for _, kind := range []string{"p256", "ed25519"} {
		s, spki := newSigner(t, kind)
		signed, err := Sign(context.Background(), example(), s, spki)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Open(context.Background(), signed, spki)
		if err != nil || got.Sequence != 7 || len(got.Runtimes) != 3 || got.Platform().FragmentSVN != 5 {
			t.Errorf("%s: %+v, %v", kind, got, err)
		}
		_, other := newSigner(t, kind)
		if _, err := Open(context.Background(), signed, other); fault.KindOf(err) != fault.Refused {
			t.Errorf("%s: another key opens it: %v", kind, err)
		}
	}
}

// TestEveryBitIsSigned flips each bit of the envelope: it is refused, or says
// the same.
func TestEveryBitIsSigned(t *testing.T) {
	s, spki := newSigner(t, "ed25519")
	signed, err := Sign(context.Background(), example(), s, spki)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(example())
	refused := 0
	for i := range signed {
		bad := slices.Clone(signed)
		bad[i] ^= 1
		got, err := Open(context.Background(), bad, spki)
		if err != nil {
			refused++
			continue
		}
		if have, _ := json.Marshal(got); !bytes.Equal(have, want) {
			t.Fatalf("bit 0 of byte %d was changed unseen: %s", i, have)
		}
	}
	if refused < len(signed)/2 {
		t.Errorf("%d of %d changes were refused", refused, len(signed))
	}
}

func TestRefusesWhatIsNotAnIndex(t *testing.T) {
	s, spki := newSigner(t, "ed25519")
	for name, change := range map[string]func(*Index){
		"format": func(x *Index) { x.Format = "v2" }, "sequence": func(x *Index) { x.Sequence = 0 }, "floor": func(x *Index) { x.MinSVN = 0 },
		"nothing": func(x *Index) { x.Runtimes = nil }, "twice": func(x *Index) { x.Runtimes[1] = x.Runtimes[0] },
		"digest": func(x *Index) { x.Runtimes[0].Digest = "sha256:12" }, "reference": func(x *Index) { x.Runtimes[0].Reference = "a:latest" },
		"svn": func(x *Index) { x.Runtimes[0].SVN = 0 }, "program": func(x *Index) { x.Runtimes[0].Program = "sh" }, "layers": func(x *Index) { x.Runtimes[0].Layers = nil },
		"layer": func(x *Index) { x.Runtimes[0].Layers[0] = "x" }, "pause": func(x *Index) { x.PauseLayers = []string{hash("A")} },
	} {
		x := example()
		change(&x)
		if _, err := Sign(context.Background(), x, s, spki); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, payload := range []string{`{}`, `[]`, `{"format":"` + Format + `","format":"x"}`, `{"format":"` + Format + `","more":1}`, ``} {
		if _, err := parse([]byte(payload)); err == nil {
			t.Errorf("%s is taken for an index", payload)
		}
	}
	for _, text := range []string{"", "{}", `{"payloadType":"text/plain","payload":"","signatures":[]}`} {
		if _, err := Open(context.Background(), []byte(text), spki); fault.KindOf(err) != fault.Refused {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Open(context.Background(), nil, []byte("key")); fault.KindOf(err) != fault.Usage {
		t.Errorf("a key that is none: %v", err)
	}
}

func TestRuntimeInAnImage(t *testing.T) {
	x := example()
	if _, err := x.Find(ProgramShim, "app", []string{hash("9"), hash("2"), hash("3")}); fault.KindOf(err) != fault.Refused {
		t.Errorf("a runtime stands for a shim: %v", err)
	}
	got, err := x.Find(ProgramRuntime, "app", []string{hash("9"), hash("2"), hash("3")})
	if err != nil || got.SVN != 2 {
		t.Errorf("wrapped: %+v, %v", got, err)
	}
	for name, tc := range map[string]struct {
		layers []string
		said   string
	}{
		"none":                 {nil, "no cloisterd"},
		"torn apart":           {[]string{hash("2"), hash("9"), hash("3")}, "no cloisterd"},
		"something over it":    {[]string{hash("2"), hash("3"), hash("9")}, "no cloisterd"},
		"too old":              {[]string{hash("9"), hash("1")}, "at least 2 is needed"},
		"too old over a newer": {[]string{hash("4"), hash("1")}, "at least 2 is needed"},
	} {
		if _, err := x.Find(ProgramRuntime, "app", tc.layers); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.said) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
