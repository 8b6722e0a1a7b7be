package format

import (
	"bytes"
	"testing"
)

// The fuzz targets feed what a party who holds the key could seal: the parser
// must refuse or give a manifest every method of which stays in its tables.

func FuzzManifest(f *testing.F) {
	f.Add(mustFinish(f, sample()))
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
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := ParseReference(s); err == nil && ref.String() != s {
			t.Fatalf("%q parses as %s", s, ref)
		}
	})
}
