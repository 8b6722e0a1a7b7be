package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitNotStarted is the init's exit code when there was no application to
// wait for. An application that exits with it too is told apart by nobody; it
// is in the range that shells leave alone.
const exitNotStarted = 251

// What the init is started with beside the application's output; the first two
// are not for the application.
const (
	descriptionFD = 3
	socketsFD     = 4
	filesFD       = 5 // the first that the application is to have
)

// description is what the init is told.
type description struct {
	Command    []string          `json:"command"`
	Env        []string          `json:"env"`
	WorkingDir string            `json:"workingDir"`
	UID        uint32            `json:"uid"`
	GID        uint32            `json:"gid"`
	SetUser    bool              `json:"setUser"` // false: the user is the runtime's own, in a user namespace
	Mounts     []Mount           `json:"mounts"`
	Limits     Limits            `json:"limits"`
	Files      int               `json:"files"` // how many
	Texts      map[string][]byte `json:"texts"`
	Exchange   *Exchange         `json:"exchange,omitempty"`
}

func (a Application) describe() description {
	d := description{Command: a.Command, Env: []string{}, WorkingDir: a.WorkingDir, UID: a.UID, GID: a.GID, SetUser: true,
		Mounts: a.Mounts, Limits: a.Limits, Files: len(a.Files), Texts: a.Texts, Exchange: a.Exchange}
	if uid := os.Getuid(); uid != 0 {
		d.UID, d.GID, d.SetUser = uint32(uid), uint32(os.Getgid()), false
	}
	for name, value := range a.Environment {
		d.Env = append(d.Env, name+"="+value)
	}
	if d.WorkingDir == "" && d.Exchange != nil {
		d.WorkingDir = ExchangeDir
	}
	if d.WorkingDir == "" {
		d.WorkingDir = "/"
	}
	return d
}

// Init must be the first thing that main calls. In the process that Run, or
// StartAlone, started it is the namespaces' init and does not return, but ends the
// process; anywhere else it returns at once.
func Init() {
	if len(os.Args) == 1 && os.Args[0] == aloneName {
		initAlone()
	}
	if len(os.Args) != 1 || os.Args[0] != initName || os.Getpid() != 1 {
		return
	}
	exit, err := runInit()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cloisterd: starting the application: %v\n", err)
	}
	os.Exit(exit)
}

// passedOn are the signals of an init that its application gets, and the one by
// which it hears of children's ends.
var passedOn = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCHLD}

func runInit() (exit int, err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)

	runtime, err := serveSockets()
	if err != nil {
		return exitNotStarted, err
	}
	d, err := readDescription()
	if err != nil {
		return exitNotStarted, err
	}
	if !d.SetUser {
		if err := mapUser(d.UID, d.GID); err != nil {
			return exitNotStarted, err
		}
	}
	if err := errors.Join(d.confine(), d.Exchange.give(runtime)); err != nil {
		return exitNotStarted, err
	}
	cmd := exec.Command(d.Command[0], d.Command[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = d.Env, d.WorkingDir, os.Stdout, os.Stderr
	for i := range d.Files {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(filesFD+i), "file"))
	}
	if d.SetUser {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: d.UID, Gid: d.GID}}
	}
	return supervise(cmd, signals, func() error { return errors.Join(d.giveUp(), giveUp()) })
}

// confine takes from this process, as the namespaces' first, what it and the
// application are to do without.
func (d description) confine() error {
	if err := bound(); err != nil {
		return err
	}
	if err := enterView(d); err != nil {
		return err
	}
	// Without a user of its own the application could read the init, and write to it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping the init from being read: %w", err)
	}
	return nil
}

// giveUp is of what the application does without the part that takes privileges,
// or its description, to give up.
func (d description) giveUp() error {
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := noNewPrivileges(); err != nil { // Landlock's condition
		return err
	}
	return landlock(d.writable())
}

// writable are the directories in which the application may change things.
func (d description) writable() []string {
	dirs := []string{"/tmp", "/var/tmp", "/dev/shm"}
	if d.Exchange != nil {
		dirs = append(dirs, ExchangeDir)
	}
	for _, m := range d.Mounts {
		if m.Writable {
			dirs = append(dirs, m.Path)
		}
	}
	return dirs
}

// Supervise starts a command in a session of its own, without a way to more
// privileges and without the system calls that no application needs, and returns its exit code, or 128 and the signal's number, once it
// has ended. Until then it passes on what comes on signals, which must be
// notified of SIGCHLD, and reaps what the command orphans. Its caller is a PID
// namespace's first process; where the command cannot be started the exit code
// is 251.
func Supervise(cmd *exec.Cmd, signals <-chan os.Signal) (exit int, err error) {
	return supervise(cmd, signals, giveUp)
}

func supervise(cmd *exec.Cmd, signals <-chan os.Signal, giveUp func() error) (exit int, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	started := make(chan error)
	go func() {
		// The thread that gives up must be the one that forks. It is never unlocked,
		// and ends here: another run's would else give up what is gone.
		runtime.LockOSThread()
		err := giveUp()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return exitNotStarted, err
	}
	return reap(cmd.Process.Pid, signals), nil
}

func readDescription() (d description, err error) {
	pipe := os.NewFile(descriptionFD, "description")
	defer pipe.Close()
	raw, err := io.ReadAll(pipe)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err == nil && len(d.Command) == 0 {
		err = errors.New("the runtime ended before it described the application")
	}
	return d, err
}

// mapUser gives the user namespace its one user. The runtime cannot do that for
// it: as nobody may read the runtime's memory, what it forks shows its
// /proc/PID/uid_map to root only, until it has become another program.
func mapUser(uid, gid uint32) error {
	for _, f := range []struct{ name, text string }{
		{"setgroups", "deny"}, // without it the kernel lets nobody but root write gid_map
		{"gid_map", fmt.Sprintf("%d %d 1", gid, gid)},
		{"uid_map", fmt.Sprintf("%d %d 1", uid, uid)},
	} {
		if err := os.WriteFile("/proc/self/"+f.name, []byte(f.text), 0); err != nil {
			return fmt.Errorf("mapping the user: %w", err)
		}
	}
	return nil
}

// reap waits for every process of the namespace, passes signals on to the
// application, and returns the application's exit code once it has ended.
func reap(application int, signals <-chan os.Signal) int {
	for s := range signals {
		if s != syscall.SIGCHLD {
			// To its group: a shell does not pass a signal on to what it runs.
			syscall.Kill(-application, s.(syscall.Signal))
			continue
		}
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
			if pid != application {
				continue
			}
			if status.Signaled() {
				return signalled + int(status.Signal())
			}
			return status.ExitStatus()
		}
	}
	return exitNotStarted
}

// startPinned starts cmd from a thread that lives as long as the process: a
// death signal is sent when the thread that forked ends, not the process.
func startPinned(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		// Never unlocked, never returns: the thread stays.
		select {}
	}()
	return <-started
}
