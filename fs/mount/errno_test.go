//go:build linux

package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	volume "cloister/fs"
	"cloister/fs/format"
	"cloister/fs/internal/voltest"
	"cloister/fs/store/storetest"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestErrnoOf(t *testing.T) {
	damage := &volume.DamageError{Segment: 7, Err: format.ErrAuthentication}
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{syscall.ENOTEMPTY, syscall.ENOTEMPTY},
		{damage, syscall.EIO},
		{fmt.Errorf("reading: %w", damage), syscall.EIO},
		{&volume.DamageError{Err: fs.ErrNotExist}, syscall.EIO},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, syscall.EIO}, // the store's trouble, not the file's mode
		{fs.ErrNotExist, syscall.EIO},
		{storetest.Away, syscall.EIO},
		{fmt.Errorf("reading: %w", context.Canceled), syscall.EINTR},
		{errors.New("anything else"), syscall.EIO},
	} {
		if got := errnoOf(c.err); got != c.want {
			t.Errorf("errnoOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

func TestFailuresAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	f := newFailures(slog.New(slog.NewTextHandler(&out, nil)))
	damage := &volume.DamageError{Object: format.ObjectID{0xab}, Segment: 7, Err: format.ErrAuthentication}
	for range 3 {
		if status := f.status("read", damage); status != fuse.EIO {
			t.Errorf("status %v", status)
		}
	}
	f.status("read", context.Canceled)
	f.status("read", syscall.ENOENT)
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "segment 7 of object ab00") {
		t.Errorf("%d lines:\n%s", n, &out)
	}
	f.status("read", storetest.Away)
	f.status("read", storetest.Away)
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("what is not damage is logged each time; got %d lines", n)
	}
}

// TestInterruptedRead: the kernel's INTERRUPT ends a read that waits for the
// store, with EINTR.
func TestInterruptedRead(t *testing.T) {
	model := voltest.New()
	model.File("f", []byte("x"))
	var memory storetest.Memory
	model.Write(t, &memory)
	store := &storetest.Faulty{Store: &memory}
	v, err := volume.Open(t.Context(), store, model.Key, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	i := newInput(v, Options{})
	waiting := make(chan struct{})
	store.Reset(storetest.Fault{Op: storetest.Get, Hook: func(storetest.Call) { close(waiting) }, Wait: nil},
		storetest.Fault{Op: storetest.Get, Wait: make(chan struct{})})
	var open fuse.OpenOut
	in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: uint64(model.Inode("f"))}}
	if status := i.Open(nil, in, &open); !status.Ok() {
		t.Fatal(status)
	}
	cancel := make(chan struct{})
	go func() { <-waiting; close(cancel) }()
	_, status := i.Read(cancel, &fuse.ReadIn{Fh: open.Fh, Size: 10}, make([]byte, 10))
	if status != fuse.EINTR {
		t.Errorf("an interrupted read: %v", status)
	}
	i.Release(nil, &fuse.ReleaseIn{Fh: open.Fh})
}

// TestHandles: stale ones are refused, freed ones used again.
func TestHandles(t *testing.T) {
	model := voltest.New()
	model.File("f", []byte("x"))
	model.Dir("d")
	var memory storetest.Memory
	model.Write(t, &memory)
	v, err := volume.Open(t.Context(), &memory, model.Key, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	i := newInput(v, Options{})
	open := func(node uint64, flags uint32) (uint64, fuse.Status) {
		var out fuse.OpenOut
		status := i.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: node}, Flags: flags}, &out)
		return out.Fh, status
	}
	file, dir := uint64(model.Inode("f")), uint64(model.Inode("d"))
	a, _ := open(file, 0)
	b, _ := open(file, 0)
	i.Release(nil, &fuse.ReleaseIn{Fh: a})
	i.Release(nil, &fuse.ReleaseIn{Fh: a})
	c, _ := open(file, 0)
	d, _ := open(file, 0)
	if c != a || d == a || d == b {
		t.Errorf("handles %d %d, then %d %d", a, b, c, d)
	}
	if _, status := i.Read(nil, &fuse.ReadIn{Fh: 77}, make([]byte, 1)); status != fuse.EBADF {
		t.Errorf("read of a stale handle: %v", status)
	}
	for _, tc := range []struct {
		node  uint64
		flags uint32
		want  fuse.Status
	}{{file, syscall.O_RDWR, fuse.EROFS}, {dir, 0, fuse.EINVAL}, {0, 0, fuse.Status(syscall.ESTALE)}, {99, 0, fuse.Status(syscall.ESTALE)}, {1 << 40, 0, fuse.Status(syscall.ESTALE)}} {
		if _, status := open(tc.node, tc.flags); status != tc.want {
			t.Errorf("open of node %d with %x: %v, want %v", tc.node, tc.flags, status, tc.want)
		}
	}
	var names []string
	out := fuse.NewDirEntryList(make([]byte, 4096), 0)
	if status := i.ReadDir(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: 1}, Offset: 1}, out); !status.Ok() {
		t.Fatal(status)
	}
	entries, err := fuse.ParseDirEntries(out.Bytes())
	for _, e := range entries {
		names = append(names, e.Name)
	}
	if err != nil || strings.Join(names, " ") != ".. d f" {
		t.Errorf("a listing resumed at 1: %q, %v", names, err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a`: "/a", `/a\040b`: "/a b", `/\134x`: `/\x`, `/a\04`: `/a\04`, `\999`: `\999`} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}
