//go:build linux

package mount_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"cloister/internal/azurite"
	"cloister/internal/cli"
)

// newFailingSite is a site whose volume is in a blob service that takes nothing
// while refuses is set: it answers every PUT with 403, as it does a token that
// has run out, which is no reason to wait and try again.
func newFailingSite(t *testing.T, server *azurite.Server) (s *site, refuses *atomic.Bool) {
	s, refuses = newOutputSite(t, uint32(os.Geteuid())), new(atomic.Bool)
	proxy := newProxy(t, server.Endpoint)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && refuses.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	s.volume = strings.Replace(server.NewURL(), server.Endpoint, front.URL, 1)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", strings.Replace(server.ConnectionString(), server.Endpoint, front.URL, 1))
	return s, refuses
}

// ends ends the daemon and checks its exit code.
func (d *daemon) ends(code int) {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	if got := d.wait(); got != code {
		d.t.Errorf("exit code %d, want %d; it said: %s", got, code, d.stderr)
	}
}

// writers opens a file so many times and writes through each.
func writers(t *testing.T, path string, count int) (open []*os.File) {
	t.Helper()
	for i := range count {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err == nil {
			_, err = f.WriteAt([]byte{byte('a' + i)}, int64(i))
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	return open
}

// TestOutputStoreFails: a store that fails is told as EIO to every writer of
// the file, each once, at its next fsync or close; what was dirty is tried
// again and durable; and the exit code tells it even so.
func TestOutputStoreFails(t *testing.T) {
	server := azurite.Start(t)
	s, refuses := newFailingSite(t, server)
	d := s.mount(t, "--output")
	f := writers(t, s.dir+"/f", 4)
	refuses.Store(true)
	if err := f[0].Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync while the store fails: %v", err)
	}
	refuses.Store(false)
	if err := f[0].Sync(); err != nil {
		t.Errorf("the next fsync of the same writer: %v", err)
	}
	if err := f[1].Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync of another writer: %v", err)
	}
	if err := f[2].Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close of another writer: %v", err)
	}
	for i, writer := range []*os.File{f[0], f[1]} {
		if err := errors.Join(writer.Sync(), writer.Close()); err != nil {
			t.Errorf("writer %d was told, and again: %v", i, err)
		}
	}
	if err := f[3].Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close of the last writer: %v", err)
	}
	d.ends(cli.ExitUnavailable)
	d = s.mount(t)
	reads(t, s.dir+"/f", "abcd")
	d.stop(s)
}

// TestOutputStoreFailsAfterClose: who has closed the file cannot be told; the
// exit code is.
func TestOutputStoreFailsAfterClose(t *testing.T) {
	server := azurite.Start(t)
	s, refuses := newFailingSite(t, server)
	d := s.mount(t, "--output")
	refuses.Store(true)
	write(t, s.dir+"/f", "closed")
	until(t, "a flush to fail", func() bool { return strings.Contains(d.stderr.String(), "flushing the output volume failed") })
	refuses.Store(false)
	d.ends(cli.ExitUnavailable)
	d = s.mount(t)
	reads(t, s.dir+"/f", "closed")
	d.stop(s)
}

// TestOutputStoreFailsSyncClose: with --sync close it is close that fails, and
// a close that returns 0 has found its bytes in the store.
func TestOutputStoreFailsSyncClose(t *testing.T) {
	server := azurite.Start(t)
	s, refuses := newFailingSite(t, server)
	d := s.mount(t, "--output", "--sync", "close")
	f := writers(t, s.dir+"/f", 2)
	refuses.Store(true)
	if err := f[0].Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close while the store fails: %v", err)
	}
	refuses.Store(false)
	if err := f[1].Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close of the other writer: %v", err)
	}
	if err := writers(t, s.dir+"/f", 1)[0].Close(); err != nil {
		t.Errorf("close with the store back: %v", err)
	}
	d.signal(syscall.SIGKILL)
	d.wait()
	_ = syscall.Unmount(s.dir, syscall.MNT_DETACH)
	d = s.mount(t, "--output")
	reads(t, s.dir+"/f", "ab")
	d.stop(s)
}

// TestOutputStoreFailsToTheEnd: what is not all durable is incomplete, without a
// manifest, and what fsync promised before is in the journal.
func TestOutputStoreFailsToTheEnd(t *testing.T) {
	server := azurite.Start(t)
	s, refuses := newFailingSite(t, server)
	d := s.mount(t, "--output")
	f := writers(t, s.dir+"/f", 1)[0]
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	refuses.Store(true)
	if _, err := f.WriteAt([]byte("never"), 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("close before anything failed: %v", err)
	}
	d.ends(cli.ExitIncomplete)
	refuses.Store(false)
	d = s.mount(t, "--output")
	if !strings.Contains(d.stderr.String(), "recovered") {
		t.Errorf("the next mount does not say that it recovered: %s", d.stderr)
	}
	reads(t, s.dir+"/f", "a")
	d.stop(s)
}

// TestOutputSwap: where the machine swaps, no output is mounted unless
// --allow-swap is given. The machine is one whose /proc/swaps says so, in a
// mount namespace of its own.
func TestOutputSwap(t *testing.T) {
	s := newOutputSite(t, uint32(os.Geteuid()))
	table := t.TempDir() + "/swaps"
	write(t, table, "Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
	start := func(flags ...string) (stdout, stderr string, code int) {
		script := `mount --bind "$0" /proc/swaps && exec "$@"`
		args := append([]string{"--mount", "sh", "-c", script, table, shared + "/cloister", "mount", "--key", s.key, "--output"}, flags...)
		if os.Geteuid() != 0 {
			args = append([]string{"--map-root-user"}, args...)
		}
		// The directory is not there: it goes no further than opening the volume.
		cmd := exec.Command("unshare", append(args, s.volume, s.dir+"/absent")...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	if _, said, code := start(); code != cli.ExitRefused || !strings.Contains(said, "/swapfile") || !strings.Contains(said, "--allow-swap") {
		t.Errorf("exit code %d; it said: %s", code, said)
	}
	if _, err := os.Stat(s.volume); err == nil {
		t.Error("a volume was made")
	}
	if out, said, _ := start("--allow-swap"); !strings.Contains(said, "starting all the same") || strings.Count(said, "hint") > 0 && strings.Contains(said, "swapoff") {
		t.Errorf("with --allow-swap it says %s %s", out, said)
	}
	if _, err := os.Stat(s.volume); err != nil {
		t.Errorf("with --allow-swap no volume was made: %v", err)
	}
}
