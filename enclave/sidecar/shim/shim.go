//go:build linux

// Package shim starts the application in a container of its own, on the mounts
// of the run that the runtime beside it is making, and on no others.
//
// Life of a shim: it is the container's first process, with everything it is
// told on its measured command line. Run looks that the container has no
// privileges and cannot reach the attestation device; waits until the runtime's
// socket appears in the shared directory; is told the run; and compares the
// kernel's mount table: each volume must be a mount of type fuse.cloister with
// that run as its source, and what is beneath it read-only, so that nothing is
// ever read from, or written to, a bare mount point. Then it starts the
// application when the runtime says so, as often as it does: in a network namespace
// that it makes, where the runtime's are the only ways out and in, and with what it
// prints going to the runtime. Where it may not make one, nothing is started, unless
// the command line says that the pod's network will do. When the application has
// ended, no process of it is left, and its exit code is told; the shim ends when the
// runtime has said that the run is done. When the runtime or one of the mounts goes,
// every process of the application is killed, and the shim waits for the next run.
package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"cloister/enclave/launch"
	"cloister/enclave/sidecar"
	"cloister/internal/fault"
)

// Config is what the measured command line says.
type Config struct {
	Share         string   // the directory that the containers share
	Specification string   // the digest that the runtime must have been given too
	Mounts        []string // where each volume must be
	Command       []string // the program's absolute path and its arguments
	Environment   []string // all of it, NAME=VALUE
	WorkingDir    string
	PodNetwork    bool      // the application is in the pod's network, as the parties agreed
	Log           io.Writer // gets a line for each thing that happens
}

// Run runs the application, again for each run of the runtime that does not come
// to its end, and returns its exit code once one is done. It must be called by
// the container's first process.
func Run(c Config) (exit int, err error) {
	if os.Getpid() != 1 {
		return 0, fault.Errorf(fault.Usage, "make it the container's entrypoint, in a PID namespace of the container's own",
			"the shim is process %d, and only the first can end all others", os.Getpid())
	}
	signals := make(chan os.Signal, queue)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCHLD)
	if err := checkPrivileges(); err != nil {
		return 0, err
	}
	for {
		r, err := c.attach(signals)
		if err != nil {
			return 0, err
		}
		exit, again, err := c.run(r, signals)
		if !again {
			return exit, err
		}
		c.say("run %s did not come to its end; waiting for the next", r.run)
	}
}

// queue is how many signals may wait: far more than there are kinds.
const queue = 64

func (c Config) say(format string, args ...any) {
	fmt.Fprintf(c.Log, "cloister-shim: "+format+"\n", args...)
}

// run is one run of the runtime, of which the last end of the application counts.
// again says that it did not come to its end, and so none does.
func (c Config) run(r *attached, signals <-chan os.Signal) (exit int, again bool, err error) {
	defer r.close()
	r.watch(signals)
	for {
		select {
		case start := <-r.starts:
			if exit, err = c.start(r, start); err != nil {
				r.refuse(err)
				return 0, false, err
			}
			r.report(exit)
		case <-r.toApplication: // there is none to be told
		case <-r.done:
			return exit, false, nil
		case <-r.gone:
			if r.terminated.Load() {
				return 0, false, errTerminated
			}
			return 0, true, nil
		}
	}
}

var errTerminated = fault.Errorf(fault.Incomplete, "run it again", "a signal ended the container before the run was done")

// start starts the application once, and returns when no process of it is left.
func (c Config) start(r *attached, what sidecar.Message) (exit int, err error) {
	defer closeAll(what.Files)
	if err := r.standing(); err != nil {
		return 0, err
	}
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Env, cmd.Dir = slices.Concat(what.Start.Environment, c.Environment, r.told), c.WorkingDir
	supervise, err := c.network(cmd, what.Files)
	defer endAll()
	if err != nil {
		return 0, err
	}
	select {
	case <-r.goes:
	case <-r.gone:
		return 0, nil
	}
	c.say("run %s: the application starts", r.run)
	if exit, err = supervise(cmd, r.toApplication); err != nil {
		return 0, fault.Errorf(fault.Usage, "the command must name a program that the container's user can run", "starting %s: %w", c.Command[0], err)
	}
	c.say("run %s: the application ended with %d", r.run, exit)
	return exit, nil
}

// standing refuses another start where there is to be none.
func (r *attached) standing() error {
	if r.terminated.Load() {
		return errTerminated
	}
	select {
	case <-r.lost:
		return fault.Errorf(fault.Refused, "see the runtime's log", "a mount of run %s is not there any more", r.run)
	default:
		return nil
	}
}

// network gives the application its output, and the network that is measured: one of
// its own for three files, the pod's for two. What the runtime sends is what its
// specification, and so this container's command line, says.
func (c Config) network(cmd *exec.Cmd, files []*os.File) (func(*exec.Cmd, <-chan os.Signal) (int, error), error) {
	switch {
	case c.PodNetwork && len(files) == 2:
		cmd.Stdout, cmd.Stderr = files[0], files[1]
		return launch.Supervise, nil
	case !c.PodNetwork && len(files) == 3:
		alone, err := launch.StartAlone(files[2], files[0], files[1])
		if err != nil {
			return nil, err
		}
		return alone.Supervise, nil
	}
	return nil, fault.Errorf(fault.Refused, "give both containers the specification that was agreed",
		"the runtime starts the application with %d files, which is not what this container's measured command line has of a network", len(files))
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// endAll kills every process of the container but this one, which as the first
// the kernel spares, and returns when none is left. A process that is being made
// does not escape: fork fails where SIGKILL is pending.
func endAll() {
	_ = syscall.Kill(-1, syscall.SIGKILL) // ESRCH: there is none
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return // ECHILD
		}
	}
}
