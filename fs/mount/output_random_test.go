//go:build linux

package mount_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloister/internal/azurite"
	"cloister/internal/cli"

	"golang.org/x/sys/unix"
)

// twin does the same in two directories, an output mount and one of a file
// system of the kernel's own, and compares the answers.
type twin struct {
	t     *testing.T
	r     *rand.Rand
	roots [2]string // the mount, the reference
	files [][2]*os.File
	// refuses has the store take nothing; nil where it cannot.
	refuses *atomic.Bool
	failed  bool // it has, in this daemon's life
	trace   []string
	done    map[string]int // by the first word of what was done, where it was not refused
}

// same does an operation on both sides, and compares what it returns.
func (p *twin) same(what string, do func(side int) (string, error)) (ok bool) {
	p.t.Helper()
	p.trace = append(p.trace, what)
	var said [2]string
	for side := range said {
		text, err := do(side)
		var errno syscall.Errno
		if errors.As(err, &errno) {
			text = unix.ErrnoName(errno)
		} else if err != nil {
			text = err.Error()
		}
		said[side], ok = text, err == nil
	}
	if said[0] != said[1] {
		p.t.Fatalf("%s: the mount says %s, the reference %s; before it: %s", what, clip(said[0]), clip(said[1]),
			strings.Join(p.trace[max(0, len(p.trace)-40):], "; "))
	}
	if ok {
		p.done[strings.Fields(what)[0]]++
	}
	return ok
}

// path draws one that may be there.
func (p *twin) path() string {
	parts := make([]string, 1+p.r.IntN(3))
	for i := range parts {
		parts[i] = []string{"a", "b", "c", "d", longName}[p.r.IntN(5)]
	}
	return strings.Join(parts, "/")
}

func (p *twin) at(side int, path string) string { return p.roots[side] + "/" + path }

// name does something with a path.
func (p *twin) name(op string, do func(path string) error) {
	path := p.path()
	p.same(op+" "+path, func(side int) (string, error) { return "", do(p.at(side, path)) })
}

// two does something with two paths.
func (p *twin) two(op string, do func(from, to string) error) {
	from, to := p.path(), p.path()
	p.same(op+" "+from+" "+to, func(side int) (string, error) { return "", do(p.at(side, from), p.at(side, to)) })
}

func (p *twin) open() {
	path, flags := p.path(), os.O_RDWR|[]int{0, os.O_CREATE, os.O_CREATE, os.O_CREATE | os.O_EXCL, os.O_TRUNC, unix.O_TMPFILE}[p.r.IntN(6)]
	if flags&unix.O_TMPFILE == unix.O_TMPFILE {
		path = filepath.Dir(path)
	}
	p.keep(fmt.Sprintf("open %s %#x", path, flags), func(side int) (*os.File, error) {
		return os.OpenFile(p.at(side, path), flags|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o640)
	})
}

func (p *twin) keep(what string, open func(side int) (*os.File, error)) {
	var f [2]*os.File
	ok := p.same(what, func(side int) (_ string, err error) {
		f[side], err = open(side)
		return "", err
	})
	if ok {
		p.files = append(p.files, f)
	}
	if len(p.files) > 8 {
		p.close()
	}
}

// file does something with an open file, and compares its size afterwards.
func (p *twin) file(op string, do func(f *os.File, side int) (string, error)) {
	if len(p.files) == 0 {
		return
	}
	i := p.r.IntN(len(p.files))
	p.same(fmt.Sprintf("%s %s", op, strings.TrimPrefix(p.files[i][1].Name(), p.roots[1])), func(side int) (string, error) {
		text, err := do(p.files[i][side], side)
		if info, e := p.files[i][side].Stat(); e == nil && info.Mode().IsRegular() {
			text += fmt.Sprint(" size ", info.Size())
		}
		return text, err
	})
}

func (p *twin) offset() int64 {
	return []int64{0, 4096, 16_328, 49_152, 300_000}[p.r.IntN(5)] + p.r.Int64N(5000)
}

func (p *twin) write() {
	off, data := p.offset(), content([]int{1, 100, 4096, 9000, 70_000}[p.r.IntN(5)], p.r.Uint64())
	p.file(fmt.Sprintf("pwrite %d+%d", off, len(data)), func(f *os.File, _ int) (string, error) {
		n, err := f.WriteAt(data, off)
		return fmt.Sprint(n), err
	})
}

func (p *twin) append() {
	data := content(1+p.r.IntN(9000), p.r.Uint64())
	p.name(fmt.Sprintf("append %d", len(data)), func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	})
}

func (p *twin) read() {
	off := p.offset()
	p.file(fmt.Sprintf("pread %d", off), func(f *os.File, _ int) (string, error) {
		buf := make([]byte, 100_000)
		n, err := unix.Pread(int(f.Fd()), buf, off)
		return fmt.Sprintf("%d %x", n, sha256.Sum256(buf[:max(n, 0)])), err
	})
}

func (p *twin) truncate() {
	size := p.offset()
	p.file(fmt.Sprintf("ftruncate %d", size), func(f *os.File, _ int) (string, error) { return "", f.Truncate(size) })
}

func (p *twin) allocate() {
	off, length := p.offset(), 1+p.offset()
	mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_PUNCH_HOLE}[p.r.IntN(4)]
	p.file(fmt.Sprintf("fallocate %#x %d+%d", mode, off, length), func(f *os.File, _ int) (string, error) {
		return "", unix.Fallocate(int(f.Fd()), mode, off, length)
	})
}

// zero is fallocate's zero range, which tmpfs has not: there it is a write.
func (p *twin) zero() {
	off, length := p.offset(), 1+p.offset()
	p.file(fmt.Sprintf("zero %d+%d", off, length), func(f *os.File, side int) (string, error) {
		if side == 0 {
			return "", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, off, length)
		}
		_, err := f.WriteAt(make([]byte, length), off)
		return "", err
	})
}

// copy is copy_file_range from one open file to another, or to itself.
func (p *twin) copy() {
	if len(p.files) == 0 {
		return
	}
	to, at, from, length := p.files[p.r.IntN(len(p.files))], p.offset(), p.offset(), 1+p.r.IntN(100_000)
	p.file(fmt.Sprintf("copy %d to %d+%d of %s", from, at, length, strings.TrimPrefix(to[1].Name(), p.roots[1])), func(f *os.File, side int) (string, error) {
		done := 0
		for from, at := from, at; done < length; {
			n, err := unix.CopyFileRange(int(f.Fd()), &from, int(to[side].Fd()), &at, length-done, 0)
			if done += max(n, 0); err != nil || n == 0 {
				return fmt.Sprint(done), err
			}
		}
		return fmt.Sprint(done), nil
	})
}

// linkOpen gives an open file a name, which O_TMPFILE left out; where all its
// names are gone the kernel refuses.
func (p *twin) linkOpen() {
	path := p.path()
	p.file("linkat to "+path, func(f *os.File, side int) (string, error) {
		return "", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, p.at(side, path), unix.AT_SYMLINK_FOLLOW)
	})
}

func (p *twin) fsync() {
	p.file("fsync", func(f *os.File, side int) (string, error) { return "", f.Sync() })
}

func (p *twin) close() {
	if len(p.files) == 0 {
		return
	}
	i := p.r.IntN(len(p.files))
	f := p.files[i]
	p.files = slices.Delete(p.files, i, i+1)
	p.same("close "+strings.TrimPrefix(f[1].Name(), p.roots[1]), func(side int) (string, error) { return "", f[side].Close() })
}

func (p *twin) rename() {
	flags := []uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[p.r.IntN(4)]
	p.two(fmt.Sprint("rename ", flags), func(from, to string) error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	})
}

func (p *twin) chmod() {
	mode := uint32(0o700 | p.r.IntN(0o100))
	p.name(fmt.Sprintf("chmod %o", mode), func(path string) error {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return err
		}
		return unix.Chmod(path, mode)
	})
}

func (p *twin) utimes() {
	at := time.Unix(p.r.Int64N(1<<33)-1<<32, p.r.Int64N(1e9))
	path := p.path()
	p.same("utimens "+path, func(side int) (string, error) {
		ts := []unix.Timespec{unix.NsecToTimespec(0), unix.NsecToTimespec(at.UnixNano())}
		err := unix.UtimesNanoAt(unix.AT_FDCWD, p.at(side, path), ts, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return "", err
		}
		info, err := os.Lstat(p.at(side, path))
		if err != nil {
			return "", err
		}
		return info.ModTime().UTC().String(), nil
	})
}

func (p *twin) setXattr() {
	name, value := p.xattrName(), content(p.r.IntN(2000), p.r.Uint64())
	flags := []int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE}[p.r.IntN(4)]
	p.name(fmt.Sprintf("setxattr %s %d %d", name, len(value), flags), func(path string) error { return unix.Lsetxattr(path, name, value, flags) })
}

func (p *twin) removeXattr() {
	name := p.xattrName()
	p.name("removexattr "+name, func(path string) error { return unix.Lremovexattr(path, name) })
}

func (p *twin) getXattr() {
	name, path, size := p.xattrName(), p.path(), p.r.IntN(3000)
	p.same(fmt.Sprintf("getxattr %s %s %d", name, path, size), func(side int) (string, error) {
		buf := make([]byte, size)
		n, err := unix.Lgetxattr(p.at(side, path), name, buf)
		return fmt.Sprintf("%d %x", n, sha256.Sum256(buf[:max(0, min(n, size))])), err
	})
}

func (p *twin) xattrName() string {
	return []string{"user.a", "user.b", "user." + longName[:100]}[p.r.IntN(3)]
}

// fault draws an open file, has the store fail, and writes, so that the file is
// dirty until the store takes something. A file without a name never is: a crash
// would leave nothing that leads to it.
func (p *twin) fault() (pair [2]*os.File, ok bool) {
	if len(p.files) == 0 || p.refuses == nil {
		return pair, false
	}
	pair = p.files[p.r.IntN(len(p.files))]
	var st unix.Stat_t
	if err := unix.Fstat(int(pair[0].Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink == 0 {
		return pair, false
	}
	p.refuses.Store(true)
	p.failed = true
	off, data := p.offset(), content(1+p.r.IntN(9000), p.r.Uint64())
	return pair, p.same(fmt.Sprintf("pwrite %d+%d of %s in a fault", off, len(data), pair[0].Name()), func(side int) (string, error) {
		_, err := pair[side].WriteAt(data, off)
		return "", err
	})
}

// faultAtSync has the store fail under an fsync, which must say so.
func (p *twin) faultAtSync() {
	pair, ok := p.fault()
	if !ok {
		return
	}
	if err := pair[0].Sync(); !errors.Is(err, syscall.EIO) {
		p.t.Fatalf("fsync of %s while the store fails: %v", pair[0].Name(), err)
	}
	p.heal(pair[0], pair[0])
}

// faultAtClose has the store fail under a close, with another descriptor of the
// file to have it durable by.
func (p *twin) faultAtClose() {
	pair, ok := p.fault()
	if !ok {
		return
	}
	closes, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", pair[0].Fd()), os.O_RDWR, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := closes.Close(); !errors.Is(err, syscall.EIO) {
		p.t.Fatalf("close of %s while the store fails: %v", pair[0].Name(), err)
	}
	p.heal(pair[0], nil)
}

// heal has the store take everything again: each descriptor of the file that
// failed is told, but for the one that was, others at most once, and what was
// dirty is durable then.
func (p *twin) heal(failed, told *os.File) {
	p.refuses.Store(false)
	p.done["fault"]++
	of, err := failed.Stat()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, pair := range p.files {
		f := pair[0]
		info, err := f.Stat()
		if err != nil {
			p.t.Fatal(err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		err = f.Sync()
		if untold := os.SameFile(info, of) && f != told; err == nil && untold || err != nil && !errors.Is(err, syscall.EIO) {
			p.t.Fatalf("fsync of %s after a fault in %s: %v", f.Name(), failed.Name(), err)
		}
		if err := f.Sync(); err != nil {
			p.t.Fatalf("fsync of %s again after a fault: %v", f.Name(), err)
		}
	}
}

// operations, each as often as it is named.
var operations = []func(*twin){
	(*twin).open, (*twin).open, (*twin).open, (*twin).write, (*twin).write, (*twin).write, (*twin).append, (*twin).read, (*twin).read,
	(*twin).truncate, (*twin).allocate, (*twin).zero, (*twin).copy, (*twin).linkOpen, (*twin).fsync, (*twin).close, (*twin).close,
	(*twin).rename, (*twin).rename, (*twin).chmod, (*twin).utimes,
	(*twin).setXattr, (*twin).setXattr, (*twin).removeXattr, (*twin).getXattr, (*twin).faultAtSync, (*twin).faultAtClose,
	func(p *twin) { p.name("mkdir", func(path string) error { return unix.Mkdir(path, 0o750) }) },
	func(p *twin) { p.name("mkdir", func(path string) error { return unix.Mkdir(path, 0o750) }) },
	func(p *twin) { p.name("rmdir", unix.Rmdir) },
	func(p *twin) { p.name("unlink", unix.Unlink) },
	func(p *twin) { p.name("mkfifo", func(path string) error { return unix.Mkfifo(path, 0o640) }) },
	func(p *twin) { p.two("link", unix.Link) },
	func(p *twin) {
		p.name("symlink", func(path string) error { return unix.Symlink("to/"+filepath.Base(path), path) })
	},
}

// listing is all that a tree has, but for times and the sizes of directories.
func listing(root string) (string, error) {
	var b bytes.Buffer
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d", strings.TrimPrefix(path, root), st.Mode, st.Nlink)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x", st.Size, sha256.Sum256(data))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s", target)
		}
		if err := listXattrs(&b, path); err != nil {
			return err
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String(), err
}

// listXattrs writes what attributes of the user's a file has: the kernel gives
// a tmpfs some of its own.
func listXattrs(b *bytes.Buffer, path string) error {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return err
	}
	names := strings.Split(string(list[:n]), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, " %s=%x", name, sha256.Sum256(value[:n]))
	}
	return nil
}

func (p *twin) compare(what string) {
	p.t.Helper()
	p.same("listing "+what, func(side int) (string, error) { return listing(p.roots[side]) })
}

// promise has everything be durable: closes what is open, which with --sync
// close is all that files need, and syncs a directory for the names.
func (p *twin) promise() {
	for len(p.files) > 0 {
		p.close()
	}
	d, err := os.Open(p.roots[0])
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// end ends the daemon, whose exit code says whether the store had failed.
func (p *twin) end(d *daemon) {
	code := 0
	if p.failed {
		code = cli.ExitUnavailable
	}
	d.ends(code)
}

// seedOf returns the seed to begin with: CLOISTER_SEED repeats a run.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CLOISTER_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CLOISTER_SEED: %v", err)
	}
	return seed
}

// TestOutputRandom does random operations on a mount and on a reference, a
// tmpfs where there is one, and compares every answer; each round ends with the
// mount ended and made again, or its daemon killed, and a look at the whole. One
// of the mounts is over a blob service that fails between operations.
// `make test-all` sets CLOISTER_SOAK to minutes.
func TestOutputRandom(t *testing.T) {
	t.Run("directory", func(t *testing.T) { randomly(t, newOutputSite(t, uint32(os.Geteuid())), nil) })
	t.Run("failing blob service", func(t *testing.T) {
		s, refuses := newFailingSite(t, azurite.Start(t))
		randomly(t, s, refuses)
	})
}

// randomly is half of it, for half of the time.
func randomly(t *testing.T, s *site, refuses *atomic.Bool) {
	reference, err := os.MkdirTemp("/dev/shm", "cloister-reference-")
	if err != nil {
		reference = t.TempDir()
	}
	defer os.RemoveAll(reference)
	if err := os.Chmod(reference, 0o755); err != nil {
		t.Fatal(err)
	}
	seed := seedOf(t)
	t.Logf("CLOISTER_SEED=%d repeats this run", seed)
	p := &twin{t: t, r: rand.New(rand.NewPCG(seed, 4)), refuses: refuses, done: map[string]int{}, roots: [2]string{s.dir, reference}}
	args := []string{"--output", "--sync", "close", "--memory", "16MiB"}
	d := s.mount(t, args...)
	tried := 0
	for round, began := 0, time.Now(); round < 4 || time.Since(began) < soakFor(t)/2; round++ {
		for range 300 {
			operations[p.r.IntN(len(operations))](p)
			tried++
		}
		p.compare("before")
		p.promise()
		if p.r.IntN(2) == 0 {
			p.end(d)
		} else {
			d.signal(syscall.SIGKILL)
			d.wait()
			_ = syscall.Unmount(s.dir, syscall.MNT_DETACH)
		}
		d, p.failed = s.mount(t, args...), false
		p.compare("after")
	}
	t.Logf("%d operations, of which succeeded: %v", tried, p.done)
	if refuses != nil && p.done["fault"] == 0 {
		t.Error("nothing was made to fail")
	}
	p.end(d)
}
