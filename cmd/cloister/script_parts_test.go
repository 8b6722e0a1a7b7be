package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// served is a program that runs beside a script.
type served struct {
	cmd      *exec.Cmd
	out, err string // files
	done     chan error

	mu   sync.Mutex // guards what follows
	said bytes.Buffer
	over bool
	more *sync.Cond // it said more, or is over
}

func startServed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "serve NAME PROGRAM [ARG...]")
	beginServed(ts, neg, args)
	awaitServed(ts, neg, []string{args[0], "^ready "})
}

func beginServed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "begin NAME PROGRAM [ARG...]")
	program, err := lookup(ts, args[1])
	ts.Check(err)
	s := &served{cmd: exec.Command(program, args[2:]...), out: ts.MkAbs(args[0] + ".out"), err: ts.MkAbs(args[0] + ".err"), done: make(chan error, 1)}
	s.more = sync.NewCond(&s.mu)
	s.cmd.Dir, s.cmd.Env = ts.MkAbs("."), environment(ts)
	stderr, err := os.Create(s.err)
	ts.Check(err)
	defer stderr.Close()
	s.cmd.Stderr = stderr
	stdout, err := s.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	ts.Defer(func() { s.cmd.Process.Kill() }) //nolint:errcheck // it has ended already
	of(ts).served[args[0]] = s
	go s.read(bufio.NewReader(stdout))
}

// awaitServed goes on once a program has said a line with a regexp.
func awaitServed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2 && of(ts).served[args[0]] != nil, "await NAME REGEXP")
	s, line := of(ts).served[args[0]], regexp.MustCompile("(?m)"+args[1])
	s.mu.Lock()
	defer s.mu.Unlock()
	for !line.Match(s.said.Bytes()) {
		if s.over {
			ts.Fatalf("%s ended before it said %s: %s%s", args[0], args[1], s.said.String(), ts.ReadFile(s.err))
		}
		s.more.Wait()
	}
}

// read takes what the program says, and puts it in its file once it has ended.
func (s *served) read(stdout *bufio.Reader) {
	for {
		line, err := stdout.ReadString('\n')
		s.mu.Lock()
		s.said.WriteString(line)
		s.over = err != nil
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			break
		}
	}
	err := s.cmd.Wait()
	s.done <- errors.Join(onlyStart(err), os.WriteFile(s.out, s.said.Bytes(), 0o600))
}

// onlyStart drops the error that says no more than the exit code.
func onlyStart(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func endServed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "end NAME SIGNAL CODE")
	s := of(ts).served[args[0]]
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	if s == nil || signals[args[1]] == 0 {
		ts.Fatalf("nothing is served as %s, or %s is no signal", args[0], args[1])
	}
	ts.Check(s.cmd.Process.Signal(signals[args[1]]))
	ts.Check(<-s.done)
	if got := fmt.Sprint(s.cmd.ProcessState.ExitCode()); got != args[2] {
		ts.Fatalf("%s: exit code %s, want %s\n%s", args[0], got, args[2], ts.ReadFile(s.err))
	}
}

func lookup(ts *testscript.TestScript, program string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %s in $PATH", program)
}

// environment is the script's, as far as these programs look at it.
func environment(ts *testscript.TestScript) (env []string) {
	names := []string{"PATH", "HOME", "TMPDIR", "TESTSCRIPT_COMMAND", "XDG_CONFIG_HOME", "AZURE_STORAGE_CONNECTION_STRING"}
	for _, name := range append(names, of(ts).loaded...) {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "capture VAR FILE REGEXP")
	found := regexp.MustCompile("(?m)" + args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(found) != 2 {
		ts.Fatalf("%s is not in %s:\n%s", args[2], args[1], ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], found[1])
}

func loadenv(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "loadenv FILE")
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		usage(ts, ok, "lines of VAR=VALUE")
		ts.Setenv(name, value)
		of(ts).loaded = append(of(ts).loaded, name)
	}
}

func noise(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "noise FILE BYTES")
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, data, 0o644))
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "flip FILE BYTE")
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 4
	ts.Check(os.WriteFile(path, data, 0o600))
}
