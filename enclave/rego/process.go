package rego

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cloister/enclave/launch"
	"cloister/internal/fault"

	"golang.org/x/sys/unix"
)

// process is a running evaluator.
type process struct {
	lanes chan *lane // those on which nothing is asked
	all   []*lane
	kill  context.CancelFunc
	ended chan struct{} // closed when no process is left, then err is there
	err   error
}

// lane is a connection on which one question at a time is asked.
type lane struct {
	net.Conn
	r *bufio.Reader
}

// memoryMiB bounds what the process uses, where control groups can; the process
// bounds itself too.
const memoryMiB = 512

func startProcess(ctx context.Context, c Config) (*process, error) {
	ctx, kill := context.WithCancel(ctx)
	p := &process{lanes: make(chan *lane, Lanes), kill: kill, ended: make(chan struct{})}
	files, err := p.connect()
	defer closeAll(files)
	if err != nil {
		p.close()
		return nil, err
	}
	app := launch.Application{Command: []string{c.Program, strconv.Itoa(Lanes)}, UID: c.UID, GID: c.GID, Files: files,
		Limits: launch.Limits{MemoryMiB: memoryMiB}, Mounts: shown(c.Program)}
	started := make(chan struct{})
	app.Network = func(*launch.Network) error { close(started); return nil } // the files have been handed on
	go func() {
		defer close(p.ended)
		defer p.close()
		exit, err := launch.Run(ctx, app)
		if err == nil {
			err = fmt.Errorf("exit code %d", exit)
		}
		p.err = fault.Errorf(fault.Unavailable, "", "the policies' process ended: %w", err)
	}()
	select {
	case <-started:
		return p, nil
	case <-p.ended:
		return nil, p.err
	}
}

// shown shows the program where it is not on the root's own file system, which
// is shown anyway.
func shown(program string) []launch.Mount {
	if dir := filepath.Dir(program); dir != "/" {
		return []launch.Mount{{Path: dir}}
	}
	return nil
}

// connect makes the lanes, and returns the process's ends.
func (p *process) connect() (files []*os.File, err error) {
	for range Lanes {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return files, fmt.Errorf("making a lane: %w", err)
		}
		files = append(files, os.NewFile(uintptr(fds[1]), "lane"))
		ours := os.NewFile(uintptr(fds[0]), "lane")
		c, err := net.FileConn(ours)
		ours.Close()
		if err != nil {
			return files, fmt.Errorf("making a lane: %w", err)
		}
		l := &lane{c, bufio.NewReader(c)}
		p.all = append(p.all, l)
		p.lanes <- l
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (p *process) close() {
	p.kill()
	for _, l := range p.all {
		l.Close()
	}
}

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// ask asks one question. Once it is on its way the answer is waited for, whoever
// still wants it: the lane would be out of step. A process that does not answer
// is killed.
func (p *process) ask(ctx context.Context, q Question, patience time.Duration) (Answer, error) {
	var l *lane
	select {
	case l = <-p.lanes:
	case <-ctx.Done():
		return Answer{}, context.Cause(ctx)
	case <-p.ended:
		return Answer{}, p.err
	}
	a, err := l.exchange(q, patience)
	if err != nil {
		p.kill()
		<-p.ended
		return Answer{}, fmt.Errorf("%w, after: %w", p.err, err)
	}
	p.lanes <- l
	return a, nil
}

func (l *lane) exchange(q Question, patience time.Duration) (Answer, error) {
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return Answer{}, err
	}
	if _, err := q.WriteTo(l); err != nil {
		return Answer{}, err
	}
	return readAnswer(l.r)
}
