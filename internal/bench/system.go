package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// system is a file system to measure. mount shows it with nothing cached.
type system struct {
	name  string
	mount func(ctx context.Context, l *lab) (*mounted, error)
}

// mounted is a system while a work is done on it.
type mounted struct {
	root string
	// pid is the process that serves it; 0 where there is none to look at.
	pid int
	// settle waits until all that was closed is in the store, and fails where it
	// is not; nil where finish does that.
	settle func() error
	// finish takes the mount away once all that was written is in the store.
	// A work may call it to have that timed.
	finish func() error
}

// work is something an application does to a tree. It times itself, and
// returns a figure in the row's unit.
type work func(ctx context.Context, l *lab, m *mounted) (float64, error)

// on measures a work on a system.
func on(s system, w work) side {
	return side{s.name, func(ctx context.Context, l *lab) (figure float64, err error) {
		m, err := s.mount(ctx, l)
		if err != nil {
			return 0, fmt.Errorf("mounting: %w", err)
		}
		m.finish = sync.OnceValue(m.finish)
		defer func() { err = errors.Join(err, m.finish()) }()
		return w(ctx, l, m)
	}}
}

// folder shows a folder as it is.
func folder(name string, dir func(l *lab) (string, error)) system {
	return system{name, func(_ context.Context, l *lab) (*mounted, error) {
		root, err := dir(l)
		return &mounted{root: root, finish: func() error { return nil }}, err
	}}
}

// daemon starts a program that mounts at dir, in the foreground.
func daemon(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// mountTime is what a peer may take until it has mounted.
const mountTime = 30 * time.Second

// mountPeer starts a peer that does not say when it has mounted, and waits
// until it has: dir is on another device than its parent then.
func mountPeer(ctx context.Context, dir string, env []string, name string, args ...string) (*mounted, error) {
	var said bytes.Buffer // to be read once it has ended
	cmd := daemon(ctx, env, name, args...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; `make bench` installs it", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	if err := awaitMount(ctx, dir, ended); err != nil {
		cmd.Process.Kill()
		<-ended
		return nil, fmt.Errorf("%s: %w\n%s", name, err, &said)
	}
	return &mounted{root: dir, pid: cmd.Process.Pid, finish: func() error {
		// Both peers unmount when they are interrupted, and exit with an error.
		cmd.Process.Signal(os.Interrupt)
		<-ended
		if err := os.Remove(dir); err == nil {
			return nil
		}
		// One that was busy, or that we had stopped, leaves its mount behind.
		return command(context.WithoutCancel(ctx), nil, "", "fusermount3", "-u", "-z", dir)
	}}, nil
}

func awaitMount(ctx context.Context, dir string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, mountTime)
	defer cancel()
	for !isMount(dir) {
		select {
		case <-time.After(time.Millisecond):
		case <-ended:
			return errors.New("it ended without mounting")
		case <-ctx.Done():
			return fmt.Errorf("it did not mount: %w", ctx.Err())
		}
	}
	return nil
}

func isMount(dir string) bool {
	var own, parent syscall.Stat_t
	return syscall.Stat(dir, &own) == nil && syscall.Stat(filepath.Dir(dir), &parent) == nil && own.Dev != parent.Dev
}

// memory reads a field of /proc/PID/status, such as VmRSS, in bytes.
func memory(pid int, field string) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, field+": %f kB", &kib); err == nil {
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}
