package prep_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cloister/fs/store/storetest"
	"cloister/prep"
)

// systemSnapshot describes what package os does not: owners, devices, allocated
// space, extended attributes; and the inode of what has several names.
func systemSnapshot(t testing.TB, path string, info os.FileInfo) (system, inode string) {
	t.Helper()
	st := info.Sys().(*syscall.Stat_t)
	system = fmt.Sprintf(" owner %d:%d rdev %d", st.Uid, st.Gid, st.Rdev)
	if info.Mode().IsRegular() {
		system += fmt.Sprintf(" links %d sparse %v", st.Nlink, st.Blocks*512 < st.Size)
	}
	if !info.IsDir() && st.Nlink > 1 {
		inode = fmt.Sprint(st.Dev, st.Ino)
	}
	names := make([]byte, 1<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(string(names[:max(n, 0)]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			value := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				t.Fatal(err)
			}
			system += fmt.Sprintf(" %s=%x", name, value[:n])
		}
	}
	return system, inode
}

// TestEverythingAFolderCanHold seals and decrypts one of every kind of file,
// and of every size at which the plan changes.
func TestEverythingAFolderCanHold(t *testing.T) {
	source := filepath.Join(t.TempDir(), "in")
	at := func(name string) string { return source + "/" + name }
	must(t, os.MkdirAll(at("dir/sub"), 0o755))
	must(t, os.Mkdir(at("empty-dir"), 0o711))
	write(t, at("empty"), nil)
	write(t, at("one"), []byte("x"))
	write(t, at("dir/not utf-8 \xff\xfe\x80"), []byte("bytes"))
	write(t, at("dir/new\nline \x1b[31m"), []byte("bytes"))
	write(t, at(strings.Repeat("n", 255)), []byte("long name"))
	write(t, at(strings.Repeat("\xc3", 255)), []byte("long name, not UTF-8"))
	for i, size := range []int{1<<20 - 1, 1 << 20, 1<<20 + 1, 33521623, 33521624, 33521625} {
		write(t, at(fmt.Sprintf("sized/%d", i)), noise(size, uint64(i)))
	}
	must(t, os.Symlink("one", at("link")))
	must(t, os.Symlink("/nowhere/\xff", at("dangling")))
	must(t, os.Symlink("..", at("dir/up")))
	must(t, os.Link(at("one"), at("dir/one-again")))
	must(t, os.Link(at("link"), at("dir/link-again")))
	must(t, unix.Mkfifo(at("fifo"), 0o640))
	must(t, unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	sparse(t, at("sparse"))
	sparse(t, at("dir/small-sparse"))
	must(t, os.Truncate(at("dir/small-sparse"), 200<<10))
	write(t, at("all-hole"), nil)
	must(t, os.Truncate(at("all-hole"), 5<<30))
	must(t, unix.Setxattr(at("one"), "user.comment", []byte("a\x00b"), 0))
	must(t, unix.Setxattr(at("one"), "user.empty", nil, 0))
	must(t, unix.Setxattr(at("dir"), "user.of-dir", []byte("d"), 0))
	must(t, os.Chmod(at("one"), 0o751|os.ModeSetuid|os.ModeSetgid))
	must(t, os.Chmod(at("dir/sub"), 0o555|os.ModeSticky))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("link"), []unix.Timespec{{}, {Sec: 5, Nsec: 7}}, unix.AT_SYMLINK_NOFOLLOW))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("empty"), []unix.Timespec{{}, {Sec: -5, Nsec: 999999999}}, 0))
	if os.Geteuid() == 0 { // only root can
		must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 0x12345))))
		must(t, os.Lchown(at("link"), 1234, 5678))
		must(t, os.Chown(at("dir/sub"), 1234, 5678))
	}
	t.Cleanup(func() { os.Chmod(at("dir/sub"), 0o755) })

	s := new(storetest.Memory)
	sealed := encrypt(t, s, source)
	out := mustRoundTrip(t, s, source, sealed.Reference, true)
	t.Cleanup(func() { os.Chmod(filepath.Join(out, "dir/sub"), 0o755) })
	for name, data := range objects(t, s) {
		if strings.Contains(string(data), "long name") {
			t.Errorf("%s shows plaintext", name)
		}
	}
}

// sparse makes a file of 3 MiB with data at its beginning, at 1 MiB, and none
// at its end.
func sparse(t *testing.T, path string) {
	t.Helper()
	write(t, path, noise(100<<10, 9))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(noise(1<<20, 10), 1<<20)
	must(t, err)
	must(t, f.Truncate(3<<20))
	must(t, f.Close())
}

func TestWithoutSpecialNothingDangerousComesOut(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/tool", []byte("#!/bin/sh"))
	must(t, os.Chmod(source+"/tool", 0o755|os.ModeSetuid|os.ModeSetgid|os.ModeSticky))
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(source+"/mem\x1b", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))))
		must(t, os.Link(source+"/mem\x1b", source+"/zz"))
	}
	s := new(storetest.Memory)
	encrypt(t, s, source)
	target := filepath.Join(t.TempDir(), "out")
	r, err := decrypt(s, target, nil)
	must(t, err)
	info, err := os.Stat(target + "/tool")
	must(t, err)
	if info.Mode() != 0o755|os.ModeSticky {
		t.Errorf("mode %v came out, want no setuid and setgid", info.Mode())
	}
	if os.Geteuid() == 0 {
		mustNotExist(t, target+"/mem\x1b")
		mustNotExist(t, target+"/zz")
		if len(r.Skipped) != 2 || r.Skipped[0] != `mem\x1b` {
			t.Errorf("skipped %q, want the device's two names, escaped", r.Skipped)
		}
	}
}

func TestHolesTakeNoSpace(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/hole", nil)
	must(t, os.Truncate(source+"/hole", 1<<40))
	s := new(storetest.Memory)
	sealed := encrypt(t, s, source)
	if sealed.NewObjects != 0 || sealed.Bytes != 1<<40 {
		t.Errorf("a hole became %d objects of a folder of %d bytes", sealed.NewObjects, sealed.Bytes)
	}
	out := mustRoundTripSizes(t, s)
	info, err := os.Stat(out + "/hole")
	must(t, err)
	if st := info.Sys().(*syscall.Stat_t); info.Size() != 1<<40 || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks came out", info.Size(), st.Blocks)
	}
}

func mustRoundTripSizes(t *testing.T, s prep.Store) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "out")
	_, err := decrypt(s, target, nil)
	must(t, err)
	return target
}
