package format

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
	"pgregory.net/rapid"
)

var suites = []Suite{Suite16K, Suite64K}

// edges are plaintext lengths around every boundary the arithmetic has.
func edges(s Suite) []int64 {
	per := s.SegmentSize() - tagSize
	return []int64{0, 1, 15, 16, 17, per - headerSize - 1, per - headerSize, per - headerSize + 1,
		per, 2*per - headerSize - 1, 2*per - headerSize, 2*per - headerSize + 1, 5*per - 7}
}

func TestWorkedSizes(t *testing.T) {
	for plain, sealed := range map[int64]int64{0: 56, 1: 57, 16328: 16384, 16329: 16401, 32696: 32768, 33521624: WriteObject} {
		if got := Suite16K.SealedLen(plain); got != sealed {
			t.Errorf("SealedLen(%d) = %d, FORMAT.md says %d", plain, got, sealed)
		}
	}
}

func TestOffsets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(suites).Draw(t, "suite")
		plainLen := rapid.Int64Range(0, 1<<20).Draw(t, "plainLen")
		sealedLen := s.SealedLen(plainLen)
		if back, ok := s.PlainLen(sealedLen); !ok || back != plainLen {
			t.Fatalf("PlainLen(SealedLen(%d)) = %d, %v", plainLen, back, ok)
		}
		var sealedEnd, plainEnd int64 = headerSize, 0
		for i := range s.Segments(sealedLen) {
			off, n := s.SealedRange(i, sealedLen)
			if off != sealedEnd || s.PlainStart(i) != plainEnd || n < tagSize || i > 0 && n == tagSize {
				t.Fatalf("segment %d lies at %d+%d, plain %d; want %d, plain %d", i, off, n, s.PlainStart(i), sealedEnd, plainEnd)
			}
			sealedEnd, plainEnd = off+n, plainEnd+n-tagSize
			for _, p := range []int64{s.PlainStart(i), plainEnd - 1} {
				if p >= s.PlainStart(i) && s.SegmentAt(p) != i {
					t.Fatalf("SegmentAt(%d) = %d, want %d", p, s.SegmentAt(p), i)
				}
			}
		}
		if sealedEnd != sealedLen || plainEnd != plainLen {
			t.Fatalf("segments end at %d, plain %d; want %d, plain %d", sealedEnd, plainEnd, sealedLen, plainLen)
		}
		padded := s.PaddedPlainLen(plainLen)
		if p := padme(sealedLen); padded < plainLen || s.SealedLen(padded) < p || s.SealedLen(padded) > p+tagSize+1 {
			t.Fatalf("padding %d gives %d, sealed %d; Padmé wants %d", plainLen, padded, s.SealedLen(padded), p)
		}
	})
	if s := Suite16K; s.SealedLen(s.PaddedPlainLen(33521624)) != WriteObject {
		t.Error("a full object must not be padded beyond WriteObject")
	}
}

func TestPadme(t *testing.T) {
	// From the definition: E = floor(log2 L), low = E - (floor(log2 E) + 1).
	for n, want := range map[int64]int64{0: 0, 1: 1, 2: 2, 8: 8, 9: 10, 100: 104, 1000: 1024, 1<<20 + 1: 1<<20 + 1<<15, 32 << 20: 32 << 20} {
		if got := padme(n); got != want {
			t.Errorf("padme(%d) = %d, want %d", n, got, want)
		}
	}
}

// TestTinkOpensWhatWeSeal holds FORMAT.md's promise that any of Tink's
// libraries decrypts every object: tink-go is the independent oracle.
func TestTinkOpensWhatWeSeal(t *testing.T) {
	for _, s := range suites {
		for _, n := range edges(s) {
			for _, pad := range []bool{false, true} {
				key, id := NewObjectKey(), Identity{Suite: s, Kind: KindData, Slot: 3, Volume: testVolume, Object: NewObjectID()}
				plain := make([]byte, n)
				rand.Read(plain)
				sealed, h := SealData(nil, key, id, plain, pad)
				if !bytes.Equal(sealed[:headerSize], h[:]) {
					t.Fatal("the object does not begin with its header")
				}
				got := tinkDecrypt(t, key.b[:], id, sealed)
				if !bytes.Equal(got[:n], plain) || !allZero(got[n:]) || !pad && int64(len(got)) != n {
					t.Fatalf("suite %d, %d bytes, pad %v: Tink reads something else", s, n, pad)
				}
			}
		}
	}
	sealed, _ := sealSample(t)
	p, size, err := ParsePreamble(sealed)
	if err != nil {
		t.Fatal(err)
	}
	dek := testDEK()
	if got := tinkDecrypt(t, dek.b[:], p.identity(), sealed[size:]); new(Manifest).parse(got) != nil {
		t.Error("Tink reads something else from a manifest")
	}
}

func tinkDecrypt(t *testing.T, key []byte, id Identity, sealed []byte) []byte {
	t.Helper()
	tink, err := subtle.NewAESGCMHKDF(key, "SHA256", 32, int(id.Suite.SegmentSize()), 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tink.NewDecryptingReader(bytes.NewReader(sealed), id.AssociatedData())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("Tink refuses %d bytes of suite %d: %v", len(sealed), id.Suite, err)
	}
	return plain
}

// TestWeOpenWhatTinkSeals reads a stream of Tink's own, segment by segment, in
// any order.
func TestWeOpenWhatTinkSeals(t *testing.T) {
	for _, s := range suites {
		for _, n := range edges(s) {
			key, id := NewObjectKey(), Identity{Suite: s, Kind: KindData, Volume: testVolume, Object: NewObjectID()}
			plain := make([]byte, n)
			rand.Read(plain)
			tink, err := subtle.NewAESGCMHKDF(key.b[:], "SHA256", 32, int(s.SegmentSize()), 0)
			if err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			w, err := tink.NewEncryptingWriter(&buf, id.AssociatedData())
			if err != nil {
				t.Fatal(err)
			}
			w.Write(plain)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			sealed := buf.Bytes()
			o, err := NewOpener(key, id, Header(sealed[:headerSize]), int64(len(sealed)))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, o.PlainLen())
			for i := s.Segments(o.SealedLen()) - 1; i >= 0; i-- {
				off, length := s.SealedRange(i, o.SealedLen())
				segment, err := o.OpenSegment(nil, sealed[off:off+length], i)
				if err != nil {
					t.Fatalf("suite %d, %d bytes, segment %d: %v", s, n, i, err)
				}
				copy(got[s.PlainStart(i):], segment)
			}
			if !bytes.Equal(got, plain) {
				t.Fatalf("suite %d: %d bytes of Tink's are read wrong", s, n)
			}
		}
	}
}

// TestSegmentOpensOnlyAsItself: moved, from another object, cut, or flipped, a
// segment does not open.
func TestSegmentOpensOnlyAsItself(t *testing.T) {
	key, id := NewObjectKey(), Identity{Suite: Suite16K, Kind: KindData, Volume: testVolume, Object: ObjectID{1}}
	plain := make([]byte, 3*16368)
	sealed, h := SealData(nil, key, id, plain, false)
	segment := func(i int64) []byte {
		off, n := id.Suite.SealedRange(i, int64(len(sealed)))
		return bytes.Clone(sealed[off : off+n])
	}
	open := func(id Identity, h Header, length int64, i int64, b []byte) error {
		o, err := NewOpener(key, id, h, length)
		if err != nil {
			return err
		}
		_, err = o.OpenSegment(nil, b, i)
		return err
	}
	length := int64(len(sealed))
	if err := open(id, h, length, 1, segment(1)); err != nil {
		t.Fatal(err)
	}
	flipped := segment(1)
	flipped[100] ^= 0x40
	otherHeader := h
	otherHeader[39] ^= 1
	for name, err := range map[string]error{
		"as the segment after":    open(id, h, length, 2, segment(1)),
		"with a bit flipped":      open(id, h, length, 1, flipped),
		"under another header":    open(id, otherHeader, length, 1, segment(1)),
		"as the last of a cut":    open(id, h, 2*16384, 1, segment(1)),
		"as another object":       open(Identity{id.Suite, id.Kind, 0, id.Volume, ObjectID{2}}, h, length, 1, segment(1)),
		"as another volume":       open(Identity{id.Suite, id.Kind, 0, VolumeID{}, id.Object}, h, length, 1, segment(1)),
		"as another slot":         open(Identity{id.Suite, id.Kind, 1, id.Volume, id.Object}, h, length, 1, segment(1)),
		"as another kind":         open(Identity{id.Suite, KindRecord, 0, id.Volume, id.Object}, h, length, 1, segment(1)),
		"with a byte less":        open(id, h, length, 1, segment(1)[1:]),
		"beyond the end":          open(id, h, length, 9, segment(1)),
		"of an impossible length": open(id, h, 41, 0, nil),
	} {
		if !errors.Is(err, ErrAuthentication) && !errors.Is(err, ErrMalformed) {
			t.Errorf("a segment opens %s: %v", name, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	root, _ := RootSecretFromBytes(bytes.Repeat([]byte("s"), 32))
	dek := root.DeriveDEK(testVolume, 1)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "root", root, "dek", *dek, "key", Key{Key: NewObjectKey()})
	js, _ := json.Marshal(map[string]any{"root": root, "dek": *dek})
	text := log.String() + string(js)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		text += fmt.Sprintf(verb, root) + fmt.Sprintf(verb, *dek) + fmt.Sprintf(verb, struct{ D DEK }{*dek})
	}
	for _, leak := range []string{"sss", "115 115", "7373", fmt.Sprintf("%x", dek.Expose()), fmt.Sprint(dek.Expose())} {
		if strings.Contains(text, leak) {
			t.Errorf("%q is in %s", leak, text)
		}
	}
	dek.Destroy()
	if !allZero(dek.Expose()) {
		t.Error("Destroy leaves the key")
	}
}

func TestReference(t *testing.T) {
	_, ref := sealSample(t)
	back, err := ParseReference(ref.String())
	if err != nil || back != ref {
		t.Fatalf("ParseReference(%s) = %v, %v", ref, back, err)
	}
	s := ref.String()
	for _, bad := range []string{"", "cloister-v1", s + ".x", s[:len(s)-1], strings.ToUpper(s), strings.Replace(s, ".1.", ".01.", 1),
		strings.Replace(s, ".1.", ".0.", 1), strings.Replace(s, "sha256-", "sha512-", 1), " " + s, s + "\n"} {
		if _, err := ParseReference(bad); err == nil {
			t.Errorf("ParseReference(%q) succeeds", bad)
		}
	}
}

func TestStoreNames(t *testing.T) {
	if e, ok := ParseManifestName(ManifestName(300)); !ok || e != 300 {
		t.Errorf("manifest name of epoch 300 parses as %d, %v", e, ok)
	}
	if e, s, ok := ParseRecordName(RecordName(300, 7)); !ok || e != 300 || s != 7 {
		t.Errorf("record name parses as %d, %d, %v", e, s, ok)
	}
	for _, name := range []string{"", "manifest/", "manifest/1", "manifest/000000000000012C", "manifest/000000000000012c0", "journal/0000000000000001"} {
		if _, ok := ParseManifestName(name); ok {
			t.Errorf("%q is a manifest's name", name)
		}
		if _, _, ok := ParseRecordName(name); ok {
			t.Errorf("%q is a record's name", name)
		}
	}
}
