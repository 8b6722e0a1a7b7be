package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"cloister/internal/fault"
)

// Alone is the init of an application that has a network namespace of its own and
// shares everything else with the process that started it, which has no privilege:
// a container's first, in a container beside the runtime's. The runtime has the
// other end of its sockets, and with it the network as in a container of its own:
// NewNetwork. What the namespace takes is a user namespace around it, with the one
// user that there is.
type Alone struct {
	cmd         *exec.Cmd
	description *os.File
}

// aloneName is the argument by which main knows that it is to be such an init.
const aloneName = "cloister-network-init"

// The application's output, among what such an init is started with.
const (
	aloneStdoutFD = filesFD
	aloneStderrFD = filesFD + 1
)

// NewNetwork returns the network of an application that another process starts
// alone, and the end of its sockets which that one needs. Nothing that is asked of
// it is answered before it has it.
func NewNetwork() (n *Network, sockets *os.File, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	return &Network{init: ours}, theirs, nil
}

// Serve has an application's network served that another process starts.
func (a Application) Serve(n *Network) error {
	if a.Network == nil {
		return nil
	}
	return a.Network(n)
}

// Close ends what came of the network, and closes its listeners.
func (n *Network) Close() { n.end() }

// StartAlone makes the namespace, with an init in it that makes sockets for who has
// the other end; an error is of kind Refused where it may not be made. Supervise
// must follow, or the end of all processes.
func StartAlone(sockets, stdout, stderr *os.File) (*Alone, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir, cmd.Stderr = []string{aloneName}, []string{}, "/", os.Stderr
	// In the order of descriptionFD, socketsFD, aloneStdoutFD, aloneStderrFD.
	cmd.ExtraFiles = []*os.File{r, sockets, stdout, stderr}
	// The first capability is for mapUser.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Setsid: true, AmbientCaps: []uintptr{capSysAdmin, capSetPCap, capNetAdmin}}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fault.Errorf(fault.Refused, "let the container's user make user namespaces, in the kernel's settings and its seccomp profile; or have the parties agree on network.egress unguarded",
			"the application cannot be given a network of its own: %w", err)
	}
	return &Alone{cmd: cmd, description: w}, nil
}

// Supervise has the init start a command, and is Supervise beyond that.
func (a *Alone) Supervise(cmd *exec.Cmd, signals <-chan os.Signal) (exit int, err error) {
	description, err := json.Marshal(description{Command: cmd.Args, Env: cmd.Env, WorkingDir: cmd.Dir, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	if err == nil {
		_, err = a.description.Write(description)
	}
	if err = errors.Join(err, a.description.Close()); err != nil {
		return exitNotStarted, fmt.Errorf("describing the application to its init: %w", err)
	}
	if exit = reap(a.cmd.Process.Pid, signals); exit == exitNotStarted {
		return exit, errors.New("see the line above")
	}
	return exit, nil
}

// initAlone is main's in such an init.
func initAlone() {
	exit, err := runAlone()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cloister-shim: starting the application: %v\n", err)
	}
	os.Exit(exit)
}

func runAlone() (exit int, err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	if _, err := serveSockets(); err != nil {
		return exitNotStarted, err
	}
	d, err := readDescription()
	if err != nil {
		return exitNotStarted, err
	}
	if err := mapUser(d.UID, d.GID); err != nil {
		return exitNotStarted, err
	}
	// The application is the same user, and what this process may, it may not.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return exitNotStarted, fmt.Errorf("keeping the init from being read: %w", err)
	}
	cmd := exec.Command(d.Command[0], d.Command[1:]...)
	cmd.Env, cmd.Dir = d.Env, d.WorkingDir
	cmd.Stdout, cmd.Stderr = os.NewFile(aloneStdoutFD, "stdout"), os.NewFile(aloneStderrFD, "stderr")
	return supervise(cmd, signals, func() error { return errors.Join(dropCapabilities(), giveUp()) })
}
