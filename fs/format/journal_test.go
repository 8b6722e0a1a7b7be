package format

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// trace is a Replayer that writes down what it is told.
type trace []string

func (t *trace) add(format string, args ...any) error {
	*t = append(*t, fmt.Sprintf(format, args...))
	return nil
}
func (t *trace) Key(k Key) error       { return t.add("key %s %d", k.Origin, k.Slot) }
func (t *trace) Object(o Object) error { return t.add("object %s %d", o.ID, o.SealedLen) }
func (t *trace) Inode(inode uint32, n Node) error {
	return t.add("inode %d %o %v %q %v", inode, n.Attr.Mode, n.Extents, n.Target, n.Xattrs)
}
func (t *trace) Link(dir uint32, name []byte, inode uint32) error {
	return t.add("link %d %q %d", dir, name, inode)
}
func (t *trace) Unlink(dir uint32, name []byte) error { return t.add("unlink %d %q", dir, name) }
func (t *trace) Free(inode uint32) error              { return t.add("free %d", inode) }
func (t *trace) Fence() error                         { return t.add("fence") }

func sampleRecord() *Record {
	r := new(Record)
	r.Key(Key{Key: NewObjectKey(), Origin: testVolume, Slot: 4, Suite: Suite64K})
	r.Object(Object{ID: ObjectID{9}, Header: Header{headerSize}, SealedLen: 57})
	r.Inode(2, Node{Attr: Attr{Mode: ModeFile | 0o644, Size: 1}, Extents: []Extent{{0, 0, 0, 1}}, Xattrs: []Xattr{{"user.a", []byte("x")}}})
	r.Inode(3, Node{Attr: Attr{Mode: ModeSymlink | 0o777, Size: 2}, Target: []byte("to")})
	r.Link(1, []byte("f\xff"), 2)
	r.Unlink(1, []byte("old"))
	r.Free(7)
	r.Fence()
	return r
}

var samplePreamble = Preamble{Suite: Suite16K, KeyVersion: 1, Volume: testVolume, Run: RunID{5}, Epoch: 2, Sequence: 1, Previous: Digest{6}}

func TestRecordRoundTrip(t *testing.T) {
	sealed, digest := SealRecord(testDEK(), samplePreamble, sampleRecord())
	p, got, ops, err := OpenRecord(bytes.Clone(sealed), testDEK())
	if err != nil {
		t.Fatal(err)
	}
	if got != digest || p.Run != samplePreamble.Run || p.Sequence != 1 || p.Previous != samplePreamble.Previous {
		t.Errorf("preamble %+v, digest %s", p, got)
	}
	var told trace
	if err := ReplayRecord(ops, &told); err != nil {
		t.Fatal(err)
	}
	want := trace{
		"key " + testVolume.String() + " 4",
		"object 09000000000000000000000000000000 57",
		`inode 2 100644 [{0 0 0 1}] "" [{user.a [120]}]`,
		`inode 3 120777 [] "to" []`,
		`link 1 "f\xff" 2`, `unlink 1 "old"`, "free 7", "fence",
	}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("replayed\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, _, _, err := OpenRecord(changed, testDEK()); err == nil {
			t.Fatalf("byte %d changed, and the record opens", i)
		}
	}
	manifest, _ := sealSample(t)
	if _, _, _, err := OpenRecord(manifest, testDEK()); !errors.Is(err, ErrMalformed) {
		t.Errorf("a manifest as a record: %v", err)
	}
}

// TestRecordAppliesWholeOrNot: an operation that is not well-formed, at the
// end, keeps those before it from being applied.
func TestRecordAppliesWholeOrNot(t *testing.T) {
	for name, op := range map[string][]byte{
		"unknown critical":  {9, 0, 1, 0, 0, 0, 0, 0},
		"longer than it is": {6, 0, 1, 0, 200, 0, 0, 0},
		"no end":            {},
		"bad name":          {5, 0, 1, 0, 5, 0, 0, 0, 1, 0, 0, 0, '/'},
		"short inode":       {3, 0, 1, 0, 4, 0, 0, 0, 1, 0, 0, 0},
		"padding not zeros": {0, 0, 0, 0, 0, 0, 0, 0, 1},
	} {
		r := new(Record)
		r.Free(7)
		ops := append(bytes.Clone(r.ops), op...)
		if name != "no end" && name != "padding not zeros" {
			ops = append(ops, make([]byte, 8)...)
		}
		var told trace
		if err := ReplayRecord(ops, &told); !errors.Is(err, ErrMalformed) || len(told) != 0 {
			t.Errorf("%s: %v, applied %v", name, err, told)
		}
	}
	skippable := append([]byte{9, 0, 0, 0, 1, 0, 0, 0, 42}, make([]byte, 8)...)
	if err := ReplayRecord(skippable, new(trace)); err != nil {
		t.Errorf("an unknown operation that is not critical: %v", err)
	}
}
