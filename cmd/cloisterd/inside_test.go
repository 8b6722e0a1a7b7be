package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"cloister/fs/format"
	"cloister/internal/cli"
	"cloister/prep/keyfile"
)

// TestOwners: the application may read of an input what its owner may, whoever
// he was, and nobody else's rights count.
func TestOwners(t *testing.T) {
	t.Parallel()
	for name, uid := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, uid)
			run := r.start()
			run.do("cat $IN/private/secret.txt > $OUT/secret && id -u > $OUT/who && stat -c '%u %a' $IN/private/secret.txt $IN/private > $OUT/modes")
			run.tell("cat $IN/closed.txt")
			if status := run.hear(); status == "0" {
				t.Error("a file that its owner closed to himself can be read")
			}
			run.tell("echo x > $IN/new || touch $IN/private/secret.txt")
			if status := run.hear(); status == "0" {
				t.Error("the input can be written to")
			}
			run.tell("exit 0")
			run.ends(0)
			files := r.decrypt(run.reference("output"))
			who := strings.TrimSpace(files["who"])
			if want := fmt.Sprintf("%[1]s 600\n%[1]s 700\n", who); files["modes"] != want || files["secret"] != "for the owner alone\n" {
				t.Errorf("user %s sees %q and %q", who, files["modes"], files["secret"])
			}
			if want := strconv.Itoa(uid); uid != 0 && who != want || uid == 0 && who != strconv.Itoa(nobody) {
				t.Errorf("the application runs as %s", who)
			}
		})
	}
}

// users are those to run the runtime as.
func users() map[string]int {
	if os.Getuid() != 0 {
		return map[string]int{"myself": os.Getuid()}
	}
	return map[string]int{"root": 0, "daemon": daemon}
}

// daemon is a user without privileges that every Linux has. It is not nobody,
// whose number also stands for a user who is not there.
const daemon = 1

// TestWithoutPrivileges: a runtime that is not root has user namespaces and
// fusermount3; its memory is closed to other programs of its user; the
// application is alone in its namespaces; it drains, and when it is killed the
// next run clears the dead mounts.
func TestWithoutPrivileges(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Fatalf("mounting without being root: %v; run `make test-setup` (apt-get install fuse3)", err)
	}
	uid := os.Getuid()
	if uid == 0 {
		uid = daemon
	}
	r := newRoom(t, uid)
	run := r.start()
	run.do("echo durable > $OUT/durable && sync $OUT/durable")
	run.do(`test "$(ls /proc | grep -c '^[0-9]')" -le 5 && grep -q 'CapEff:.*0000000000000000' /proc/self/status && grep -q 'NoNewPrivs:.*1' /proc/self/status && ! grep -q eth /proc/net/dev`)
	peek := exec.Command("cat", fmt.Sprintf("/proc/%d/environ", run.cmd.Process.Pid))
	if os.Getuid() != uid {
		peek.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if out, err := peek.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("Permission denied")) {
		t.Errorf("another program of the user reads the runtime: %q, %v", out, err)
	}
	must(t, run.cmd.Process.Kill())
	run.wait()
	until(t, "the application ends", func() bool { return len(r.processes()) == 0 })

	again := r.start()
	again.do("test -s $OUT/durable")
	must(t, again.cmd.Process.Signal(syscall.SIGTERM))
	again.ends(cli.ExitIncomplete, "recovered what an earlier writer left", "ended by a signal")
	if got := r.decrypt(again.reference("partial"))["durable"]; got != "durable\n" {
		t.Errorf("the output has %q", got)
	}
	r.checkNothingLeft()
}

// TestMemory: no core files, of the application neither; memory locked where
// that is allowed; no start where the machine swaps, unless told.
func TestMemory(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start()
	run.do(`test "$(ulimit -c)" = 0 && test "$(ulimit -Hc)" = 0`)
	if os.Getuid() == 0 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", run.cmd.Process.Pid))
		must(t, err)
		_, locked, _ := strings.Cut(string(status), "VmLck:")
		if f := strings.Fields(locked); len(f) == 0 || f[0] == "0" {
			t.Errorf("VmLck is %q", locked)
		}
	}
	run.tell("exit 0")
	run.ends(0)

	swaps := r.Path("swaps")
	must(t, os.WriteFile(swaps, []byte("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2                               partition\t1024\t\t0\t\t-2\n"), 0o644))
	for _, tc := range []struct {
		told bool
		want int
		said string
	}{
		{false, cli.ExitRefused, "this machine swaps to /dev/sda2"},
		{true, 0, "--allow-swap"},
	} {
		got, said := runSwapping(r, swaps, tc.told)
		if got != tc.want || !strings.Contains(said, tc.said) {
			t.Errorf("told %t: exit code %d, want %d; it said: %s", tc.told, got, tc.want, said)
		}
	}
}

// runSwapping runs the runtime in a mount namespace where the table of swap
// devices is another.
func runSwapping(r *site, swaps string, told bool) (code int, said string) {
	r.t.Helper()
	run, err := r.Runtime("guest")
	must(r.t, err)
	args := run.Args
	if !told {
		args = args[:len(args)-1]
	}
	attr := *run.SysProcAttr
	attr.Cloneflags = syscall.CLONE_NEWNS
	if uid := os.Getuid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	cmd := exec.Command("sh", append([]string{"-c", `mount --make-rprivate / && mount --bind "$0" /proc/swaps && exec "$@"`, swaps}, args...)...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = run.Dir, run.Env, &attr
	p := &process{site: r, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	must(r.t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	if told {
		p.hear()
		p.tell("exit 0")
	}
	return p.wait(), p.stderr.String()
}

// TestNothingSecret looks for the DEKs of a run while it holds them: they are in
// its memory, and not in its environment, its command line, its log or anything
// on the disk.
func TestNothingSecret(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	run := r.start("--consent-interval", "50ms")
	run.do("cat $IN/private/secret.txt > $OUT/copy && sync $OUT/copy")

	proc := fmt.Sprintf("/proc/%d/", run.cmd.Process.Pid)
	deks := r.deks()
	// Without this the search could look for the wrong bytes. Only root may look.
	for name, dek := range deks {
		if os.Getuid() == 0 && !inMemory(t, proc, dek) {
			t.Errorf("the DEK of %s is not in the runtime's memory: what is looked for below is not what it holds", name)
		}
	}
	search := func(where string, data []byte) {
		for name, dek := range deks {
			for form, bytes_ := range formsOf(dek) {
				if bytes.Contains(data, bytes_) {
					t.Errorf("the DEK of %s is in %s (%s)", name, where, form)
				}
			}
		}
	}
	files := 0
	look := func(root string) {
		must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // the ledger renames what it writes
			}
			files++
			search(path, data)
			return err
		}))
	}
	readable := []string{"cmdline"}
	if os.Getuid() == 0 {
		readable = append(readable, "environ", "maps", "status", "limits")
		for _, path := range filesOf(t, proc) {
			data, err := os.ReadFile(path)
			must(t, err)
			files++
			search(path, data)
		}
	}
	for _, name := range readable {
		data, err := os.ReadFile(proc + name)
		must(t, err)
		if len(data) == 0 {
			t.Fatalf("%s is empty", name)
		}
		search(name, data)
	}
	look(r.Dir)
	run.tell("exit 0")
	run.ends(0)
	look(r.Dir) // the manifest, the completion
	search("its log", []byte(run.stderr.String()+run.stdout.String()))
	if files < 20 {
		t.Errorf("%d files were searched", files)
	}
}

// formsOf are the ways in which a key might be written.
func formsOf(dek []byte) map[string][]byte {
	return map[string][]byte{
		"raw": dek, "hex": []byte(hex.EncodeToString(dek)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(dek))),
		"base64": []byte(base64.RawStdEncoding.EncodeToString(dek)), "base64url": []byte(base64.RawURLEncoding.EncodeToString(dek)),
	}
}

// filesOf are the files that a process has mapped or open.
func filesOf(t *testing.T, proc string) (paths []string) {
	t.Helper()
	maps, err := os.ReadFile(proc + "maps")
	must(t, err)
	named := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) == 6 {
			named[f[5]] = true
		}
	}
	open, err := filepath.Glob(proc + "fd/*")
	must(t, err)
	for _, fd := range open {
		if target, err := os.Readlink(fd); err == nil {
			named[target] = true
		}
	}
	for path := range named {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Fatal("the process has no file mapped, not even its program")
	}
	return paths
}

// deks are the keys of the room's volumes.
func (r *site) deks() map[string][]byte {
	return map[string][]byte{
		"source": r.dek("hospital.key", strings.Split(r.Reference, ".")[1]),
		"report": r.dek("analyst.key", strings.Split(r.Sink, ":")[0]),
	}
}

// dek derives a volume's key as its owner does.
func (r *site) dek(key, volume string) []byte {
	root, err := keyfile.Read(r.Path(key), nil)
	must(r.t, err)
	id, err := format.ParseVolumeID(volume)
	must(r.t, err)
	return bytes.Clone(root.DeriveDEK(id, 1).Expose())
}

// inMemory reports whether the writable memory of a process has the bytes.
func inMemory(t *testing.T, proc string, want []byte) bool {
	t.Helper()
	maps, err := os.ReadFile(proc + "maps")
	must(t, err)
	mem, err := os.Open(proc + "mem")
	must(t, err)
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var begin, end int64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &mode); n != 3 || !strings.HasPrefix(mode, "rw") {
			continue
		}
		data, err := io.ReadAll(io.NewSectionReader(mem, begin, end-begin))
		if err != nil && !errors.Is(err, syscall.EIO) && len(data) == 0 {
			continue // a guard page
		}
		if bytes.Contains(data, want) {
			return true
		}
	}
	return false
}
