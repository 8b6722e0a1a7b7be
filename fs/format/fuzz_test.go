package format

import (
	"bytes"
	"testing"

	"cloister/internal/vectors"
)

// openVector returns the plaintext of a vector, or nothing where it does not
// open.
func openVector(f *testing.F, v *vectors.Vector) []byte {
	f.Helper()
	p, size, err := ParsePreamble(v.Body)
	if err != nil {
		return nil
	}
	dek, _ := DEKFromBytes(v.Hex(f, "dek"))
	plain, _ := p.open(dek, bytes.Clone(v.Body[size:]))
	return plain
}

// The fuzz targets feed what a party who holds the key could seal: the parser
// must refuse or give a manifest every method of which stays in its tables.

func FuzzManifest(f *testing.F) {
	f.Add(mustFinish(f, sample()))
	for _, v := range vectors.Load(f, "manifest") {
		f.Add(openVector(f, &v))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		m := new(Manifest)
		if m.parse(plain) != nil || m.validate() != nil {
			return
		}
		m.preamble = samplePreamble
		for inode := uint32(1); inode <= m.Inodes(); inode++ {
			a, ok := m.Attr(inode)
			if !ok {
				continue
			}
			m.Xattrs(inode)
			switch a.Type() {
			case ModeDir:
				first, end := m.Entries(inode)
				for i := first; i < end; i++ {
					name, child := m.Entry(i)
					if got, ok := m.Lookup(inode, name); !ok || got != child {
						t.Fatalf("entry %q of %d leads to %d, Lookup to %d, %v", name, inode, child, got, ok)
					}
				}
				m.Parent(inode)
			case ModeSymlink:
				m.Target(inode)
			case ModeFile:
				for e := range m.Extents(inode, a.Size/2) {
					m.ObjectName(m.Object(e.Object))
					if _, err := m.NewOpener(m.Object(e.Object)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for i := range m.Keys() {
			m.Key(uint32(i))
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(append(sampleRecord().ops, make([]byte, 16)...))
	for _, v := range vectors.Load(f, "record") {
		f.Add(openVector(f, &v))
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		var told trace
		if err := ReplayRecord(ops, &told); err != nil && len(told) != 0 {
			t.Fatalf("refused with %v after applying %v", err, told)
		}
	})
}

func FuzzPreamble(f *testing.F) {
	p := samplePreamble
	p.Kind, p.Stanzas = KindRecord, []byte("stanza")
	f.Add(append(p.append(nil), "stream"...))
	for _, kind := range []string{"preamble", "stanza"} {
		for _, v := range vectors.Load(f, kind) {
			f.Add(v.Body)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, size, err := ParsePreamble(b)
		if err == nil && !bytes.Equal(p.append(nil), b[:size]) {
			t.Fatalf("%+v is not what was parsed", p)
		}
	})
}

func FuzzReference(f *testing.F) {
	_, ref := sealSample(f)
	f.Add(ref.String())
	for _, v := range vectors.Load(f, "reference") {
		f.Add(v.Get("text"))
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := ParseReference(s); err == nil && ref.String() != s {
			t.Fatalf("%q parses as %s", s, ref)
		}
	})
}

// FuzzSealedManifest seals what a stranger who has the key could, under the
// preamble he wants, and opens it as a reader does.
func FuzzSealedManifest(f *testing.F) {
	for _, v := range vectors.Load(f, "manifest") {
		f.Add(openVector(f, &v), uint8(Suite16K), uint64(1), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, plain []byte, suite uint8, epoch uint64, stanzas []byte) {
		if !Suite(suite).Known() {
			return // no writer can seal it
		}
		p := Preamble{Suite: Suite(suite), KeyVersion: 1, Volume: testVolume, Epoch: epoch, Stanzas: stanzas}
		sealed, ref := SealManifest(testDEK(), p, plain)
		m, err := OpenManifest(bytes.Clone(sealed), testDEK(), &ref)
		direct := new(Manifest)
		padded := append(bytes.Clone(plain), make([]byte, p.Suite.PaddedPlainLen(int64(len(plain)))-int64(len(plain)))...)
		wellFormed := direct.parse(padded) == nil && direct.validate() == nil && epoch != 0 && len(stanzas) <= MaxStanzas
		if wellFormed != (err == nil) {
			t.Fatalf("sealed it is refused with %v, as plaintext it is well-formed: %v", err, wellFormed)
		}
		if err == nil && (m.Reference() != ref || m.Preamble().Epoch != epoch) {
			t.Fatalf("reads as %s, sealed as %s", m.Reference(), ref)
		}
	})
}

// FuzzSealedRecord opens a record with bytes of it changed: it is the record
// that was sealed, or refused.
func FuzzSealedRecord(f *testing.F) {
	for _, v := range vectors.Load(f, "record") {
		f.Add(openVector(f, &v), uint32(140), byte(0))
	}
	f.Fuzz(func(t *testing.T, ops []byte, at uint32, flip byte) {
		sealed, digest := SealRecord(testDEK(), samplePreamble, &Record{ops: ops})
		sealed[int(at)%len(sealed)] ^= flip
		_, got, opened, err := OpenRecord(sealed, testDEK())
		if (flip == 0) != (err == nil) || err == nil && (got != digest || !bytes.HasPrefix(opened, ops)) {
			t.Fatalf("byte %d changed by %x: %v", at, flip, err)
		}
	})
}

// FuzzSegment gives an Opener another identity, header, length or other bytes:
// nothing but what was sealed opens, and nothing leaves the slices.
func FuzzSegment(f *testing.F) {
	for _, v := range vectors.Load(f, "data") {
		f.Add(v.Body[:min(len(v.Body), 4096)], uint8(1), uint8(1), int64(len(v.Body)), int64(0))
	}
	f.Fuzz(func(t *testing.T, sealed []byte, suite, first uint8, length, segment int64) {
		h := fixedHeader("fuzz")
		h[0] = first
		o, err := NewOpener(fixedObjectKey(), Identity{Suite: Suite(suite), Kind: KindData}, h, length)
		if err != nil {
			return
		}
		if n := o.Suite().Segments(o.SealedLen()); n < 1 || o.PlainLen() < 0 || o.Suite().SealedLen(o.PlainLen()) != length {
			t.Fatalf("a stream of %d bytes has %d segments and %d bytes of plaintext", length, n, o.PlainLen())
		}
		if plain, err := o.OpenSegment(nil, sealed, segment); err == nil {
			t.Fatalf("%x opens as %x", sealed, plain)
		}
	})
}

// FuzzNames: a listing of a store is a stranger's; a name means an epoch or a
// record if it is exactly the name of that, and nothing else.
func FuzzNames(f *testing.F) {
	for _, name := range []string{ManifestName(1), ManifestName(1<<64 - 1), RecordName(2, 3), "manifest/", "manifest/+000000000000001", "journal/0000000000000001-", "data/" + ObjectID{}.String(), "manifest/000000000000000A"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if epoch, ok := ParseManifestName(name); ok && ManifestName(epoch) != name {
			t.Errorf("%q is taken for epoch %d", name, epoch)
		}
		if epoch, sequence, ok := ParseRecordName(name); ok && RecordName(epoch, sequence) != name {
			t.Errorf("%q is taken for record %d of epoch %d", name, sequence, epoch)
		}
	})
}
