// Package cleanroom sets up a whole clean room on this machine, for the demo and
// for tests: a simulated cloud, two parties, what they agreed on, their keys
// where only the agreed container gets them, and a guest for the runtime.
//
// Life of a room: New makes its folder; the phases of the user flow follow, one
// method each (Phases has them in order), with the commands that a user types;
// Guest launches a simulated container and Runtime makes the command that runs
// in it. Close ends what runs in the background and removes the folder. The
// hospital owns the data, volume "source", mounted at mnt/input; the analyst
// gets the result, volume "report", mounted at mnt/report.
package cleanroom

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
	"slices"
	"strings"
	"syscall"
	"time"
)

// Room is a clean room under construction. It is not safe for concurrent use.
type Room struct {
	Dir string // everything is below it
	// Ran, if set, is told of each command that has ended, or is ready.
	Ran func(cmd *exec.Cmd, took time.Duration)

	Endpoints struct{ Attestation, Vault, HSM, Broker, Blob string }
	Reference string   // of the input volume
	Sink      string   // what is pinned of the output volume before it exists
	Ledger    string   // address of the contract's log
	Env       []string // with which programs find the simulated cloud
	// Code, if set, is a folder of a third party, the author, that Prepare seals:
	// volume "code", mounted at mnt/code, which is $CODE to the application.
	// CodeReference is then its reference.
	Code, CodeReference string
	// Second, if set, is a folder of the analyst's that Prepare seals: volume
	// "second", mounted at mnt/second, which is $SECOND to the application.
	// SecondReference is then its reference.
	Second, SecondReference string
	// Recipients are parties that Specify has the output sealed for, beside the
	// analyst, who owns it.
	Recipients []string
	// AtBroker are parties whose keys Specify has at the key broker, instead of
	// vault and HSM.
	AtBroker []string
	// Roles has the cloud check role assignments: its owner provisions, and the
	// clean room's identity has what it was given.
	Roles bool
	// Groups has the cloud run container groups with the room's own runtime.
	Groups bool
	// Azurite, if set, is the address of one that runs: volumes are then in its
	// containers, behind the simulated cloud's blob service.
	Azurite string
	// Distributed has Specify put the application into a container of its own.
	Distributed bool
	// Application, Input and Output are more options of the application and the
	// volumes, of `spec add`.
	Application, Input, Output []string
	// Witnesses is how many witnesses the parties run, and Threshold how many of them
	// must cosign, all where it is 0.
	Witnesses, Threshold int
	// Replicas is how many runs share the work; 1 where it is 0. Sinks are then
	// what is pinned of the outputs of each.
	Replicas int
	Sinks    []string
	// LedgerAddress has Specify say where the ledger is.
	LedgerAddress bool
	// AttestedLedger has the ledger run in a simulated container of its own, under the
	// policy at LedgerPolicy, and the specification demand that it proves it.
	AttestedLedger bool
	// Ports are endpoints for clients: of each the options of `spec add endpoint`.
	Ports [][]string
	// Work are options of `spec set jobs`, where the contract is to have jobs.
	Work []string
	// Network is what Specify has the application reach, the arguments of
	// `spec set network`; nothing when empty.
	Network []string

	ctx  context.Context
	bin  string
	uid  int
	jobs []*exec.Cmd

	witnesses []*witness
}

// New makes a room's folder. bin is the folder of the binaries; uid is whom
// everything runs as where this process is root, and otherwise its own.
func New(ctx context.Context, bin string, uid int) (*Room, error) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return nil, fmt.Errorf("a clean room mounts for real and needs /dev/fuse: run `modprobe fuse`, or start the container with --device /dev/fuse: %w", err)
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "cloister-room-")
	if err != nil {
		return nil, err
	}
	r := &Room{Dir: dir, ctx: ctx, bin: bin, uid: uid}
	// The application is another user and must reach its mounts.
	return r, errors.Join(os.Chmod(dir, 0o755), r.own(dir), os.Mkdir(r.Path("store"), 0o700), r.own(r.Path("store")))
}

func (r *Room) own(path string) error {
	if os.Getuid() == r.uid {
		return nil
	}
	return os.Chown(path, r.uid, r.uid)
}

// Path returns a path in the room's folder.
func (r *Room) Path(parts ...string) string {
	return filepath.Join(append([]string{r.Dir}, parts...)...)
}

// Store is where a volume is: "input", "second", "code" or "output".
func (r *Room) Store(name string) string {
	if r.Azurite == "" {
		return r.Path("store", name)
	}
	return r.Endpoints.Blob + "/" + r.Container(name) + "/volume"
}

// Container is the blob container of a volume, where Azurite has it.
func (r *Room) Container(name string) string { return filepath.Base(r.Dir) + "-" + name }

// Close ends what runs in the background and, unless it is to be kept, removes
// the folder.
func (r *Room) Close(keep bool) error {
	for len(r.jobs) > 0 {
		r.StopLast(syscall.SIGTERM)
	}
	if keep {
		return nil
	}
	return os.RemoveAll(r.Dir)
}

// Command makes the command that runs one of the binaries as the room's user.
func (r *Room) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.ctx, filepath.Join(r.bin, program), args...)
	cmd.Dir, cmd.Env = r.Dir, append(append(os.Environ(), "XDG_CONFIG_HOME="+r.Path("config")), r.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if os.Getuid() != r.uid {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(r.uid), Gid: uint32(r.uid)}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// Cloister runs the owner's tool and returns what it printed. Its exit code is
// in the error's *exec.ExitError.
func (r *Room) Cloister(args ...string) (stdout string, err error) {
	return r.finish(r.Command("cloister", args...))
}

func (r *Room) finish(cmd *exec.Cmd) (stdout string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err = cmd.Run()
	r.ran(cmd, start)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", r.Shown(cmd.Args), err, errs.String())
	}
	return strings.TrimSpace(out.String()), err
}

func (r *Room) ran(cmd *exec.Cmd, start time.Time) {
	if r.Ran != nil {
		r.Ran(cmd, time.Since(start))
	}
}

func (r *Room) all(commands ...[]string) error {
	for _, args := range commands {
		if _, err := r.Cloister(args...); err != nil {
			return err
		}
	}
	return nil
}

// Shown is a command line as a person would type it in the room's folder.
func (r *Room) Shown(args []string) string {
	words := []string{filepath.Base(args[0])}
	for _, a := range args[1:] {
		a = strings.ReplaceAll(a, r.Dir+"/", "")
		if len(a) > 60 {
			a = a[:57] + "..."
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// Serve starts the owner's tool as something that runs until Close, and returns
// when it has said that it is ready.
func (r *Room) Serve(args ...string) error {
	_, err := r.serve(r.Command("cloister", args...))
	return err
}

// serve returns what the program says after "ready ".
func (r *Room) serve(cmd *exec.Cmd) (ready string, err error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ready ") {
		err := cmd.Wait()
		return "", fmt.Errorf("%s is not ready: %w\n%s", r.Shown(cmd.Args), err, errs.String())
	}
	ready = strings.TrimPrefix(lines.Text(), "ready ")
	go io.Copy(io.Discard, stdout)
	r.jobs = append(r.jobs, cmd)
	r.ran(cmd, start)
	return ready, nil
}

// StopLast ends what Serve started last with a signal.
func (r *Room) StopLast(signal os.Signal) error {
	return r.stop(r.jobs[len(r.jobs)-1], signal)
}

func (r *Room) stop(job *exec.Cmd, signal os.Signal) error {
	r.jobs = slices.DeleteFunc(r.jobs, func(j *exec.Cmd) bool { return j == job })
	job.Process.Signal(signal)
	if err := job.Wait(); err != nil {
		return fmt.Errorf("%s: %w", r.Shown(job.Args), err)
	}
	return nil
}

// Jobs returns the processes that Serve started.
func (r *Room) Jobs() (pids []int) {
	for _, j := range r.jobs {
		pids = append(pids, j.Process.Pid)
	}
	return pids
}

// readCloud learns where the simulated cloud is.
func (r *Room) readCloud() error {
	raw, err := os.ReadFile(r.Path("cloud", "endpoints.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &r.Endpoints); err != nil {
		return err
	}
	lines, err := r.Cloister("local", "env", "--dir", r.Path("cloud"))
	r.Env = strings.Fields(lines)
	return err
}
