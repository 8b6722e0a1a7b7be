// Package launch runs the application: another user, in namespaces of its own,
// with nothing of the runtime in reach but the mounts.
//
// Life of an application: the runtime calls Run. Run makes a control group where
// it may, and starts this same program again, in that group, as the init of new
// PID, mount, IPC, UTS, control group and network namespaces (Init, which main
// calls first of all). The init bounds what it may use, builds the application's
// view of the file system (view.go), gives up what it could hand on
// (confine.go), starts the application as its user and waits, reaping what it
// orphans and passing signals on. The init ends with the application's exit
// code, and with it every process of the PID namespace. If the runtime dies, killed
// or by its own fault, the kernel kills the init (its parent-death signal), and so
// all of them, whatever sessions or signals they have: a PID namespace ends with its
// first process. That needs no control group, and nobody who is left to do it.
//
// The network namespace holds a loopback device and nothing else, so there is no
// way out of it but what the runtime serves inside: Network.
//
// What keeps the application in, from the outside: the user, the namespaces, the
// read-only view, no_new_privs with an empty bounding set, Landlock for writes,
// seccomp for what no program needs. Each of them is demanded, but for Landlock
// and the control group, which not every machine has; the log says what is
// there. A control group takes that the runtime may make one: at the hierarchy's
// root, or in a group that was delegated to it, out of which it moves itself first
// (Settle). Where groups are read-only, as container engines have them, there is
// none: the limits on the number of processes, by user, and on the temporary files
// hold all the same, where memory ends the kernel ends the application first, and
// its end is the PID namespace's.
package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"cloister/internal/fault"
)

// Application is what to run.
type Application struct {
	Command     []string          // the program's absolute path and its arguments
	Environment map[string]string // all of it: nothing is inherited
	WorkingDir  string
	UID, GID    uint32 // who it runs as where the runtime is root
	// Mounts are all that it sees mounted beside the root, which is read-only, and
	// a /proc, a /dev and temporary directories of its own.
	Mounts []Mount
	Limits Limits
	// Texts are files that it finds in /dev, by their names there.
	Texts map[string][]byte
	// Exchange, if not nil, is a directory for files to and from the runtime; where
	// there is no WorkingDir, it starts there.
	Exchange *Exchange
	// Files are its open files from descriptor 3 on, beside its output.
	Files []*os.File
	// Grace is how long the application has after SIGTERM before it is killed.
	Grace time.Duration
	// Network, if not nil, is called before the application starts, to listen for
	// it, and may keep what it is given, to dial it; an error keeps the application
	// from starting, and is Run's.
	Network func(*Network) error
	// Stdout and Stderr are given to the application; nil is nowhere. It reads
	// nothing from standard input.
	Stdout, Stderr *os.File
	Log            *slog.Logger // is told what confines it; nil: nobody is
	// Release, if set, is called where a process of it that was killed does not
	// end: one that waits for the answer of a mount does only once there is one.
	Release func()
}

// Mount is a directory at which a volume is mounted.
type Mount struct {
	Path     string `json:"path"`
	Writable bool   `json:"writable"`
}

// initName is the argument by which main knows that it is to be the init. The
// application's own description comes through a pipe: a command line can be
// read by others.
const initName = "cloisterd-init"

// signalled is the exit code for an application that a signal ended, less the
// signal's number: what shells use.
const signalled = 128

// Run runs the application to its end and returns its exit code. When ctx
// ends, the application gets SIGTERM and, after its grace, SIGKILL; Run returns
// once no process of it is left.
func Run(ctx context.Context, a Application) (exit int, err error) {
	description, err := json.Marshal(a.describe())
	if err != nil {
		return 0, err
	}
	group := makeGroup(a.Limits)
	defer func() { err = errors.Join(err, group.remove()) }()
	a.say(group)
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	defer w.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return 0, err
	}
	network := &Network{init: ours}
	defer network.end()
	defer theirs.Close()
	cmd := a.init(group, r, theirs)
	if err := startPinned(cmd); err != nil {
		return 0, fault.Errorf(fault.Denied, "the runtime needs the right to make namespaces: run it as root, or allow user namespaces",
			"isolating %s: %w", a.Command[0], err)
	}
	r.Close()
	theirs.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := a.admit(network, w, description); err != nil {
		cmd.Process.Kill()
		<-done
		return 0, err
	}
	a.Exchange.take(network)
	if a.Network == nil {
		network.end()
	}
	return exitCode(a, a.wait(ctx, cmd.Process, group, done))
}

// admit has the init start the application, once its network is served.
func (a Application) admit(n *Network, w *os.File, description []byte) error {
	if a.Network != nil {
		if err := a.Network(n); err != nil {
			return fmt.Errorf("serving the network of %s: %w", a.Command[0], err)
		}
	}
	if _, err := w.Write(description); err != nil {
		return fmt.Errorf("describing %s to its init: %w", a.Command[0], err)
	}
	return w.Close()
}

// init is the command that is the namespaces' init.
func (a Application) init(g *group, description, sockets *os.File) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName}
	cmd.Env = []string{}
	cmd.Dir = "/"
	if a.Stdout != nil {
		cmd.Stdout = a.Stdout
	}
	if a.Stderr != nil {
		cmd.Stderr = a.Stderr
	}
	cmd.ExtraFiles = append([]*os.File{description, sockets}, a.Files...) // descriptionFD, socketsFD, filesFD
	cmd.SysProcAttr = isolation()
	g.hold(cmd.SysProcAttr)
	return cmd
}

func (a Application) say(g *group) {
	if a.Log != nil {
		a.Log.Info("application is confined", "landlock", landlockVersion(), "cgroup", g.String())
	}
}

// wait returns what the init's end was, and sees to it that there is one.
func (a Application) wait(ctx context.Context, init *os.Process, g *group, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	init.Signal(syscall.SIGTERM)
	select {
	case err := <-done:
		return err
	case <-time.After(a.Grace):
	}
	g.kill()
	init.Kill()
	select {
	case err := <-done:
		return err
	case <-time.After(killTime):
	}
	if a.Release != nil {
		a.Release()
	}
	return <-done
}

// killTime is how long processes that are killed have to be gone, which takes
// milliseconds unless they wait for an answer of a mount.
const killTime = 3 * time.Second

func exitCode(a Application, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 0, fmt.Errorf("waiting for %s: %w", a.Command[0], err)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return signalled + int(status.Signal()), nil
	}
	if status.ExitStatus() == exitNotStarted {
		return 0, fault.Errorf(fault.Usage, "the application's command in the specification must name a program that its user can run",
			"starting %s: see the line above", a.Command[0])
	}
	return status.ExitStatus(), nil
}

// isolation asks for the namespaces. Where the runtime is not root, a user
// namespace gives the init what it needs to map its user and to mount.
func isolation() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET | syscall.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.AmbientCaps = []uintptr{capSysAdmin, capSetPCap, capNetAdmin}
	}
	return attr
}

// The capabilities that the init takes mounting, giving up and the loopback
// device to, of linux/capability.h.
const (
	capSetPCap  = 8
	capNetAdmin = 12
	capSysAdmin = 21
)
