//go:build linux

package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloister/internal/azurite"

	"golang.org/x/sys/unix"
)

// soakFor is how long the soak reads. `make test-all` sets CLOISTER_SOAK to
// minutes.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("CLOISTER_SOAK")
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("CLOISTER_SOAK: %v", err)
	}
	return d
}

// Bounds of the daemon while it is soaked. The resident memory is that of
// issue 3's bar for 16 readers, --memory and half of 256 MiB on top; open files
// are connections to the store, of which there are as many as requests in
// flight, the kernel's read-ahead and one of each reader, and as many idle as
// package azure keeps, 64; and what the program needs anyway. How many of these
// there are at a time is how busy the machine is: 60 alone on it, 118 beside
// others' work.
const (
	soakMemory      = 64 << 20
	soakResident    = soakMemory + 128<<20
	soakDescriptors = 64 + 16 + 64 + 20
)

// soakFolder makes the plain files.
func soakFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	write := func(name string, size int) {
		path := filepath.Join(folder, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, content(size, uint64(size)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		write(fmt.Sprintf("large/%d", i), 20<<20+i*12_345)
	}
	for i := range 600 {
		write(fmt.Sprintf("small/%02d/%03d", i%20, i), 1+i*37)
	}
	return folder
}

// readers are the kinds of reader; each compares one thing in the mount with
// the plain file once.
var readers = []struct {
	name string
	n    int
	once func(r *rand.Rand, plain, mounted string) error
}{
	{"sequential", 4, readSequentially}, {"random", 4, readAtRandom}, {"strided", 1, readStrided}, {"direct", 2, readDirect},
	{"mmap", 2, readMapped}, {"small", 2, readSmall}, {"listing", 1, listAndCompare},
}

// TestSoak: readers of every kind at once, while the store fails in every way
// that passes. Not one answer differs, and the daemon stays within its bounds.
func TestSoak(t *testing.T) {
	folder := soakFolder(t)
	backend := azurite.Start(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", backend.ConnectionString())
	s := newOutputSite(t, uint32(os.Geteuid()))
	s.volume = backend.NewURL()
	(&keptVolume{site: s}).cloister(t, "prep", "encrypt", "--key", s.key, folder, s.volume)
	proxy := newFaultyProxy(t, backend.Endpoint)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", strings.ReplaceAll(backend.ConnectionString(), backend.Endpoint, proxy.server.URL))
	s.volume = strings.Replace(s.volume, backend.Endpoint, proxy.server.URL, 1)
	d := s.mount(t, "--memory", fmt.Sprint(soakMemory))
	before := d.descriptors()
	proxy.on.Store(true)
	soak(t, d, folder, s.dir)
	proxy.on.Store(false)
	if proxy.failed.Load() < 10 {
		t.Errorf("%d requests were made to fail: the test tests nothing", proxy.failed.Load())
	}
	if d.stderr.String() != "" {
		t.Errorf("the daemon said: %s", clip(d.stderr.String()))
	}
	proxy.server.CloseClientConnections()
	until(t, "the daemon to let go of descriptors", func() bool { return d.descriptors() <= before+2 })
	t.Logf("%d of %d requests were made to fail", proxy.failed.Load(), proxy.requests.Load())
	d.stop(s)
}

// soak runs the readers and watches the daemon. They are another process, as
// the store's proxy is in this one: a page fault stops a Go process that wants
// to collect garbage, and here it would stop what the fault waits for.
func soak(t *testing.T, d *daemon, plain, mounted string) {
	t.Helper()
	cmd := exec.Command(shared+"/helper", "-test.run=^TestSoakReaders$", "-test.v", "-test.timeout=0")
	cmd.Env = append(os.Environ(), helperEnv+"="+mounted, "CLOISTER_MOUNT_TEST_PLAIN="+plain)
	var said log
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	watch(t, d, ended)
	if text := said.String(); !strings.Contains(text, "--- PASS: TestSoakReaders") {
		t.Errorf("the readers: %s", clip(text))
	} else {
		t.Log(text)
	}
}

// TestSoakReaders runs the readers until time is up, for TestSoak.
func TestSoakReaders(t *testing.T) {
	plain, mounted := os.Getenv("CLOISTER_MOUNT_TEST_PLAIN"), os.Getenv(helperEnv)
	if plain == "" {
		t.Skip("run by TestSoak, in a process of its own")
	}
	var wg sync.WaitGroup
	rounds, over := make([]atomic.Int64, len(readers)), make(chan struct{})
	for k, kind := range readers {
		for i := range kind.n {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				for running(over) {
					if err := kind.once(r, plain, mounted); err != nil {
						t.Errorf("%s reader: %v", kind.name, err)
						return
					}
					rounds[k].Add(1)
				}
			})
		}
	}
	time.AfterFunc(soakFor(t), func() { close(over) })
	wg.Wait()
	for k, kind := range readers {
		t.Logf("%d readers, %s: %d rounds", kind.n, kind.name, rounds[k].Load())
		if rounds[k].Load() == 0 {
			t.Errorf("%s readers have read nothing", kind.name)
		}
	}
}

func running(over <-chan struct{}) bool {
	select {
	case <-over:
		return false
	default:
		return true
	}
}

// watch looks at the daemon's resident memory and descriptors until the readers
// have ended.
func watch(t *testing.T, d *daemon, ended <-chan error) {
	t.Helper()
	var resident, descriptors int
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		case <-tick.C:
		}
		resident, descriptors = max(resident, d.resident()), max(descriptors, d.descriptors())
	}
	t.Logf("the daemon had at most %d MiB and %d descriptors", resident>>20, descriptors)
	if descriptors > soakDescriptors {
		t.Errorf("the daemon had %d descriptors, at most %d are allowed", descriptors, soakDescriptors)
	}
	if raceFlags == nil && resident > soakResident { // the race detector's shadow is several times the memory
		t.Errorf("the daemon had %d MiB resident, at most %d are allowed", resident>>20, soakResident>>20)
	}
}

// resident returns the daemon's resident memory in bytes.
func (d *daemon) resident() int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]))
	if err != nil {
		d.t.Fatalf("VmRSS: %v", err)
	}
	return kib << 10
}

// ---- readers

// pair opens a file in both places. What the kernel has of the mount's is
// dropped, so that the daemon is asked.
func pair(plain, mounted, name string, flags int) (want []byte, f *os.File, err error) {
	if want, err = os.ReadFile(filepath.Join(plain, name)); err != nil {
		return nil, nil, err
	}
	if f, err = os.OpenFile(filepath.Join(mounted, name), os.O_RDONLY|flags, 0); err == nil {
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return want, f, err
}

func large(r *rand.Rand) string { return fmt.Sprintf("large/%d", r.IntN(4)) }

func readSequentially(r *rand.Rand, plain, mounted string) error {
	name := large(r)
	want, f, err := pair(plain, mounted, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	return compare(name, 0, got, want, err)
}

func compare(name string, off int64, got, want []byte, err error) error {
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%s at %d: %d bytes, want %d (%v)", name, off, len(got), len(want), err)
	}
	return nil
}

func readAt(name string, f *os.File, want []byte, off int64, n int) error {
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return compare(name, off, buf[:got], want[off:min(off+int64(n), int64(len(want)))], err)
}

func readAtRandom(r *rand.Rand, plain, mounted string) error {
	name := large(r)
	want, f, err := pair(plain, mounted, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
	for range 30 {
		if err := readAt(name, f, want, r.Int64N(int64(len(want))), 1+r.IntN(20_000)); err != nil {
			return err
		}
	}
	return nil
}

func readStrided(r *rand.Rand, plain, mounted string) error {
	name := large(r)
	want, f, err := pair(plain, mounted, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for off := r.Int64N(100_000); off < int64(len(want)); off += 1_000_000 {
		if err := readAt(name, f, want, off, 5000); err != nil {
			return err
		}
	}
	return nil
}

func readDirect(r *rand.Rand, plain, mounted string) error {
	name := large(r)
	want, f, err := pair(plain, mounted, name, unix.O_DIRECT)
	if err != nil {
		return err
	}
	defer f.Close()
	for range 10 {
		if err := readAt(name, f, want, r.Int64N(int64(len(want))), 1+r.IntN(2<<20)); err != nil {
			return err
		}
	}
	return nil
}

func readMapped(r *rand.Rand, plain, mounted string) error {
	name := large(r)
	want, f, err := pair(plain, mounted, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(m)
	for range 20 {
		off := r.IntN(len(want))
		end := min(off+r.IntN(100_000), len(want))
		if err := compare(name, int64(off), m[off:end], want[off:end], nil); err != nil {
			return err
		}
	}
	return nil
}

func readSmall(r *rand.Rand, plain, mounted string) error {
	first := r.IntN(20)
	for i := first; i < 600; i += 20 {
		name := fmt.Sprintf("small/%02d/%03d", first, i)
		want, f, err := pair(plain, mounted, name, 0)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err := compare(name, 0, got, want, err); err != nil {
			return err
		}
	}
	return nil
}

func listAndCompare(_ *rand.Rand, plain, mounted string) error {
	list := func(root string) (text string, err error) {
		err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			size := info.Size()
			if info.IsDir() {
				size = 0
			}
			text += fmt.Sprintln(strings.TrimPrefix(path, root), info.Mode(), size, info.ModTime().UnixNano())
			return nil
		})
		return text, err
	}
	want, err := list(plain)
	if err != nil {
		return err
	}
	got, err := list(mounted)
	if err != nil || got != want {
		return fmt.Errorf("the listings differ: %d bytes, want %d (%v)", len(got), len(want), err)
	}
	return nil
}

// ---- the store's faults

// faultyProxy stands before a blob service and makes requests fail while on.
type faultyProxy struct {
	server           *httptest.Server
	on               atomic.Bool
	requests, failed atomic.Int64
}

func newFaultyProxy(t *testing.T, backend string) *faultyProxy {
	t.Helper()
	to, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	p, quiet := new(faultyProxy), stdlog.New(io.Discard, "", 0) // it would log every request it cuts
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
		ErrorLog:  quiet,
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) }))
	p.server.Config.ErrorLog = quiet
	p.server.Start()
	t.Cleanup(p.server.Close)
	return p
}

// serve makes one request in five fail, each in another way than the one
// before: refused as busy, closed without an answer, cut within the body.
func (p *faultyProxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	n := p.requests.Add(1)
	if !p.on.Load() || n%5 != 0 {
		forward.ServeHTTP(w, r)
		return
	}
	switch p.failed.Add(1) % 3 {
	case 0:
		w.Header().Set("x-ms-error-code", "ServerBusy")
		w.WriteHeader(http.StatusServiceUnavailable)
	case 1:
		panic(http.ErrAbortHandler)
	case 2:
		forward.ServeHTTP(&cutWriter{ResponseWriter: w, left: 10_000}, r)
	}
}

// cutWriter ends the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	if _, err := w.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	if w.left == 0 {
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}
