package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloister/internal/cleanroom"
)

// The tests run the real binaries: a simulated cloud, a runtime in a guest of
// it, kernel mounts, and as the application a shell that does what the test
// tells it, over two pipes.

// bin holds the binaries, built for this test.
var bin string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "cloisterd-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(bin)
	if err := os.Chmod(bin, 0o755); err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-o", bin+"/", "cloister/cmd/cloister", "cloister/cmd/cloisterd", "cloister/cmd/cloister-rego", "cloister/cmd/cloister-ledger", "cloister/cmd/cloister-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // an image from scratch has no C library
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// script is the application: it says that it is there, and then the status of
// each line it is told to do.
const script = `cd /; [ -p %[1]s/told ] || mkfifo %[1]s/said %[1]s/told; echo up > %[1]s/said; while read -r line < %[1]s/told; do eval "$line"; echo $? > %[1]s/said; done`

// private is where an application that the runtime starts has its pipes: only it
// sees the directory.
const private = "/tmp"

// patience bounds what is waited for; nothing is measured by it.
const patience = 60 * time.Second

// site is a clean room that is ready to run.
type site struct {
	*cleanroom.Room
	t      *testing.T
	beside bool // the application is in a container of its own, which shares its pipes
}

func newRoom(t *testing.T, uid int, recipients ...string) *site {
	t.Helper()
	return newRoomWith(t, uid, func(r *cleanroom.Room) { r.Recipients = recipients })
}

// newRoomWith lets a room be changed before its phases.
func newRoomWith(t *testing.T, uid int, change func(*cleanroom.Room)) *site {
	t.Helper()
	return newRoomRunning(t, uid, fmt.Sprintf(script, private), change)
}

// newRoomRunning has another application than script.
func newRoomRunning(t *testing.T, uid int, script string, change func(*cleanroom.Room)) *site {
	t.Helper()
	r, err := cleanroom.New(t.Context(), bin, uid)
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	room := &site{Room: r, t: t}
	t.Cleanup(room.close)
	source := r.Path("data")
	must(t, os.MkdirAll(filepath.Join(source, "private"), 0o755))
	must(t, os.WriteFile(filepath.Join(source, "private", "secret.txt"), []byte("for the owner alone\n"), 0o600))
	must(t, os.Chmod(filepath.Join(source, "private"), 0o700))
	if uid == 0 { // who else could seal it?
		must(t, os.WriteFile(filepath.Join(source, "closed.txt"), []byte("for others than its owner\n"), 0o044))
	}
	if os.Getuid() != uid {
		must(t, filepath.WalkDir(source, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, uid, uid))
		}))
	}
	for _, phase := range []func() error{
		r.StartCloud, func() error { return r.Prepare(source) }, func() error { return r.Specify(": " + r.Dir + "; " + script) },
		r.PreProvision, r.Agree, r.Provision, func() error { return r.Guest("guest", r.Policy()) },
	} {
		must(t, phase())
	}
	return room
}

func (r *site) close() {
	r.checkNothingLeft()
	if err := r.Close(false); err != nil {
		r.t.Errorf("closing the room: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cloister runs the owner's tool, which must succeed.
func (r *site) cloister(args ...string) string {
	r.t.Helper()
	out, err := r.Cloister(args...)
	must(r.t, err)
	return out
}

// checkNothingLeft looks for mounts of the room, and for processes that name it.
func (r *site) checkNothingLeft() {
	r.t.Helper()
	if m := r.mounted(); len(m) > 0 {
		r.t.Errorf("left mounted: %v", m)
		for _, dir := range m {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}
	if p := r.processes(); len(p) > 0 {
		r.t.Errorf("left running: %q", p)
	}
}

// mounted returns where FUSE is mounted in the room.
func (r *site) mounted() (dirs []string) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(r.t, err)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], r.Dir) && strings.Contains(line, " fuse.cloister ") {
			dirs = append(dirs, f[4])
		}
	}
	return dirs
}

// processes returns the command lines of processes that name the room, but for
// its cloud.
func (r *site) processes() (lines []string) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(r.t, err)
	jobs := fmt.Sprint(r.Jobs())
	for _, f := range all {
		line, _ := os.ReadFile(f)
		pid := strings.Split(f, "/")[2]
		if bytes.Contains(line, []byte(r.Dir)) && !strings.Contains(jobs, pid) {
			lines = append(lines, pid+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return lines
}

// pipe is one of those between the test and the application, "" while it is not
// there. One that the application alone sees is looked for with its own eyes.
func (r *site) pipe(name string) string {
	if r.beside {
		return r.Path("app", name)
	}
	for _, line := range r.processes() {
		pid, command, _ := strings.Cut(line, " ")
		pipe := filepath.Join("/proc", pid, "root", private, name)
		if info, err := os.Stat(pipe); err == nil && info.Mode().Type() == os.ModeNamedPipe && strings.Contains(command, private+"/told") {
			return pipe
		}
	}
	return ""
}

// piped waits until a pipe is there, or the process has ended.
func (r *process) piped(name string) string {
	for {
		select {
		case <-r.ended:
			return ""
		case <-time.After(10 * time.Millisecond):
			if pipe := r.pipe(name); pipe != "" {
				return pipe
			}
		}
	}
}

// process is a runtime that was started.
type process struct {
	*site
	cmd            *exec.Cmd
	stdout, stderr lockedBuffer
	ended          chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// launch starts the runtime in the room's guest.
func (r *site) launch(args ...string) *process {
	r.t.Helper()
	cmd, err := r.Runtime("guest", args...)
	must(r.t, err)
	return r.watchCommand(cmd)
}

// watchCommand starts a command that is a runtime, or an application, or both.
func (r *site) watchCommand(cmd *exec.Cmd) *process {
	r.t.Helper()
	run := &process{site: r, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &run.stdout, &run.stderr
	must(r.t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		close(run.ended)
	}()
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-run.ended
	})
	return run
}

// start is launch, and waits until the application is up.
func (r *site) start(args ...string) *process {
	r.t.Helper()
	run := r.launch(args...)
	if said := run.hear(); said != "up" {
		r.t.Fatalf("the application said %q", said)
	}
	return run
}

// hear returns what the application says next.
func (r *process) hear() string {
	r.t.Helper()
	said := make(chan string, 1)
	go func() {
		b, _ := os.ReadFile(r.piped("said"))
		said <- strings.TrimSpace(string(b))
	}()
	select {
	case s := <-said:
		return s
	case <-r.ended:
		r.t.Fatalf("the runtime ended: %s", &r.stderr)
	case <-time.After(patience):
		r.t.Fatalf("the application says nothing; the runtime said: %s", &r.stderr)
	}
	return ""
}

// tell has the application do a line and does not wait for it.
func (r *process) tell(line string) {
	r.t.Helper()
	told := make(chan error, 1)
	go func() { told <- os.WriteFile(r.piped("told"), []byte(line+"\n"), 0) }()
	select {
	case err := <-told:
		must(r.t, err)
	case <-time.After(patience):
		r.t.Fatalf("the application does not listen; the runtime said: %s", &r.stderr)
	}
}

// do has the application do a line, which must succeed.
func (r *process) do(line string) {
	r.t.Helper()
	r.tell(line)
	if status := r.hear(); status != "0" {
		r.t.Fatalf("%s: the application says %q", line, status)
	}
}

// wait returns the runtime's exit code, once it has ended.
func (r *process) wait() int {
	r.t.Helper()
	select {
	case <-r.ended:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		r.t.Fatalf("the runtime does not end; it said: %s", &r.stderr)
		return -1
	}
}

// ends is wait, with what is wanted of the exit code and on standard error.
func (r *process) ends(code int, said ...string) {
	r.t.Helper()
	if got := r.wait(); got != code {
		r.t.Errorf("exit code %d, want %d; it said: %s", got, code, &r.stderr)
	}
	for _, s := range said {
		if !strings.Contains(r.stderr.String(), s) {
			r.t.Errorf("%q is not in what it said: %s", s, &r.stderr)
		}
	}
}

// reference returns the output's, from the line that begins with word.
func (r *process) reference(word string) string {
	r.t.Helper()
	line := strings.Fields(r.stdout.String())
	if len(line) != 3 || line[0] != word || line[1] != "report" {
		r.t.Fatalf("standard output is %q, want %s report REFERENCE; it said: %s", &r.stdout, word, &r.stderr)
	}
	return line[2]
}

// decrypt is the analyst at home: the files of an output, by name.
func (r *site) decrypt(reference string) map[string]string {
	r.t.Helper()
	dir := r.Path("result" + strconv.FormatInt(time.Now().UnixNano(), 36))
	must(r.t, r.WithOwner(func() error {
		_, err := r.Cloister("prep", "decrypt", "--key", r.Path("analyst.key"), "--reference", reference, r.Store("output"), dir)
		return err
	}))
	files := map[string]string{}
	list, err := os.ReadDir(dir)
	must(r.t, err)
	for _, f := range list {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		must(r.t, err)
		files[f.Name()] = string(b)
	}
	return files
}

// ran is a run as `cloister contract status` shows it.
type ran struct {
	ID                  string
	Completed, Complete bool
	Detail              string
}

// record returns the runs in the ledger, and demands that it verifies.
func (r *site) record() []ran {
	r.t.Helper()
	r.cloister("audit", "verify", "--ledger", r.Path("ledger"))
	var status struct{ Runs []ran }
	must(r.t, json.Unmarshal([]byte(r.cloister("contract", "status", "--json", "--ledger", r.Path("ledger"))), &status))
	return status.Runs
}

// last returns the newest run in the ledger.
func (r *site) last() ran {
	r.t.Helper()
	runs := r.record()
	if len(runs) == 0 {
		r.t.Fatal("the ledger has no run")
	}
	return runs[len(runs)-1]
}

// entry is a line of `cloister audit list --json`.
type entry struct {
	Type string
	Body struct {
		Epoch, Sequence uint64
		Reason, What    string
		Outputs         []struct{ Name, Reference string }
	}
}

func (r *site) entries(kind string) (list []entry) {
	r.t.Helper()
	dec := json.NewDecoder(strings.NewReader(r.cloister("audit", "list", "--json", "--ledger", r.Path("ledger"))))
	for dec.More() {
		var e entry
		must(r.t, dec.Decode(&e))
		if e.Type == kind {
			list = append(list, e)
		}
	}
	return list
}

// until waits for something that another process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
