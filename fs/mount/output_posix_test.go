//go:build linux

package mount_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// posix is one case: calls on a mounted output, in a directory of its own.
type posix struct {
	name string
	root bool // takes a right that only root has
	run  func(t *testing.T, dir string)
}

// want fails unless err is errno; 0 is success.
func want(t *testing.T, what string, err error, errno syscall.Errno) {
	t.Helper()
	if errno == 0 && err != nil || errno != 0 && !errors.Is(err, errno) {
		t.Errorf("%s: %v, want %v", what, err, errno)
	}
}

func openFile(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func reads(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), got, err, want)
	}
}

// later reports whether do gives the file a newer change time.
func later(t *testing.T, path string, do func() error) {
	t.Helper()
	before := lstat(t, path).Ctim
	time.Sleep(2 * time.Millisecond) // times are of the daemon's clock: two calls may share one
	want(t, "changing "+filepath.Base(path), do(), 0)
	if after := lstat(t, path).Ctim; after.Nano() <= before.Nano() {
		t.Errorf("%s: the change time stays at %v", filepath.Base(path), before)
	}
}

func lstat(t *testing.T, path string) (st syscall.Stat_t) {
	t.Helper()
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

var posixCases = []posix{
	{"every kind of file", true, func(t *testing.T, d string) {
		for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "char": unix.S_IFCHR, "block": unix.S_IFBLK, "file": unix.S_IFREG} {
			device := unix.Mkdev(11, 300)
			want(t, "mknod "+name, unix.Mknod(d+"/"+name, mode|0o640, int(device)), 0)
			st := lstat(t, d+"/"+name)
			if st.Mode&unix.S_IFMT != mode || (mode == unix.S_IFCHR || mode == unix.S_IFBLK) && st.Rdev != device {
				t.Errorf("%s is mode %o, device %x", name, st.Mode, st.Rdev)
			}
		}
		_, err := os.Open(d + "/char")
		want(t, "opening a device", err, unix.EACCES) // nodev
	}},
	{"names", false, func(t *testing.T, d string) {
		want(t, "255 bytes", os.Mkdir(d+"/"+strings.Repeat("n", 255), 0o755), 0)
		want(t, "256 bytes", os.Mkdir(d+"/"+strings.Repeat("n", 256), 0o755), unix.ENAMETOOLONG)
		want(t, "a target of 4095 bytes", os.Symlink(strings.Repeat("t", 4095), d+"/link"), 0)
		if got, err := os.Readlink(d + "/link"); len(got) != 4095 || err != nil {
			t.Errorf("the target has %d bytes, %v", len(got), err)
		}
		want(t, "an existing name", os.Mkdir(d+"/link", 0o755), unix.EEXIST)
	}},
	{"append", false, func(t *testing.T, d string) {
		x, y := openFile(t, d+"/f", os.O_CREATE|os.O_WRONLY|os.O_APPEND), openFile(t, d+"/f", os.O_WRONLY|os.O_APPEND)
		for range 3 {
			x.WriteString("x")
			y.WriteString("y")
		}
		reads(t, d+"/f", "xyxyxy")
	}},
	{"truncate both ways", false, func(t *testing.T, d string) {
		write(t, d+"/f", "0123456789")
		want(t, "shorter", os.Truncate(d+"/f", 4), 0)
		want(t, "longer", os.Truncate(d+"/f", 8), 0)
		reads(t, d+"/f", "0123\x00\x00\x00\x00")
		want(t, "a directory", unix.Truncate(d, 1), unix.EISDIR)
	}},
	{"holes", false, func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		want(t, "write", errors.Join(f.Truncate(10<<20), f.Sync()), 0)
		f.WriteAt([]byte("data"), 5<<20)
		for _, synced := range []bool{false, true} {
			data, err := f.Seek(0, unix.SEEK_DATA)
			hole, err2 := f.Seek(5<<20, unix.SEEK_HOLE)
			if data > 5<<20 || data < 5<<20-4096 || hole < 5<<20+4 || hole > 5<<20+4096 || err != nil || err2 != nil {
				t.Errorf("data at %d (%v), hole at %d (%v); synced: %v", data, err, hole, err2, synced)
			}
			_, err = f.Seek(6<<20, unix.SEEK_DATA)
			want(t, "data behind the last", err, unix.ENXIO)
			want(t, "sync", f.Sync(), 0)
		}
		if st := lstat(t, d+"/f"); st.Size != 10<<20 || st.Blocks == 0 || st.Blocks > 16 {
			t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
		}
	}},
	{"fallocate", false, func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		f.WriteString("0123456789")
		fallocate := func(mode uint32, off, n int64) error { return unix.Fallocate(int(f.Fd()), mode, off, n) }
		want(t, "punch", fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3), 0)
		want(t, "zero, keeping the size", fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 8, 100), 0)
		want(t, "allocate, keeping the size", fallocate(unix.FALLOC_FL_KEEP_SIZE, 0, 100), 0)
		reads(t, d+"/f", "01\x00\x00\x00567\x00\x00")
		want(t, "allocate", fallocate(0, 0, 12), 0)
		reads(t, d+"/f", "01\x00\x00\x00567\x00\x00\x00\x00")
		want(t, "collapse", fallocate(unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), unix.EOPNOTSUPP)
	}},
	{"rename", false, func(t *testing.T, d string) {
		rename := func(from, to string, flags uint) error {
			return unix.Renameat2(unix.AT_FDCWD, d+"/"+from, unix.AT_FDCWD, d+"/"+to, flags)
		}
		write(t, d+"/a", "a")
		write(t, d+"/b", "b")
		os.MkdirAll(d+"/dir/sub", 0o755)
		os.Mkdir(d+"/empty", 0o755)
		want(t, "noreplace", rename("a", "b", unix.RENAME_NOREPLACE), unix.EEXIST)
		want(t, "exchange with nothing", rename("a", "none", unix.RENAME_EXCHANGE), unix.ENOENT)
		want(t, "exchange with a directory", rename("a", "dir", unix.RENAME_EXCHANGE), 0)
		reads(t, d+"/dir", "a")
		want(t, "back", rename("a", "dir", unix.RENAME_EXCHANGE), 0)
		want(t, "below itself", rename("dir", "dir/sub/x", 0), unix.EINVAL)
		want(t, "a file over a directory", rename("a", "empty", 0), unix.EISDIR)
		want(t, "a directory over a file", rename("empty", "a", 0), unix.ENOTDIR)
		want(t, "over a full directory", rename("empty", "dir", 0), unix.ENOTEMPTY)
		want(t, "over an empty directory", rename("dir", "empty", 0), 0)
		want(t, "over a file", rename("a", "b", 0), 0)
		reads(t, d+"/b", "a")
		want(t, "whiteout", rename("b", "w", unix.RENAME_WHITEOUT), unix.EINVAL)
		if st := lstat(t, d); st.Nlink != 3 {
			t.Errorf("the directory has %d links", st.Nlink)
		}
	}},
	{"links and open files", false, func(t *testing.T, d string) {
		write(t, d+"/a", "text")
		later(t, d+"/a", func() error { return os.Link(d+"/a", d+"/b") })
		f := openFile(t, d+"/a", os.O_RDWR)
		later(t, d+"/b", func() error { return os.Remove(d + "/a") })
		want(t, "the last name", os.Remove(d+"/b"), 0)
		f.WriteAt([]byte("T"), 0)
		got := make([]byte, 4)
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != "Text" {
			t.Errorf("an unlinked file reads %q, %v", got, err)
		}
		var st syscall.Stat_t
		if syscall.Fstat(int(f.Fd()), &st); st.Nlink != 0 {
			t.Errorf("it has %d links", st.Nlink)
		}
		want(t, "linking a directory", os.Link(d, d+"/c"), unix.EPERM)
		os.MkdirAll(d+"/x/y", 0o755)
		want(t, "a full directory", os.Remove(d+"/x"), unix.ENOTEMPTY)
		want(t, "unlinking a directory", unix.Unlink(d+"/x"), unix.EISDIR)
	}},
	{"unnamed files", false, func(t *testing.T, d string) {
		f := openFile(t, d, unix.O_TMPFILE|os.O_RDWR)
		f.WriteString("unnamed")
		want(t, "naming it", unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, d+"/named", unix.AT_SYMLINK_FOLLOW), 0)
		reads(t, d+"/named", "unnamed")
		openFile(t, d, unix.O_TMPFILE|os.O_RDWR).WriteString("gone")
	}},
	{"modes, owners, times", true, func(t *testing.T, d string) {
		write(t, d+"/f", "x")
		later(t, d+"/f", func() error { return unix.Chmod(d+"/f", 0o6755) })
		later(t, d+"/f", func() error { return os.Chown(d+"/f", 5, 6) })
		if st := lstat(t, d+"/f"); st.Mode != unix.S_IFREG|0o755 || st.Uid != 5 || st.Gid != 6 {
			t.Errorf("after chown: mode %o, owner %d:%d", st.Mode, st.Uid, st.Gid)
		}
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: -5, Nsec: 7}}
		later(t, d+"/f", func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, d+"/f", times, 0) })
		if st := lstat(t, d+"/f"); st.Mtim.Sec != -5 || st.Mtim.Nsec != 7 || st.Atim.Sec < 0 {
			t.Errorf("times are %+v, %+v", st.Atim, st.Mtim)
		}
		for what, script := range map[string]string{"write": "echo more >>f", "truncate": "truncate -s 1 f", "open to truncate": ": >f", "allocate": "fallocate -l 9 f"} {
			unix.Chmod(d+"/f", 0o6777)
			as(t, nobody, "cd "+d+" && "+script)
			if st := lstat(t, d+"/f"); st.Mode&0o6777 != 0o777 {
				t.Errorf("a %s by somebody else leaves mode %o", what, st.Mode)
			}
			unix.Chmod(d+"/f", 0o2767)
			as(t, nobody, "cd "+d+" && "+script)
			if st := lstat(t, d+"/f"); st.Mode&0o6777 != 0o2767 {
				t.Errorf("a %s by somebody else leaves mode %o, where the group may not run it", what, st.Mode)
			}
		}
		unix.Chmod(d+"/f", 0o6777)
		write(t, d+"/f", "privileged")
		if st := lstat(t, d+"/f"); st.Mode&0o6777 != 0o6777 {
			t.Errorf("a write by root leaves mode %o", st.Mode)
		}
	}},
	{"sticky and setgid directories", true, func(t *testing.T, d string) {
		os.Mkdir(d+"/s", 0o755)
		want(t, "chmod", unix.Chmod(d+"/s", 0o1777), 0)
		write(t, d+"/s/mine", "")
		if out := as(t, nobody, "rm -f "+d+"/s/mine 2>&1; mv "+d+"/s/mine "+d+"/s/yours 2>&1; true"); strings.Count(out, "not permitted") != 2 {
			t.Errorf("in a sticky directory somebody else may: %s", out)
		}
		os.Mkdir(d+"/g", 0o755)
		want(t, "chown", errors.Join(os.Chown(d+"/g", 0, 77), unix.Chmod(d+"/g", 0o2755)), 0)
		os.Mkdir(d+"/g/sub", 0o755)
		write(t, d+"/g/file", "")
		if sub, file := lstat(t, d+"/g/sub"), lstat(t, d+"/g/file"); sub.Gid != 77 || sub.Mode&0o2000 == 0 || file.Gid != 77 {
			t.Errorf("below a setgid directory: group %d mode %o, group %d", sub.Gid, sub.Mode, file.Gid)
		}
	}},
	{"extended attributes", false, func(t *testing.T, d string) {
		write(t, d+"/f", "")
		set := func(name string, n, flags int) error { return unix.Setxattr(d+"/f", name, make([]byte, n), flags) }
		want(t, "replace none", set("user.a", 1, unix.XATTR_REPLACE), unix.ENODATA)
		later(t, d+"/f", func() error { return set("user.a", 5, unix.XATTR_CREATE) })
		want(t, "create again", set("user.a", 1, unix.XATTR_CREATE), unix.EEXIST)
		want(t, "64 KiB", set("user.b", 64<<10, 0), 0)
		buf := make([]byte, 4)
		_, err := unix.Getxattr(d+"/f", "user.a", buf)
		want(t, "too small a buffer", err, unix.ERANGE)
		n, err := unix.Listxattr(d+"/f", make([]byte, 100))
		if n != len("user.a")+len("user.b")+2 || err != nil {
			t.Errorf("a list of %d bytes, %v", n, err)
		}
		want(t, "remove", unix.Removexattr(d+"/f", "user.a"), 0)
		want(t, "remove again", unix.Removexattr(d+"/f", "user.a"), unix.ENODATA)
		want(t, "an access control list", unix.Setxattr(d+"/f", "system.posix_acl_access", buf, 0), unix.EOPNOTSUPP)
	}},
	{"locks", false, func(t *testing.T, d string) {
		x, y := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR), openFile(t, d+"/f", os.O_RDWR)
		want(t, "flock", unix.Flock(int(x.Fd()), unix.LOCK_EX), 0)
		want(t, "flock held", unix.Flock(int(y.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		lock := func(f *os.File, start int64) error {
			return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: 10})
		}
		want(t, "lock", lock(x, 0), 0)
		want(t, "lock elsewhere", lock(y, 10), 0)
		want(t, "lock held", lock(y, 5), unix.EAGAIN)
	}},
	{"copy_file_range", false, func(t *testing.T, d string) {
		data := content(300_000, 9)
		write(t, d+"/a", string(data))
		from, to := openFile(t, d+"/a", os.O_RDONLY), openFile(t, d+"/b", os.O_CREATE|os.O_RDWR)
		off, at := int64(100), int64(50)
		n, err := unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), &at, 200_000, 0)
		got := make([]byte, n)
		to.ReadAt(got, 50)
		if err != nil || n == 0 || !bytes.Equal(got, data[100:100+n]) {
			t.Errorf("copied %d bytes, %v, or others", n, err)
		}
	}},
	{"flags of open", false, func(t *testing.T, d string) {
		write(t, d+"/f", "text")
		_, err := os.OpenFile(d+"/f", os.O_CREATE|os.O_EXCL, 0o644)
		want(t, "O_EXCL", err, unix.EEXIST)
		openFile(t, d+"/f", os.O_WRONLY|os.O_TRUNC)
		reads(t, d+"/f", "")
		_, err = os.OpenFile(d, os.O_WRONLY, 0)
		want(t, "writing a directory", err, unix.EISDIR)
		_, err = openFile(t, d+"/f", os.O_RDWR).WriteAt([]byte("x"), 1<<62)
		want(t, "beyond the longest file", err, unix.EFBIG)
	}},
}

// as runs a script as another user.
func as(t *testing.T, user uint32, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// TestOutputPosixTable runs the project's own cases, and finds what they left
// in the next mount as it was.
func TestOutputPosixTable(t *testing.T) {
	s := newOutputSite(t, uint32(os.Geteuid()))
	want(t, "letting others in", os.Chmod(filepath.Dir(s.dir), 0o755), 0)
	d := s.mount(t, "--output")
	for i, c := range posixCases {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("takes rights that only root has")
			}
			dir := filepath.Join(s.dir, "case"+strconv.Itoa(i))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			c.run(t, dir)
		})
	}
	left := s.tree(t)
	d.stop(s)
	d = s.mount(t, "--output")
	sameTree(t, "mounted again", s.tree(t), left)
	d.stop(s)
}

// TestOutputQuota fills a volume with --max-size: what does not fit is refused
// whole, the figures are those of statfs, and removing makes room.
func TestOutputQuota(t *testing.T) {
	s := newOutputSite(t, uint32(os.Geteuid()))
	d := s.mount(t, "--output", "--max-size", "4MiB")
	f := openFile(t, s.dir+"/f", os.O_CREATE|os.O_RDWR)
	piece, written := content(100<<10, 1), 0
	var err error
	for err == nil {
		if _, err = f.WriteAt(piece, int64(written)); err == nil {
			written += len(piece)
		}
	}
	want(t, "writing too much", err, unix.ENOSPC)
	if st := lstat(t, s.dir+"/f"); st.Size != int64(written) || written != 40*len(piece) {
		t.Errorf("%d bytes were taken, the file has %d", written, st.Size)
	}
	var st unix.Statfs_t
	want(t, "statfs", unix.Statfs(s.dir, &st), 0)
	if total := int64(st.Blocks) * st.Bsize; total != 4<<20 || int64(st.Bavail)*st.Bsize != total-int64(written) {
		t.Errorf("statfs: %d of %d blocks of %d are free", st.Bavail, st.Blocks, st.Bsize)
	}
	_, err = f.WriteAt(piece, 0)
	want(t, "writing over what is there", err, 0)
	want(t, "allocating", unix.Fallocate(int(f.Fd()), 0, 0, 5<<20), unix.ENOSPC)
	want(t, "shortening", errors.Join(f.Truncate(1<<20), f.Sync()), 0)
	want(t, "allocating half", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 2<<20), 0)
	want(t, "statfs", unix.Statfs(s.dir, &st), 0)
	if free := int64(st.Bavail) * st.Bsize; free != 2<<20 {
		t.Errorf("statfs: %d bytes are free beside what is allocated", free)
	}
	other := openFile(t, s.dir+"/other", os.O_CREATE|os.O_RDWR)
	_, err = other.WriteAt(content(2<<20, 2), 0)
	want(t, "writing what is left", err, 0)
	_, err = other.WriteAt(piece, 2<<20)
	want(t, "writing more", err, unix.ENOSPC)
	_, err = f.WriteAt(content(1<<20, 3), 1<<20)
	want(t, "writing where it is allocated", errors.Join(err, f.Sync()), 0)
	want(t, "removing", errors.Join(other.Close(), os.Remove(s.dir+"/other"), f.Truncate(1<<20)), 0)
	write(t, s.dir+"/g", string(piece))
	f.Close()
	d.stop(s)
}
