//go:build linux

package mount_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloister/fs/format"
	"cloister/fs/internal/voltest"
	"cloister/fs/store"
	"cloister/fs/store/dir"
	"cloister/internal/azurite"
	"cloister/prep/keyfile"
)

// The tests mount with the real binary, in another process: a FUSE server and
// its client in one can deadlock. What must be looked at as another user is
// looked at by this test binary started again as that user.

const helperEnv = "CLOISTER_MOUNT_TEST_DIR"

// shared is a directory that any user can enter, with the binaries in it.
var shared string

// The daemon is built with the race detector when the test is.
var (
	raceFlags []string
	cgo       = "CGO_ENABLED=0"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(m.Run())
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	var err error
	if shared, err = os.MkdirTemp("", "cloister-mount-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(shared)
	self, err := os.Executable()
	if err == nil {
		err = errors.Join(os.Chmod(shared, 0o755), copyFile(self, shared+"/helper"))
	}
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", append(append([]string{"build"}, raceFlags...), "-o", shared+"/cloister", "cloister/cmd/cloister")...)
	build.Env = append(os.Environ(), cgo)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building cloister: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// nobody is the unprivileged user's id: Debian's nobody.
const nobody = 65534

// users are those to mount as.
func users() map[string]uint32 {
	if os.Geteuid() != 0 {
		return map[string]uint32{"myself": uint32(os.Geteuid())}
	}
	return map[string]uint32{"root": 0, "nobody": nobody}
}

func require(t *testing.T) {
	t.Helper()
	info, err := os.Stat("/dev/fuse")
	if err != nil {
		t.Fatalf("this test mounts: %v; run `modprobe fuse`, or start the container with --device /dev/fuse", err)
	}
	if info.Mode().Perm() != 0o666 {
		t.Fatal("this test mounts as an unprivileged user, who cannot open /dev/fuse here; run `make test-setup` (chmod 0666 /dev/fuse, which is what udev gives it)")
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Fatalf("this test mounts as an unprivileged user: %v; run `make test-setup` (apt-get install fuse3)", err)
	}
}

// site is a volume in a directory, its key file, and where to mount it.
type site struct {
	user             uint32
	volume, key, dir string
	global           []string // flags before the command
	reference        format.Reference
	model            *voltest.Volume
}

func newSite(t *testing.T, user uint32, model *voltest.Volume) *site {
	t.Helper()
	require(t)
	root, err := os.MkdirTemp(shared, "site-")
	if err == nil {
		err = os.Chmod(root, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &site{user: user, volume: root + "/volume", key: root + "/KEYFILE", dir: root + "/mnt", model: model}
	objects, err := dir.Open(s.volume, true)
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	s.reference = model.Write(t, objects)
	if err := keyfile.Write(s.key, model.Root, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	own := func(path string, _ os.DirEntry, err error) error {
		if err == nil && os.Geteuid() == 0 {
			err = os.Lchown(path, int(user), int(user))
		}
		return err
	}
	if err := filepath.WalkDir(root, own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, ok := mounted(s.dir); ok {
			t.Errorf("%s is still mounted", s.dir)
			_ = syscall.Unmount(s.dir, syscall.MNT_DETACH)
		}
		os.RemoveAll(root)
	})
	return s
}

// mounted returns the mount table's line for dir.
func mounted(dir string) (line string, ok bool) {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, " "+dir+" ") {
			return line, true
		}
	}
	return "", false
}

// as runs a command as the site's user.
func (s *site) as(cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() == 0 && s.user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user}}
	}
	cmd.Dir = "/"
	return cmd
}

func (s *site) command(args ...string) *exec.Cmd {
	return s.as(exec.Command(shared+"/cloister", slices.Concat(s.global, []string{"mount", "--key", s.key}, args)...))
}

// daemon is a running `cloister mount`.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *log
	ended  chan error
}

// log is a writer that can be read while it is written to.
type log struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (s *site) mount(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: s.command(append(args, s.volume, s.dir)...), stderr: new(log), ended: make(chan error, 1)}
	d.cmd.Stderr = d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		io.Copy(io.Discard, out)
		d.ended <- d.cmd.Wait()
	}()
	if line != "ready "+s.dir+"\n" {
		d.cmd.Process.Kill()
		<-d.ended
		t.Fatalf("mounting printed %q (%v), then: %s", line, err, d.stderr)
	}
	t.Cleanup(func() { d.cmd.Process.Kill() })
	return d
}

func (d *daemon) signal(sig os.Signal) {
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Errorf("signal: %v", err)
	}
}

// wait returns the exit code.
func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case <-d.ended:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		d.t.Fatalf("the daemon does not end; it said: %s", d.stderr)
		return -1
	}
}

// stop ends the daemon, and checks that it leaves nothing.
func (d *daemon) stop(s *site) {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		d.t.Errorf("exit code %d; it said: %s", code, d.stderr)
	}
	if line, ok := mounted(s.dir); ok {
		d.t.Errorf("left mounted: %s", line)
	}
}

func (d *daemon) descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(entries)
}

// until waits for something that another process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

func content(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

const entries = 10_000

var (
	longName  = strings.Repeat("n", 255)
	latinName = "caf\xe9 \xff\x80"
	files     = map[string][]byte{
		"empty": nil, "one": {42}, "page": content(4096, 1), "odd": content(70_001, 2),
		"sub/big": content(9<<20+17, 3), longName: []byte("long"), "sub/" + latinName: []byte("latin"),
	}
	sparseSize = int64(40 << 20)
	sparseData = content(100_000, 4)
	sparseOff  = int64(20<<20 + 333)
)

// fixture is the volume that checkTree knows.
func fixture() *voltest.Volume {
	v := voltest.New()
	v.ObjectSize = 4 << 20
	v.Dir("sub")
	v.Dir("many")
	v.Dir("none")
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range files {
			if !yield(name) {
				return
			}
		}
	}) {
		v.File(name, files[name])
	}
	v.Sparse("sparse", sparseSize, voltest.Piece{Off: sparseOff, Data: sparseData})
	for i := range entries {
		v.File(fmt.Sprintf("many/%05d", i), []byte(strconv.Itoa(i)))
	}
	v.Symlink("link", "sub/big")
	v.Symlink("dangling", "../\xff/nowhere")
	v.Link("sub/again", "one")
	odd := v.File("attributes", []byte("x"))
	odd.Attr.Mode = format.ModeFile | 0o4755
	odd.Xattrs = []format.Xattr{{Name: "user.one", Value: []byte("1\x002")}, {Name: "user.empty"}, {Name: "user.large", Value: content(60_000, 5)}}
	v.Special("fifo", format.ModeFifo|0o600)
	return v
}

func TestInput(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, user, fixture())
			d := s.mount(t, "--reference", s.reference.String(), "--memory", "64MiB")
			line, _ := mounted(s.dir)
			for _, option := range []string{"ro,", "nosuid", "nodev", "fuse.cloister", "default_permissions"} {
				if !strings.Contains(line, option) {
					t.Errorf("mounted without %s: %s", option, line)
				}
			}
			if strings.Contains(line, "allow_other") != (user == 0) {
				t.Errorf("allow_other: %s", line)
			}
			s.look(t)
			before := d.descriptors()
			s.look(t)
			if after := d.descriptors(); after > before {
				t.Errorf("the daemon had %d descriptors, and has %d", before, after)
			}
			if d.stderr.String() != "" {
				t.Errorf("the daemon said: %s", d.stderr)
			}
			d.stop(s)
		})
	}
}

// TestOverAzurite mounts from a blob service, with a budget smaller than the
// largest file.
func TestOverAzurite(t *testing.T) {
	server := azurite.Start(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
	s := newSite(t, uint32(os.Geteuid()), fixture())
	s.volume = server.NewURL()
	blobs, err := store.Open(t.Context(), s.volume, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	s.model.Epoch = 2
	s.reference = s.model.Write(t, blobs)
	d := s.mount(t, "--reference", s.reference.String(), "--memory", "4MiB")
	s.look(t)
	d.stop(s)
}

// look runs checkTree as the site's user, in a process of its own.
func (s *site) look(t *testing.T) {
	t.Helper()
	cmd := s.as(exec.Command(shared+"/helper", "-test.run=^TestHelper$", "-test.v"))
	cmd.Env = append(os.Environ(), helperEnv+"="+s.dir)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestHelper")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestHelper(t *testing.T) {
	dir := os.Getenv(helperEnv)
	if dir == "" {
		t.Skip("run by TestInput, as another user")
	}
	checkTree(t, dir)
}

func checkTree(t *testing.T, dir string) {
	for name, want := range files {
		path := filepath.Join(dir, name)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
		checkMmap(t, path, want)
		checkDirect(t, path, want)
	}
	checkSparse(t, filepath.Join(dir, "sparse"))
	checkList(t, dir)
	checkLinks(t, dir)
	checkAttributes(t, filepath.Join(dir, "attributes"))
	checkRefusals(t, dir)
}

func checkMmap(t *testing.T, path string, want []byte) {
	f, err := os.Open(path)
	if err != nil || len(want) == 0 {
		return
	}
	defer f.Close()
	m, err := syscall.Mmap(int(f.Fd()), 0, len(want), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		t.Errorf("mmap %q: %v", path, err)
		return
	}
	defer syscall.Munmap(m)
	if !bytes.Equal(m, want) {
		t.Errorf("mmap %q shows other bytes", path)
	}
}

// checkDirect reads past the page cache, in pieces that are not aligned to
// segments.
func checkDirect(t *testing.T, path string, want []byte) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Errorf("O_DIRECT: %v", err)
		return
	}
	defer f.Close()
	buf := make([]byte, 3<<20)
	var got []byte
	for off := int64(0); ; off += 300 << 10 {
		n, err := f.ReadAt(buf[:300<<10], off)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("O_DIRECT %q shows %d other bytes", path, len(got))
	}
}

func checkSparse(t *testing.T, path string) {
	got, err := os.ReadFile(path)
	want := make([]byte, sparseSize)
	copy(want[sparseOff:], sparseData)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("sparse: %d bytes, %v", len(got), err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const seekData, seekHole = 3, 4
	for _, c := range []struct {
		from   int64
		whence int
		want   int64
	}{{0, seekData, sparseOff}, {0, seekHole, 0}, {sparseOff, seekHole, sparseOff + int64(len(sparseData))}, {sparseOff + 5, seekData, sparseOff + 5}} {
		if got, err := f.Seek(c.from, c.whence); got != c.want || err != nil {
			t.Errorf("seek %d %d: %d, %v; want %d", c.from, c.whence, got, err, c.want)
		}
	}
	if _, err := f.Seek(sparseOff+int64(len(sparseData)), seekData); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("seek for data behind the last: %v", err)
	}
	if st := stat(t, path); st.Blocks != (int64(len(sparseData))+511)/512 {
		t.Errorf("sparse takes %d blocks", st.Blocks)
	}
}

func stat(t *testing.T, path string) (st syscall.Stat_t) {
	t.Helper()
	if err := syscall.Lstat(path, &st); err != nil {
		t.Errorf("%q: %v", path, err)
	}
	return st
}

func checkList(t *testing.T, dir string) {
	for round := range 2 { // the second is answered from the kernel's memory
		list, err := os.ReadDir(filepath.Join(dir, "many"))
		if err != nil || len(list) != entries {
			t.Fatalf("round %d: %d entries, %v", round, len(list), err)
		}
		for i, e := range list {
			if want := fmt.Sprintf("%05d", i); e.Name() != want {
				t.Fatalf("entry %d is %q", i, e.Name())
			}
		}
	}
	out, err := exec.Command("ls", "-laU", filepath.Join(dir, "many")).Output() // with attributes: readdirplus
	if n := bytes.Count(out, []byte("\n")); err != nil || n != entries+3 {
		t.Errorf("ls printed %d lines, %v", n, err)
	}
	var names []string
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		names = append(names, e.Name())
	}
	if want := []string{"attributes", "dangling", "empty", "fifo", "link", "many", longName, "none", "odd", "one", "page", "sparse", "sub"}; !slices.Equal(names, want) {
		t.Errorf("root holds %q", names)
	}
	if _, err := os.Stat(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := syscall.Access(filepath.Join(dir, strings.Repeat("x", 256)), 0); err != syscall.ENAMETOOLONG {
		t.Errorf("a name of 256 bytes: %v", err)
	}
}

func checkLinks(t *testing.T, dir string) {
	one, again := stat(t, filepath.Join(dir, "one")), stat(t, filepath.Join(dir, "sub/again"))
	if one.Ino != again.Ino || one.Nlink != 2 {
		t.Errorf("hard link: inodes %d and %d, %d links", one.Ino, again.Ino, one.Nlink)
	}
	if root := stat(t, dir); root.Ino != format.RootInode || root.Nlink != 5 {
		t.Errorf("root: inode %d with %d links", root.Ino, root.Nlink)
	}
	for name, want := range map[string]string{"link": "sub/big", "dangling": "../\xff/nowhere"} {
		if got, err := os.Readlink(filepath.Join(dir, name)); got != want || err != nil {
			t.Errorf("%s -> %q, %v", name, got, err)
		}
	}
	if st := stat(t, filepath.Join(dir, "fifo")); st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		t.Errorf("fifo has mode %o", st.Mode)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Namelen != 255 || fs.Bfree != 0 || fs.Blocks == 0 {
		t.Errorf("statfs: %+v, %v", fs, err)
	}
}

func checkAttributes(t *testing.T, path string) {
	st := stat(t, path)
	if st.Mode != syscall.S_IFREG|0o4755 || st.Mtim != (syscall.Timespec{Sec: 1_600_000_000, Nsec: 123_456_789}) || st.Ctim.Sec != 1_600_000_001 {
		t.Errorf("attributes: %+v", st)
	}
	buf := make([]byte, 65536)
	n, err := syscall.Listxattr(path, buf)
	if err != nil || string(buf[:n]) != "user.empty\x00user.large\x00user.one\x00" {
		t.Errorf("listxattr: %q, %v", buf[:max(n, 0)], err)
	}
	for name, want := range map[string][]byte{"user.one": []byte("1\x002"), "user.empty": nil, "user.large": content(60_000, 5)} {
		n, err := syscall.Getxattr(path, name, buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Errorf("getxattr %s: %d, %v", name, n, err)
		}
	}
	if _, err := syscall.Getxattr(path, "user.large", buf[:10]); err != syscall.ERANGE {
		t.Errorf("getxattr into 10 bytes: %v", err)
	}
	if _, err := syscall.Getxattr(path, "user.none", buf); err != syscall.ENODATA {
		t.Errorf("getxattr of none: %v", err)
	}
}

// checkRefusals: nothing changes anything.
func checkRefusals(t *testing.T, dir string) {
	one := filepath.Join(dir, "one")
	for what, err := range map[string]error{
		"create":   os.WriteFile(filepath.Join(dir, "new"), nil, 0o644),
		"write":    os.WriteFile(one, []byte("x"), 0o644),
		"mkdir":    os.Mkdir(filepath.Join(dir, "new"), 0o755),
		"remove":   os.Remove(one),
		"rmdir":    syscall.Rmdir(filepath.Join(dir, "none")),
		"rename":   os.Rename(one, one+"2"),
		"link":     os.Link(one, one+"2"),
		"symlink":  os.Symlink("x", one+"2"),
		"chmod":    os.Chmod(one, 0o600),
		"truncate": os.Truncate(one, 0),
		"utimes":   os.Chtimes(one, time.Now(), time.Now()),
		"mkfifo":   syscall.Mkfifo(one+"2", 0o600),
		"setxattr": syscall.Setxattr(one, "user.x", []byte("y"), 0),
		"rmxattr":  syscall.Removexattr(filepath.Join(dir, "attributes"), "user.one"),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

// TestModesHold: as root others may enter, under the modes in the volume.
func TestModesHold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts for others")
	}
	v := voltest.New()
	v.File("open", []byte("x"))
	v.File("secret", []byte("x")).Attr.Mode = format.ModeFile | 0o600
	s := newSite(t, 0, v)
	d := s.mount(t)
	for name, ok := range map[string]bool{"open": true, "secret": false} {
		cmd := exec.Command("cat", filepath.Join(s.dir, name))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.CombinedOutput(); (err == nil) != ok {
			t.Errorf("cat %s as nobody: %s, %v", name, out, err)
		}
	}
	d.stop(s)
}

// TestFlippedBit: EIO on the files whose bytes the segment holds, and on no
// other, and within a file on no other page.
func TestFlippedBit(t *testing.T) {
	v := voltest.New()
	v.ObjectSize = 4 << 20
	big := content(3<<20, 1)
	v.File("big", big)
	small := map[string][]byte{}
	for i := range 40 {
		name := fmt.Sprintf("small%02d", i)
		small[name] = content(3000, uint64(i))
		v.File(name, small[name])
	}
	s := newSite(t, uint32(os.Geteuid()), v)
	const bigSegment, packSegment = 100, 3
	flip(t, s, 0, bigSegment)
	flip(t, s, 1, packSegment)
	d := s.mount(t)

	pack := v.Extents("small00")[0].Object
	damaged := 0
	for name, want := range small {
		e := v.Extents(name)[0]
		begin, end := v.Suite.PlainStart(packSegment), v.Suite.PlainStart(packSegment+1)
		bad := e.Object == pack && int64(e.ObjectOff) < end && int64(e.ObjectOff+e.Length) > begin
		got, err := os.ReadFile(filepath.Join(s.dir, name))
		if bad != errors.Is(err, syscall.EIO) || !bad && !bytes.Equal(got, want) {
			t.Errorf("%s: damaged %v, read %v", name, bad, err)
		}
		if bad {
			damaged++
		}
	}
	if damaged == 0 || damaged == len(small) {
		t.Fatalf("%d of %d files are damaged: the test tests nothing", damaged, len(small))
	}
	checkPages(t, filepath.Join(s.dir, "big"), big, v.Suite.PlainStart(bigSegment), v.Suite.PlainStart(bigSegment+1))
	checkLog(t, d.stderr.String(), v, bigSegment, packSegment)
	d.stop(s)
}

func flip(t *testing.T, s *site, object int, segment int64) {
	t.Helper()
	path := filepath.Join(s.volume, format.ObjectName(s.model.Objects()[object].ID))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[segment*s.model.Suite.SegmentSize()+100] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkPages reads a file whole, which must fail, and then page by page.
func checkPages(t *testing.T, path string, want []byte, begin, end int64) {
	t.Helper()
	got, err := os.ReadFile(path)
	if !errors.Is(err, syscall.EIO) || !bytes.Equal(got, want[:len(got)]) {
		t.Errorf("whole: %d bytes, %v", len(got), err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const page = 4096
	for off := int64(0); off < int64(len(want)); off += page {
		buf := make([]byte, page)
		n, err := f.ReadAt(buf, off)
		bad := off < end && off+page > begin
		if bad != errors.Is(err, syscall.EIO) || !bad && !bytes.Equal(buf[:n], want[off:off+page]) {
			t.Errorf("page at %d, damaged %v: %d, %v", off, bad, n, err)
		}
	}
	if st := stat(t, path); st.Size != int64(len(want)) {
		t.Errorf("the file's size has become %d", st.Size)
	}
}

func checkLog(t *testing.T, log string, v *voltest.Volume, segments ...int64) {
	t.Helper()
	for i, segment := range segments {
		line := fmt.Sprintf("segment %d of object %s", segment, v.Objects()[i].ID)
		if n := strings.Count(log, line); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", line, n, log)
		}
	}
	if strings.Count(log, "\n") != len(segments) || strings.Contains(log, "big") || strings.Contains(log, "small") {
		t.Errorf("the log has other lines, or file names:\n%s", log)
	}
}

func TestKilledDaemon(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, user, fixture())
			d := s.mount(t)
			d.signal(syscall.SIGKILL)
			d.wait()
			if _, ok := mounted(s.dir); !ok {
				t.Fatal("a killed daemon left no mount: the test tests nothing")
			}
			d = s.mount(t)
			s.look(t)
			d.stop(s)
		})
	}
}

func TestBusy(t *testing.T) {
	s := newSite(t, uint32(os.Geteuid()), fixture())
	hold := func() *os.File {
		f, err := os.Open(filepath.Join(s.dir, "sub/big"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	says := fmt.Sprintf("unmounting %s: it is in use (by ", s.dir)

	t.Run("waits", func(t *testing.T) {
		d := s.mount(t)
		f := hold()
		d.signal(syscall.SIGTERM)
		until(t, "the daemon to say that it waits", func() bool { return strings.Contains(d.stderr.String(), "second signal") })
		if log := d.stderr.String(); !strings.Contains(log, says) || !strings.Contains(log, fmt.Sprintf("process %d)", os.Getpid())) {
			t.Errorf("it said: %s", log)
		}
		if got, err := os.ReadFile(filepath.Join(s.dir, "odd")); err != nil || !bytes.Equal(got, files["odd"]) {
			t.Errorf("while it waits: %v", err)
		}
		f.Close()
		if code := d.wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, d.stderr)
		}
	})
	t.Run("second signal", func(t *testing.T) {
		d := s.mount(t)
		f := hold()
		defer f.Close()
		d.signal(syscall.SIGINT)
		until(t, "the daemon to say that it waits", func() bool { return strings.Contains(d.stderr.String(), "second signal") })
		d.signal(syscall.SIGINT)
		if code := d.wait(); code != 8 || !strings.Contains(d.stderr.String(), "was detached while in use") {
			t.Errorf("exit code %d: %s", code, d.stderr)
		}
		if _, err := f.ReadAt(make([]byte, 10), 5<<20); err == nil {
			t.Error("a descriptor that was kept still reads")
		}
	})
	t.Run("unmounted by somebody", func(t *testing.T) {
		d := s.mount(t)
		if out, err := exec.Command("fusermount3", "-u", s.dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if code := d.wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, d.stderr)
		}
	})
}

func TestRefusals(t *testing.T) {
	s := newSite(t, uint32(os.Geteuid()), fixture())
	other := newSite(t, uint32(os.Geteuid()), fixture())
	notDir := s.key
	cases := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no arguments", nil, 2, "takes VOLUME DIR"},
		{"no volume", []string{s.dir, s.dir}, 3, "there is no volume at"},
		{"no store", []string{s.volume + "x", s.dir}, 3, "volume"},
		{"no directory", []string{s.volume, s.dir + "x"}, 3, "hint: make the directory first"},
		{"not a directory", []string{s.volume, notDir}, 2, "it is not a directory"},
		{"other key", []string{other.volume, s.dir}, 5, "hint: use the KEYFILE that the volume was encrypted with"},
		{"other reference", []string{"--reference", other.reference.String(), s.volume, s.dir}, 5, "it is another volume"},
		{"no reference", []string{"--reference", "x", s.volume, s.dir}, 2, "cloister-v1."},
		{"memory", []string{"--memory", "lots", s.volume, s.dir}, 2, "such as 512MiB"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, err := s.command(c.args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.code || !strings.Contains(string(out), c.text) {
				t.Errorf("%v, want exit code %d and %q:\n%s", err, c.code, c.text, out)
			}
			if _, ok := mounted(s.dir); ok {
				t.Error("it is mounted all the same")
			}
		})
	}
	t.Run("mounted already", func(t *testing.T) {
		d := s.mount(t)
		out, err := s.command(s.volume, s.dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "a volume is mounted there already") {
			t.Errorf("%v: %s", err, out)
		}
		d.stop(s)
	})
}
