package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/internal/vectors"
)

// The vectors are made here, on every run, with headers and keys that are
// digests of their names: sealStream and Preamble.seal take a header, and only
// what is exported draws one at random. Keys in a vector are known to
// everybody and protect nothing.

var le = binary.LittleEndian

var refusals = map[string]error{
	"malformed": ErrMalformed, "authentication": ErrAuthentication, "wrong-key": ErrWrongKey, "reference": ErrReference,
}

// fixed returns n bytes that depend on the words only.
func fixed(n int, words ...string) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "cloister test vector\x00%s\x00%d", strings.Join(words, "\x00"), i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func fixedHeader(name string) (h Header) {
	h[0] = headerSize
	copy(h[1:], fixed(headerSize-1, name, "header"))
	return h
}

func fixedObjectKey() *ObjectKey {
	k := new(ObjectKey)
	copy(k.b[:], fixed(32, "object key"))
	return k
}

var (
	vectorVolume = VolumeID(fixed(16, "volume"))
	keyText      = fmt.Sprintf("%x", fixed(4, "object key")) // as much as describe shows
	vectorRun    = RunID(fixed(16, "run"))
)

func vectorDEK() *DEK {
	d, _ := DEKFromBytes(fixed(32, "dek"))
	return d
}

func accepted(name, rule string) vectors.Vector {
	v := vectors.Vector{Name: name}
	v.Set("rule", "%s", rule).Set("expect", "accepted")
	return v
}

func refused(name, rule, class, says string) vectors.Vector {
	v := vectors.Vector{Name: name}
	v.Set("rule", "%s", rule).Set("expect", "refused").Set("refusal", "%s", class).Set("says", "%s", says)
	return v
}

func check(t *testing.T, v *vectors.Vector, err error) {
	t.Helper()
	v.Check(t, err, refusals, errors.Is)
}

// sameLines compares what a vector says line by line with what was found.
func sameLines(t *testing.T, v *vectors.Vector, key string, got []string) {
	t.Helper()
	if want := v.All(key); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: reads as\n%s\nwant\n%s", v.Name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// ---- data objects, §4

func dataIdentity(s Suite) Identity {
	return Identity{Suite: s, Kind: KindData, Slot: 3, Volume: vectorVolume, Object: ObjectID(fixed(16, "object"))}
}

func dataVector(v vectors.Vector, id Identity, sealed []byte) vectors.Vector {
	v.Set("key", "%x", fixed(32, "object key")).Set("suite", "%d", id.Suite).Set("slot", "%d", id.Slot)
	v.Set("volume", "%s", id.Volume).Set("object", "%s", id.Object)
	v.Body = sealed
	return v
}

// pin adds what the manifest says of the object, which need not be true.
func pin(v vectors.Vector, h Header, sealedLen int) vectors.Vector {
	v.Set("header", "%x", h).Set("sealed-length", "%d", sealedLen)
	return v
}

func dataVectors() (all []vectors.Vector) {
	for _, s := range suites {
		full := s.PlainStart(1) // of segment 0
		for _, c := range []struct {
			name string
			len  int64
			pad  bool
		}{
			{"empty", 0, false}, {"one-byte", 1, false}, {"full-segment", full, false}, {"second-segment-of-one-byte", full + 1, false},
			{"padded", 1000, true}, {"padded-empty", 0, true}, {"padded-into-second-segment", full - 5, true},
		} {
			name := fmt.Sprintf("suite%d-%s", s, c.name)
			plain := fixed(int(c.len), name)
			h := fixedHeader(name)
			sealed := sealStream(nil, fixed(32, "object key"), dataIdentity(s), h, plain, c.pad)
			v := pin(dataVector(accepted(name, "§4 lengths: "+c.name), dataIdentity(s), sealed), h, len(sealed))
			v.Set("plaintext-length", "%d", len(plain)).Set("plaintext-sha256", "%x", sha256.Sum256(plain))
			all = append(all, v)
		}
	}
	return append(all, brokenData()...)
}

// brokenData breaks one rule each.
func brokenData() (all []vectors.Vector) {
	const (
		S     = 16 << 10
		short = 100
		three = 2*S - headerSize - 2*tagSize + short // segments, the last short
	)
	id := dataIdentity(Suite16K)
	other := func(change func(*Identity)) Identity { changed := id; change(&changed); return changed }
	for _, c := range []struct {
		name, rule, class, says string
		plainLen                int
		id                      Identity
		length                  int // that the manifest pins; 0: as it is
		change                  func(sealed []byte, h *Header) []byte
	}{
		{"bit-flipped-in-first-segment", "§4 nothing is served from a segment that does not open", "authentication", "segment 0", short, id, 0, flipAt(100)},
		{"bit-flipped-in-last-tag", "§4 the tag is checked", "authentication", "segment 2", three, id, 0, flipAt(-1)},
		{"segments-exchanged", "§4 a segment opens at its index only", "authentication", "segment 0", three, id, 0, func(b []byte, _ *Header) []byte {
			first := bytes.Clone(b[headerSize:S])
			copy(b[headerSize:], b[S:][:len(first)])
			copy(b[S:], first)
			return b
		}},
		{"cut-at-segment", "§4 the last segment is sealed as the last", "authentication", "segment 1", three, id, 2 * S, func(b []byte, _ *Header) []byte { return b[:2*S] }},
		{"of-another-object", "§4 associated data: object id", "authentication", "segment 0", short, other(func(i *Identity) { i.Object[0]++ }), 0, nil},
		{"of-another-volume", "§4 associated data: volume id", "authentication", "segment 0", short, other(func(i *Identity) { i.Volume[0]++ }), 0, nil},
		{"of-another-slot", "§4 associated data: slot", "authentication", "segment 0", short, other(func(i *Identity) { i.Slot++ }), 0, nil},
		{"of-another-suite", "§4 associated data: suite", "authentication", "segment 0", short, other(func(i *Identity) { i.Suite = Suite64K }), 0, nil},
		{"of-an-unknown-suite", "§4 suites", "malformed", "suite 9 is not known", short, other(func(i *Identity) { i.Suite = 9 }), 0, nil},
		{"of-an-impossible-length", "§4 sealed lengths: no segment holds a tag only", "malformed", "no stream is 16400 bytes long", short, id, S + 16, nil},
		{"shorter-than-a-header", "§4 sealed lengths: 56 at least", "malformed", "no stream is 40 bytes long", short, id, 40, nil},
		{"header-of-another-salt", "§4 the pinned header opens the object", "authentication", "segment 0", short, id, 0, func(b []byte, h *Header) []byte { h[5] ^= 1; return b }},
		{"header-length-byte", "§4 the header begins with its length", "malformed", "39 bytes long, want 40", short, id, 0, func(b []byte, h *Header) []byte { h[0] = 39; return b }},
	} {
		h := fixedHeader(c.name)
		sealed := sealStream(nil, fixed(32, "object key"), id, h, fixed(c.plainLen, c.name), false)
		if c.change != nil {
			sealed = c.change(sealed, &h)
		}
		if c.length == 0 {
			c.length = len(sealed)
		}
		all = append(all, pin(dataVector(refused(c.name, c.rule, c.class, c.says), c.id, sealed[:min(c.length, len(sealed))]), h, c.length))
	}
	return all
}

func flipAt(i int) func([]byte, *Header) []byte {
	return func(b []byte, _ *Header) []byte {
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
}

func TestDataVectors(t *testing.T) {
	vectors.Compare(t, "data", dataVectors())
	for _, v := range vectors.Load(t, "data") {
		plain, err := openData(t, &v)
		if err == nil && v.Get("expect") == "accepted" {
			var n int
			fmt.Sscan(v.Get("plaintext-length"), &n)
			if sum := sha256.Sum256(plain[:n]); v.Get("plaintext-sha256") != hex.EncodeToString(sum[:]) || !allZero(plain[n:]) {
				t.Errorf("%s: opens as something else", v.Name)
			}
		}
		check(t, &v, err)
	}
}

func openData(t *testing.T, v *vectors.Vector) (plain []byte, err error) {
	t.Helper()
	var suite, slot uint32
	var length int64
	if _, err := fmt.Sscan(v.Get("suite")+" "+v.Get("slot")+" "+v.Get("sealed-length"), &suite, &slot, &length); err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	key := new(ObjectKey)
	copy(key.b[:], v.Hex(t, "key"))
	id := Identity{Suite: Suite(suite), Kind: KindData, Slot: slot, Volume: VolumeID(v.Hex(t, "volume")), Object: ObjectID(v.Hex(t, "object"))}
	o, err := NewOpener(key, id, Header(v.Hex(t, "header")), length)
	if err != nil {
		return nil, err
	}
	for i := range o.Suite().Segments(o.SealedLen()) {
		off, n := o.Suite().SealedRange(i, o.SealedLen())
		if plain, err = o.OpenSegment(plain, v.Body[off:off+n], i); err != nil {
			return nil, err
		}
	}
	return plain, nil
}

// ---- references, §9

func referenceVectors() (all []vectors.Vector) {
	good := Reference{Volume: vectorVolume, Epoch: 7, KeyVersion: 2, Manifest: Digest(fixed(32, "digest")), Check: vectorDEK().Check(vectorVolume)}.String()
	add := func(v vectors.Vector, text string) {
		v.Set("text", "%s", strings.NewReplacer("\n", `\n`).Replace(text))
		all = append(all, v)
	}
	add(accepted("reference", "§9"), good)
	const form = "not of the form cloister-v1."
	swap := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	parts := strings.Split(good, ".")
	for _, c := range []struct{ name, rule, says, text string }{
		{"empty", "§9 six parts", form, ""},
		{"version-2", "§9 tag", form, swap("v1.", "v2.")},
		{"a-part-missing", "§9 six parts", form, strings.Join(parts[:5], ".")},
		{"a-part-more", "§9 six parts", form, good + ".0"},
		{"volume-upper-case", "§9 32 lower-case hex digits", "want 32 lower-case hex digits", strings.Replace(good, parts[1], strings.ToUpper(parts[1]), 1)},
		{"volume-short", "§9 32 hex digits", "want 32 lower-case hex digits", swap(parts[1], parts[1][2:])},
		{"epoch-zero", "§5 epochs from 1", "epoch: \"0\" is not a number from 1", swap(".7.", ".0.")},
		{"epoch-leading-zero", "§9 decimal, one way to write a number", "epoch: \"07\"", swap(".7.", ".07.")},
		{"epoch-sign", "§9 decimal", "epoch: \"+7\"", swap(".7.", ".+7.")},
		{"epoch-beyond-64-bits", "§9 decimal", "epoch: \"18446744073709551616\"", swap(".7.", ".18446744073709551616.")},
		{"key-version-zero", "§5 key versions from 1", "key version: \"0\"", swap(".2.", ".0.")},
		{"key-version-beyond-32-bits", "§5 key version is a u32", "key version: \"4294967296\"", swap(".2.", ".4294967296.")},
		{"digest-untagged", "§9 tagged digest", "does not begin with sha256-", swap("sha256-", "")},
		{"digest-of-another-kind", "§9 tagged digest", "does not begin with sha256-", swap("sha256-", "sha512-")},
		{"digest-short", "§9 64 hex digits", "manifest digest: want 64", swap(parts[4], parts[4][:len(parts[4])-2])},
		{"check-value-short", "§9 64 hex digits", "check value", good[:len(good)-1]},
		{"trailing-newline", "§9 one word", "check value", good + "\n"},
		{"leading-space", "§9 one word", form, " " + good},
	} {
		add(refused(c.name, c.rule, "usage", c.says), c.text)
	}
	return all
}

func TestReferenceVectors(t *testing.T) {
	vectors.Compare(t, "reference", referenceVectors())
	for _, v := range vectors.Load(t, "reference") {
		text := strings.ReplaceAll(v.Get("text"), `\n`, "\n")
		ref, err := ParseReference(text)
		if err == nil && ref.String() != text {
			t.Errorf("%s: parses as %s", v.Name, ref)
		}
		v.Check(t, err, map[string]error{"usage": ErrMalformed}, func(err, _ error) bool {
			return fault.KindOf(err) == fault.Usage && ref == Reference{}
		})
	}
}
