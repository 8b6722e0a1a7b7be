package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"cloister/internal/localcloud/arm"
)

const (
	logFile = "log"
	// grace is how long a runtime has to end after SIGTERM: more than the ten
	// seconds that it gives its application, and what it then has to seal.
	grace = 30 * time.Second
	// firstPause and longestPause are between a container's end and its next start,
	// doubled each time: Kubernetes' own.
	firstPause, longestPause = 10 * time.Second, 5 * time.Minute
)

// run is a group that was started.
type run struct {
	arm.Group
	dir     string
	pause   time.Duration // the first, before it is started again
	stop    chan struct{} // closed to end it
	ended   chan struct{} // closed when it is
	started chan error    // of the first start

	mu    sync.Mutex // guards state
	state arm.Run
}

func newRun(g arm.Group, dir string) *run {
	return &run{Group: g, dir: dir, pause: firstPause, stop: make(chan struct{}), ended: make(chan struct{}), started: make(chan error, 1)}
}

func (r *run) start(program string, variables []string) error {
	go r.supervise(program, variables)
	return <-r.started
}

// end has it end, and waits for that. It is called once.
func (r *run) end() {
	close(r.stop)
	<-r.ended
}

func (r *run) look() arm.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *run) change(change func(*arm.Run)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
}

// supervise starts the runtime, and again where the group's restart policy says so.
// It keeps its thread, for with that the children of a parent that was killed end.
func (r *run) supervise(program string, variables []string) {
	defer close(r.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for pause := r.pause; ; pause = min(2*pause, longestPause) {
		exit, err := r.once(program, variables)
		if err != nil {
			exit = 126 // as of a shell that cannot start a program
		}
		r.change(func(s *arm.Run) { s.Running, s.Ended, s.Exit = false, time.Now().UTC(), exit })
		if r.Restart != "Always" && (r.Restart != "OnFailure" || exit == 0) {
			return
		}
		select {
		case <-r.stop:
			return
		case <-time.After(pause):
			r.change(func(s *arm.Run) { s.Restarts++ })
		}
	}
}

// once runs the runtime to its end.
func (r *run) once(program string, variables []string) (exit int, err error) {
	log, err := os.OpenFile(filepath.Join(r.dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.tell(err)
		return 0, err
	}
	defer log.Close()
	cmd := r.command(program, variables)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		r.tell(err)
		return 0, err
	}
	r.change(func(s *arm.Run) { s.Running, s.Began = true, time.Now().UTC() })
	r.tell(nil)
	over := make(chan struct{})
	go r.endOnStop(cmd.Process, over)
	exit = await(cmd)
	close(over)
	return exit, nil
}

// tell says to start how the first start went.
func (r *run) tell(err error) {
	select {
	case r.started <- err:
	default: // it was told
	}
}

// command is the group's own command line, then what the platform says to a
// runtime that it plays the processor for. The program's name there is its place
// here.
func (r *run) command(program string, variables []string) *exec.Cmd {
	args := append(append([]string{}, r.Command[1:]...), "--platform", "simulated:"+r.dir, "--allow-swap", "--status", r.status())
	cmd := exec.Command(program, args...)
	cmd.Args[0], cmd.Dir = r.Command[0], r.dir
	cmd.Env = append(append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + r.Name, "TERM=xterm"}, variables...), r.Variables...)
	cmd.SysProcAttr = attributes()
	return cmd
}

// status is where `cloisterd status --status` asks: containers have a /dev of their
// own, groups here share the machine's.
func (r *run) status() string { return "/dev/shm/cloisterd-" + filepath.Base(r.dir) + ".sock" }

// endOnStop signals the runtime when it is to end, and again where it does not.
func (r *run) endOnStop(p *os.Process, over <-chan struct{}) {
	select {
	case <-over:
		return
	case <-r.stop:
	}
	terminate(p)
	select {
	case <-over:
	case <-time.After(grace):
		kill(p.Pid)
	}
}
