package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stage is where the demo plays: a folder of its own, the binaries, what runs
// in the background, and what one phase leaves for the next.
type stage struct {
	ctx   context.Context
	bin   string
	dir   string
	start time.Time
	jobs  []*exec.Cmd

	endpoints struct {
		Attestation, Vault, HSM string
	}
	source    string // the folder that is sealed
	reference string // of the input volume
	sink      string // what is pinned of the output volume before it exists
	output    string // reference of the output volume

	bytesIn, bytesOut, peakMemory int64
}

func newStage(ctx context.Context, bin string) (*stage, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return nil, fmt.Errorf("the demo mounts for real and needs /dev/fuse: %w", err)
	}
	dir, err := os.MkdirTemp("", "cloister-demo-")
	if err != nil {
		return nil, err
	}
	// The application is another user and must reach its mounts.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	return &stage{ctx: ctx, bin: bin, dir: dir, start: time.Now()}, os.MkdirAll(filepath.Join(dir, "store"), 0o700)
}

func (d *stage) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// clean ends what is left running and removes the folder.
func (d *stage) clean(keep bool) error {
	for i := len(d.jobs) - 1; i >= 0; i-- {
		d.jobs[i].Process.Signal(syscall.SIGTERM)
		d.jobs[i].Wait()
	}
	if keep {
		fmt.Println("kept:", d.dir)
		return nil
	}
	return os.RemoveAll(d.dir)
}

func (d *stage) say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func (d *stage) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.ctx, filepath.Join(d.bin, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// timed prints what is run and how long it took.
func (d *stage) timed(cmd *exec.Cmd) (stdout string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err = cmd.Run()
	fmt.Printf("%8.0f ms  %s\n", float64(time.Since(start).Microseconds())/1000, d.shown(cmd.Args))
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", d.shown(cmd.Args), err, errs.String())
	}
	return strings.TrimSpace(out.String()), err
}

// shown is a command line as a person would type it in the demo's folder.
func (d *stage) shown(args []string) string {
	words := []string{filepath.Base(args[0])}
	for _, a := range args[1:] {
		a = strings.ReplaceAll(a, d.dir+"/", "")
		if len(a) > 60 {
			a = a[:57] + "..."
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

func (d *stage) cloister(args ...string) (string, error) {
	return d.timed(d.command("cloister", args...))
}

func (d *stage) all(commands ...[]string) error {
	for _, args := range commands {
		if _, err := d.cloister(args...); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a program that runs until the end of the demo, and returns when
// it has said that it is ready.
func (d *stage) serve(program string, args ...string) error {
	cmd := d.command(program, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ready ") {
		err := cmd.Wait()
		return fmt.Errorf("%s is not ready: %w\n%s", d.shown(cmd.Args), err, errs.String())
	}
	go io.Copy(io.Discard, stdout)
	d.jobs = append(d.jobs, cmd)
	fmt.Printf("%8.0f ms  %s\n", float64(time.Since(start).Microseconds())/1000, d.shown(cmd.Args))
	return nil
}

// readEndpoints learns where the simulated cloud is, for this program and all
// that it starts.
func (d *stage) readEndpoints() error {
	raw, err := os.ReadFile(d.path("cloud", "endpoints.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &d.endpoints); err != nil {
		return err
	}
	lines, err := d.cloister("local", "env", "--dir", d.path("cloud"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// runtime launches a guest under a container policy and runs the runtime in it.
func (d *stage) runtime(guest, policy string) (string, error) {
	if _, err := d.cloister("local", "guest", "--dir", d.path("cloud"), "--policy", policy, guest); err != nil {
		return "", err
	}
	digest, err := d.cloister("spec", "digest", d.path("specification.yaml"))
	if err != nil {
		return "", err
	}
	canonical, err := exec.CommandContext(d.ctx, filepath.Join(d.bin, "cloister"), "spec", "show", "--json", d.path("specification.yaml")).Output()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(d.path("specification.json"), canonical, 0o644); err != nil {
		return "", err
	}
	ledgerKey, err := os.ReadFile(d.path("ledger", "ledger.pub"))
	if err != nil {
		return "", err
	}
	cmd := d.command("cloisterd", "run", "--specification-digest", digest, "--ledger-key", strings.TrimSpace(string(ledgerKey)),
		"--specification", d.path("specification.json"), "--ledger", d.path("ledger"), "--platform", "simulated:"+guest)
	start := time.Now()
	out, log, err := d.follow(cmd)
	fmt.Printf("%8.0f ms  %s\n", float64(time.Since(start).Microseconds())/1000, d.shown(cmd.Args))
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		d.peakMemory = max(d.peakMemory, usage.Maxrss<<10)
	}
	if err != nil {
		return "", &runtimeError{err, log}
	}
	return out, nil
}

// runtimeError is a runtime that refused or failed, with what it said last.
type runtimeError struct {
	err error
	log string
}

func (e *runtimeError) Error() string { return e.err.Error() + "\n" + e.log }
func (e *runtimeError) Unwrap() error { return e.err }

// follow runs the runtime and prints each step of its log as it happens.
func (d *stage) follow(cmd *exec.Cmd) (out, log string, err error) {
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", "", err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	var rest []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		_, message, isLog := strings.Cut(lines.Text(), " msg=")
		if !isLog {
			rest = append(rest, lines.Text())
			continue
		}
		message, _, _ = strings.Cut(strings.ReplaceAll(message, " platform=SIMULATED", ""), " run=")
		fmt.Printf("   %6.0f ms  %s\n", float64(time.Since(start).Microseconds())/1000, strings.ReplaceAll(message, d.dir+"/", ""))
	}
	err = cmd.Wait()
	return strings.TrimSpace(stdout.String()), strings.Join(rest, "\n"), err
}

// exitCode returns the code a program ended with, or -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
