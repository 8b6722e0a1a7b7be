package fs

import (
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
)

// TestOutputHighInodes: a journal may name the highest inode there is; it folds
// into a manifest that has no entry for what is not there, at recovery and at
// Close, and everything is where it was.
func TestOutputHighInodes(t *testing.T) {
	store := &storetest.Memory{}
	o := mustOpen(t, store, OutputOptions{noBackground: true})
	create(t, o, "low")
	for range 2 { // recovered, then closed
		o.mu.Lock()
		o.tree.next = format.MaxInodes
		o.mu.Unlock()
		name := "high at " + o.preamble.Run.String()
		f := create(t, o, name)
		if f.Inode() != format.MaxInodes {
			t.Fatalf("the file has inode %d", f.Inode())
		}
		writeAt(t, f, []byte(name), 3)
		check(t, f.Sync(ctx))
		if o.Recovered() == nil {
			o.kill()
		} else {
			mustClose(t, o)
		}
		o = mustOpen(t, store, OutputOptions{noBackground: true})
		if got := content(t, o, name); string(got) != "\x00\x00\x00"+name {
			t.Errorf("%s has %q", name, got)
		}
		if highest := o.tree.next - 1; highest > 4 {
			t.Errorf("the manifest has a table of %d inodes", highest)
		}
		content(t, o, "low")
	}
	mustClose(t, o)
}

// TestNumbering: numbers stay while the table is half full or a short one.
func TestNumbering(t *testing.T) {
	for name, tc := range map[string]struct {
		inodes []uint32
		of     uint32
		want   uint32
	}{
		"none left out":      {[]uint32{1, 2, 3}, 3, 3},
		"a short table":      {[]uint32{1, maxUnused + 2}, maxUnused + 2, maxUnused + 2},
		"one entry more":     {[]uint32{1, maxUnused + 3}, maxUnused + 3, 2},
		"the highest":        {[]uint32{1, 7, format.MaxInodes}, format.MaxInodes, 3},
		"the root":           {[]uint32{1, 7, format.MaxInodes}, 1, 1},
		"one that is not in": {[]uint32{1, 7, format.MaxInodes}, 8, 0},
	} {
		if got := numbering(tc.inodes)(tc.of); got != tc.want {
			t.Errorf("%s: inode %d becomes %d, want %d", name, tc.of, got, tc.want)
		}
	}
}
