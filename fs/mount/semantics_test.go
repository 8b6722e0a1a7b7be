//go:build linux

package mount_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cloister/fs/format"
	"cloister/fs/internal/voltest"

	"golang.org/x/sys/unix"
)

// The tests in this file keep the promises of SEMANTICS.md that the tests of
// mount_test.go do not.

const script = "#!/bin/sh\necho \"run as $(id -u)\"\n"

// semanticsVolume has a little of everything.
func semanticsVolume() *voltest.Volume {
	v := voltest.New()
	v.ObjectSize = 1 << 20
	v.Dir("d")
	v.Dir("d/e")
	v.Dir("empty")
	v.File("file", content(100_000, 1)).Attr.UID = uint32(os.Geteuid())
	v.File("Case", []byte("upper"))
	v.File("case", []byte("lower"))
	v.Sparse("sparse", 1<<20, voltest.Piece{Off: 300_000, Data: content(5000, 2)})
	v.File("large", content(3<<20, 3))
	v.File("program", []byte(script)).Attr.Mode = format.ModeFile | 0o4755
	v.Link("d/again", "file")
	v.Symlink("link", "d/again")
	v.Special("fifo", format.ModeFifo|0o666)
	v.Special("socket", format.ModeSocket|0o666)
	v.Special("null", format.ModeChar|0o666).Attr.Rdev = 0x103
	for i := range 300 {
		v.File(fmt.Sprintf("d/e/%03d", i), []byte{byte(i)})
	}
	return v
}

// mountOf mounts a volume for a test, and unmounts it after.
func mountOf(t *testing.T, v *voltest.Volume) (*site, *daemon) {
	t.Helper()
	s := newSite(t, uint32(os.Geteuid()), v)
	d := s.mount(t)
	t.Cleanup(func() {
		if !t.Failed() || d.cmd.ProcessState == nil {
			d.stop(s)
		}
	})
	return s, d
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStat(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	file := filepath.Join(s.dir, "file")
	before := stat(t, file)
	if before.Mode != syscall.S_IFREG|0o644 || before.Uid != uint32(os.Geteuid()) || before.Gid != 0 || before.Nlink != 2 || before.Size != 100_000 {
		t.Errorf("stat: %+v", before)
	}
	if before.Mtim != (syscall.Timespec{Sec: 1_600_000_000, Nsec: 123_456_789}) || before.Ctim != (syscall.Timespec{Sec: 1_600_000_001}) || before.Atim != before.Mtim {
		t.Errorf("times: %+v", before)
	}
	if _, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if after := stat(t, file); after != before {
		t.Errorf("after a read: %+v, before: %+v", after, before)
	}
	for name, want := range map[string]int64{"file": 196, "sparse": 10, "d": 0, "link": 0, "fifo": 0} {
		if st := stat(t, filepath.Join(s.dir, name)); st.Blocks != want {
			t.Errorf("%s takes %d blocks of 512 bytes, want %d", name, st.Blocks, want)
		}
	}
	for name, want := range map[string]int64{"d": 0, "link": 7, "null": 0} {
		if st := stat(t, filepath.Join(s.dir, name)); st.Size != want {
			t.Errorf("%s has size %d, want %d", name, st.Size, want)
		}
	}
	if st := stat(t, filepath.Join(s.dir, "null")); st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device number %x", st.Rdev)
	}
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, file, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &stx); err != nil || stx.Mask&unix.STATX_BTIME != 0 || stx.Size != 100_000 {
		t.Errorf("statx: %+v, %v", stx, err)
	}
}

// TestInodeNumbers: they are the volume's, in stat and in listings, and the
// next mount has the same.
func TestInodeNumbers(t *testing.T) {
	v := semanticsVolume()
	s := newSite(t, uint32(os.Geteuid()), v)
	for round := range 2 {
		d := s.mount(t)
		for _, name := range []string{"file", "d", "d/e/299", "link", "fifo"} {
			if st := stat(t, filepath.Join(s.dir, name)); st.Ino != uint64(v.Inode(name)) {
				t.Errorf("mount %d: %s has inode number %d, the volume %d", round, name, st.Ino, v.Inode(name))
			}
		}
		for _, e := range dirents(t, filepath.Join(s.dir, "d")) {
			want := map[string]uint32{".": v.Inode("d"), "..": format.RootInode, "again": v.Inode("file"), "e": v.Inode("d/e")}[e.name]
			if e.inode != uint64(want) {
				t.Errorf("mount %d: listed %s has inode number %d, want %d", round, e.name, e.inode, want)
			}
		}
		d.stop(s)
	}
}

type dirent struct {
	name   string
	inode  uint64
	cookie int64
	kind   uint8
}

// dirents reads a directory with getdents64, in pieces of a few entries.
func dirents(t *testing.T, dir string) (all []dirent) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 300)
	for {
		n, err := unix.Getdents(int(f.Fd()), buf)
		if err != nil {
			t.Fatalf("getdents %s: %v", dir, err)
		}
		if n == 0 {
			return all
		}
		for b := buf[:n]; len(b) > 0; {
			var e dirent
			e, b = decodeDirent(b)
			all = append(all, e)
		}
	}
}

// decodeDirent decodes a struct linux_dirent64: getdents64(2).
func decodeDirent(b []byte) (e dirent, rest []byte) {
	ne := binary.NativeEndian
	length := ne.Uint16(b[16:])
	name, _, _ := bytes.Cut(b[19:length], []byte{0})
	return dirent{string(name), ne.Uint64(b), int64(ne.Uint64(b[8:])), b[18]}, b[length:]
}

func TestReadDir(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	all := dirents(t, filepath.Join(s.dir, "d/e"))
	if len(all) != 302 || all[0].name != "." || all[1].name != ".." {
		t.Fatalf("%d entries, the first %q", len(all), all[0].name)
	}
	if !slices.IsSortedFunc(all[2:], func(a, b dirent) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the entries do not ascend by name")
	}
	// telldir and seekdir: from every place on, what follows is the same.
	f := open(t, filepath.Join(s.dir, "d/e"))
	buf := make([]byte, 64)
	for i, e := range all[:len(all)-1] {
		if _, err := f.Seek(e.cookie, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Getdents(int(f.Fd()), buf); err != nil {
			t.Fatal(err)
		}
		if next, _ := decodeDirent(buf); next.name != all[i+1].name {
			t.Fatalf("after %q comes %q, want %q", e.name, next.name, all[i+1].name)
		}
	}
	kinds := map[string]uint8{"d": unix.DT_DIR, "file": unix.DT_REG, "link": unix.DT_LNK, "fifo": unix.DT_FIFO, "socket": unix.DT_SOCK, "null": unix.DT_CHR}
	for _, e := range dirents(t, s.dir) {
		if want, ok := kinds[e.name]; ok && e.kind != want {
			t.Errorf("%s is listed with type %d, want %d", e.name, e.kind, want)
		}
	}
}

func TestNames(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	for name, want := range map[string]string{"Case": "upper", "case": "lower"} {
		if got, err := os.ReadFile(filepath.Join(s.dir, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{"CASE": syscall.ENOENT, "file/x": syscall.ENOTDIR, "fil": syscall.ENOENT, "filee": syscall.ENOENT, strings.Repeat("n", 256): syscall.ENAMETOOLONG} {
		for range 2 { // the second is answered from the kernel's memory
			if _, err := os.Lstat(filepath.Join(s.dir, name)); !errors.Is(err, want) {
				t.Errorf("%.20s: %v, want %v", name, err, want)
			}
		}
	}
	if _, err := os.ReadFile(filepath.Join(s.dir, "d")); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("reading a directory: %v", err)
	}
	if _, err := unix.Open(filepath.Join(s.dir, "file"), unix.O_DIRECTORY, 0); err != unix.ENOTDIR {
		t.Errorf("opening a file as a directory: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, "link")); err != nil || len(got) != 100_000 {
		t.Errorf("through a symlink: %d bytes, %v", len(got), err)
	}
}

// TestReadAt reads at every kind of offset and length.
func TestReadAt(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	sparse := make([]byte, 1<<20)
	copy(sparse[300_000:], content(5000, 2))
	for name, want := range map[string][]byte{"file": content(100_000, 1), "sparse": sparse, "large": content(3<<20, 3)} {
		for _, flags := range []int{0, unix.O_DIRECT} {
			f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDONLY|flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, off := range []int{0, 1, 4095, 16_328, 16_329, 299_999, 304_999, 1<<20 - 1, len(want) - 1, len(want), len(want) + 4096} {
				for _, n := range []int{1, 511, 4096, 16_384, 1<<20 + 1} {
					buf := make([]byte, n)
					got, err := f.ReadAt(buf, int64(off))
					if rest := want[min(off, len(want)):]; !bytes.Equal(buf[:got], rest[:min(n, len(rest))]) || (got < n) != (err == io.EOF) || got == n && err != nil {
						t.Fatalf("%s, flags %x: %d at %d reads %d, %v", name, flags, n, off, got, err)
					}
				}
			}
			f.Close()
		}
	}
}

func TestMmap(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	want := content(3<<20, 3)
	f := open(t, filepath.Join(s.dir, "large"))
	for _, c := range []struct {
		name        string
		prot, flags int
	}{{"private", unix.PROT_READ, unix.MAP_PRIVATE}, {"shared", unix.PROT_READ, unix.MAP_SHARED}, {"populated", unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_POPULATE},
		{"executable", unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE}, {"copied on write", unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE}} {
		m, err := unix.Mmap(int(f.Fd()), 0, len(want), c.prot, c.flags)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !bytes.Equal(m, want) {
			t.Errorf("%s: the mapping shows other bytes", c.name)
		}
		if c.prot&unix.PROT_WRITE != 0 {
			m[5] ^= 1
		}
		unix.Munmap(m)
	}
	got := make([]byte, 10)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[:10]) {
		t.Errorf("a write to a private mapping shows in the file (%v)", err)
	}
	if _, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != unix.EACCES {
		t.Errorf("a shared mapping to write to: %v", err)
	}
	small := open(t, filepath.Join(s.dir, "Case"))
	m, err := unix.Mmap(int(small.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil || string(m[:5]) != "upper" || !bytes.Equal(m[5:], make([]byte, 4091)) {
		t.Errorf("behind the end, a page shows something else than zeros (%v)", err)
	}
	unix.Munmap(m)
}

func TestStatfs(t *testing.T) {
	v := semanticsVolume()
	s, _ := mountOf(t, v)
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		t.Fatal(err)
	}
	bytes := int64(100_000 + 5 + 5 + 1<<20 + 3<<20 + len(script) + len("d/again") + 300)
	if st.Bsize != 4096 || st.Frsize != 4096 || st.Blocks != uint64(bytes+4095)/4096 || st.Bfree != 0 || st.Bavail != 0 || st.Files != 314 || st.Ffree != 0 || st.Namelen != 255 {
		t.Errorf("statfs: %+v, want %d blocks", st, (bytes+4095)/4096)
	}
	if st.Type != unix.FUSE_SUPER_MAGIC || st.Flags&(unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV) != unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("statfs: type %x, flags %x", st.Type, st.Flags)
	}
}

// TestLocks: the kernel keeps them, on this machine.
func TestLocks(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	a, b := open(t, filepath.Join(s.dir, "file")), open(t, filepath.Join(s.dir, "d/again"))
	if err := unix.Flock(int(a.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(b.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("flock beside an exclusive one: %v", err)
	}
	unix.Flock(int(a.Fd()), unix.LOCK_UN)
	read := unix.Flock_t{Type: unix.F_RDLCK, Whence: 0, Start: 10, Len: 5}
	for _, f := range []*os.File{a, b} {
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &read); err != nil {
			t.Errorf("two read locks: %v", err)
		}
	}
	write := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	if err := unix.FcntlFlock(a.Fd(), unix.F_SETLK, &write); err != unix.EBADF {
		t.Errorf("a write lock on what cannot be written: %v", err)
	}
	write = unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: 12, Len: 1}
	if err := unix.FcntlFlock(b.Fd(), unix.F_OFD_GETLK, &write); err != nil || write.Type != unix.F_RDLCK {
		t.Errorf("asked for a lock, the answer is type %d, %v", write.Type, err)
	}
}

// TestReadOnly: what does not change a file may be done to it, and nothing else.
func TestReadOnly(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	file := filepath.Join(s.dir, "file")
	for what, c := range map[string]struct {
		flags int
		want  error
	}{
		"O_RDWR": {unix.O_RDWR, unix.EROFS}, "O_WRONLY": {unix.O_WRONLY, unix.EROFS}, "O_TRUNC": {unix.O_TRUNC, unix.EROFS}, "O_APPEND": {unix.O_WRONLY | unix.O_APPEND, unix.EROFS},
		"O_CREAT": {unix.O_CREAT, nil}, "O_CREAT|O_EXCL": {unix.O_CREAT | unix.O_EXCL, unix.EEXIST}, "O_NOATIME": {unix.O_NOATIME, nil}, "O_PATH": {unix.O_PATH, nil}, "O_SYNC": {unix.O_SYNC, nil},
	} {
		fd, err := unix.Open(file, c.flags, 0o644)
		if err != c.want && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
	f := open(t, file)
	for what, err := range map[string]error{"fsync": f.Sync(), "fadvise": unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED)} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"access": unix.Access(file, unix.W_OK), "lsetxattr": unix.Lsetxattr(file, "user.x", nil, 0), "fallocate": unix.Access(s.dir, unix.W_OK),
		"mknod": unix.Mknod(file+"2", unix.S_IFREG|0o600, 0), "O_TMPFILE": openError(s.dir, unix.O_TMPFILE|unix.O_RDWR),
		"rename": unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, filepath.Join(s.dir, "case"), unix.RENAME_EXCHANGE), "chown": os.Chown(file, 1, 1),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	if _, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err != unix.ENOTTY {
		t.Errorf("ioctl: %v, want ENOTTY", err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if n, err := unix.CopyFileRange(int(f.Fd()), nil, int(out.Fd()), nil, 100_000, 0); n == 0 || err != nil && err != unix.EXDEV {
		t.Errorf("copy_file_range out of the mount: %d, %v", n, err)
	}
	if n, err := unix.Sendfile(int(out.Fd()), int(f.Fd()), new(int64), 50_000); n == 0 || err != nil {
		t.Errorf("sendfile: %d, %v", n, err)
	}
}

func openError(path string, flags int) error {
	fd, err := unix.Open(path, flags, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// TestSpecialFiles: pipes work, devices and sockets do not, programs run
// without the rights their mode would lend them.
func TestSpecialFiles(t *testing.T) {
	s, _ := mountOf(t, semanticsVolume())
	pipe, err := os.OpenFile(filepath.Join(s.dir, "fifo"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	buf := make([]byte, 5)
	if _, err := pipe.WriteString("hello"); err != nil {
		t.Errorf("writing to a pipe: %v", err)
	} else if _, err := io.ReadFull(pipe, buf); err != nil || string(buf) != "hello" {
		t.Errorf("a pipe gives %q, %v", buf, err)
	}
	if err := openError(filepath.Join(s.dir, "null"), unix.O_RDONLY); err != unix.EACCES {
		t.Errorf("opening a device: %v, want EACCES", err)
	}
	if err := openError(filepath.Join(s.dir, "socket"), unix.O_RDONLY); err != unix.ENXIO {
		t.Errorf("opening a socket: %v, want ENXIO", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	cmd := exec.Command(filepath.Join(s.dir, "program"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != fmt.Sprintf("run as %d\n", nobody) {
		t.Errorf("a setuid program says %q, %v", out, err)
	}
}

// TestKernelCache: what was read, looked up or listed is answered without the
// store, and what was not is an error while the store has lost it.
func TestKernelCache(t *testing.T) {
	s, d := mountOf(t, semanticsVolume())
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(s.dir, name)) }
	want := content(3<<20, 3)
	if got, err := read("large"); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
	if err := os.Rename(s.volume+"/data", s.volume+"/gone"); err != nil {
		t.Fatal(err)
	}
	if got, err := read("large"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read again: %v", err)
	}
	if _, err := read("sparse"); !errors.Is(err, syscall.EIO) {
		t.Errorf("what was not read: %v", err)
	}
	listTree := func() error {
		return exec.Command("find", s.dir, "-size", "+0").Run() // all names and attributes
	}
	if err := listTree(); err != nil {
		t.Errorf("listing while the store has lost its objects: %v", err)
	}
	if err := os.Rename(s.volume+"/gone", s.volume+"/data"); err != nil {
		t.Fatal(err)
	}
	if _, err := read("sparse"); err != nil {
		t.Errorf("once the objects are back: %v; the daemon said: %s", err, d.stderr)
	}
}

// TestMountedEpochStays: a new epoch does not show in a mount that is there.
func TestMountedEpochStays(t *testing.T) {
	s := newOutputSite(t, uint32(os.Geteuid()))
	k := &keptVolume{site: s}
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("file", "one")
	k.cloister(t, "prep", "encrypt", "--key", s.key, folder, s.volume)
	d := s.mount(t)
	write("file", "second")
	write("added", "x")
	k.cloister(t, "prep", "encrypt", "--key", s.key, folder, s.volume)
	if got, err := os.ReadFile(s.dir + "/file"); err != nil || string(got) != "one" {
		t.Errorf("the mount shows %q, %v", got, err)
	}
	if _, err := os.Lstat(s.dir + "/added"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount shows what was added: %v", err)
	}
	d.stop(s)
	d = s.mount(t)
	if got, err := os.ReadFile(s.dir + "/file"); err != nil || string(got) != "second" {
		t.Errorf("the next mount shows %q, %v", got, err)
	}
	d.stop(s)
}

// TestLostObjects: an object that is gone, and one that ends early, are errors
// for the bytes they hold and no others; names and attributes stay.
func TestLostObjects(t *testing.T) {
	v := voltest.New()
	v.ObjectSize = 1 << 20
	want := map[string][]byte{}
	for i := range 3 {
		name := fmt.Sprintf("f%d", i)
		want[name] = content(1<<20, uint64(i))
		v.File(name, want[name])
	}
	s, _ := mountOf(t, v)
	object := func(i int) string { return filepath.Join(s.volume, format.ObjectName(v.Objects()[i].ID)) }
	const left = 600_000
	if err := errors.Join(os.Remove(object(0)), os.Truncate(object(1), left)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(s.dir + "/f0"); !errors.Is(err, syscall.EIO) || len(got) > 0 {
		t.Errorf("of an object that is gone: %d bytes, %v", len(got), err)
	}
	got, err := os.ReadFile(s.dir + "/f1")
	if !errors.Is(err, syscall.EIO) || !bytes.Equal(got, want["f1"][:len(got)]) {
		t.Errorf("of an object that ends early: %d bytes, %v", len(got), err)
	}
	whole := v.Suite.PlainStart(left/v.Suite.SegmentSize()) &^ 4095 // the kernel keeps whole pages
	head := make([]byte, whole)
	if n, err := open(t, s.dir+"/f1").ReadAt(head, 0); err != nil || !bytes.Equal(head, want["f1"][:whole]) {
		t.Errorf("the %d bytes that are left: %d, %v", whole, n, err)
	}
	if got, err := os.ReadFile(s.dir + "/f2"); err != nil || !bytes.Equal(got, want["f2"]) {
		t.Errorf("of an object that is whole: %v", err)
	}
	for name := range want {
		if st := stat(t, filepath.Join(s.dir, name)); st.Size != 1<<20 {
			t.Errorf("%s has size %d", name, st.Size)
		}
	}
}

// TestDamageUnderMapping: a page that cannot be had is SIGBUS, as the kernel
// has it for a disk.
func TestDamageUnderMapping(t *testing.T) {
	v := voltest.New()
	v.File("f", content(1<<20, 1))
	s, _ := mountOf(t, v)
	flip(t, s, 0, 30)
	for _, c := range []struct {
		off  int
		want string
	}{{0, "--- PASS: TestTouch"}, {30 << 14, "SIGBUS"}} {
		cmd := exec.Command(shared+"/helper", "-test.run=^TestTouch$", "-test.v")
		cmd.Env = append(os.Environ(), helperEnv+"="+s.dir, fmt.Sprintf("CLOISTER_MOUNT_TEST_TOUCH=%d", c.off))
		if out, _ := cmd.CombinedOutput(); !bytes.Contains(out, []byte(c.want)) {
			t.Errorf("touching the page at %d: %s", c.off, out)
		}
	}
}

// TestTouch reads one byte of a mapping, for TestDamageUnderMapping.
func TestTouch(t *testing.T) {
	var off int
	if _, err := fmt.Sscan(os.Getenv("CLOISTER_MOUNT_TEST_TOUCH"), &off); err != nil {
		t.Skip("run by TestDamageUnderMapping, in a process of its own")
	}
	f := open(t, filepath.Join(os.Getenv(helperEnv), "f"))
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
	m, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	unix.Madvise(m, unix.MADV_RANDOM)
	if m[off] != content(1<<20, 1)[off] {
		t.Error("another byte")
	}
}

// TestKilledDaemonAnswersENOTCONN: so that no program takes a dead mount for an
// empty directory.
func TestKilledDaemonAnswersENOTCONN(t *testing.T) {
	s := newSite(t, uint32(os.Geteuid()), semanticsVolume())
	d := s.mount(t)
	f := open(t, filepath.Join(s.dir, "large"))
	d.signal(syscall.SIGKILL)
	d.wait()
	for what, err := range map[string]error{
		"stat": statError(filepath.Join(s.dir, "d/e/007")), "open": openError(filepath.Join(s.dir, "file"), unix.O_RDONLY), "list": readDirError(filepath.Join(s.dir, "d")),
	} {
		if !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("%s: %v, want ENOTCONN", what, err)
		}
	}
	if _, err := f.ReadAt(make([]byte, 10), 2<<20); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.EIO) {
		t.Errorf("read through what was open: %v", err)
	}
	f.Close()
	d = s.mount(t)
	if err := statError(filepath.Join(s.dir, "d/e/007")); err != nil {
		t.Errorf("after the next start: %v", err)
	}
	d.stop(s)
}

func statError(path string) error    { _, err := os.Lstat(path); return err }
func readDirError(path string) error { _, err := os.ReadDir(path); return err }
