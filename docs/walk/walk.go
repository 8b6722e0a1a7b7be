// Package walk carries out the guide's steps, as its readers do: in the parties'
// homes, with bash, the binaries on the PATH.
//
// Life of a walk: the caller has `cloister quickstart` make the folder; Walk runs
// each block of the guide and holds what it prints against the page; Close ends
// what blocks started and left, which they name in files NAME.pid of their homes.
package walk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloister/docs"

	"golang.org/x/sys/unix"
)

// Walk runs the blocks among the steps in dir, which quickstart made, with the
// programs in bin. Each block that has ended is told to ran, with what it printed.
func Walk(ctx context.Context, bin, dir string, steps []docs.Step, ran func(s docs.Step, out string, took time.Duration)) error {
	for _, s := range steps {
		if s.Party == "" {
			continue
		}
		start := time.Now()
		out, err := run(ctx, bin, filepath.Join(dir, s.Party), s.Text)
		ran(s, out, time.Since(start))
		if err != nil {
			return fmt.Errorf("%s, %s: %w\n%s\n%s", s.Section, s.Party, err, s.Text, out)
		}
		if !s.Printed(out) {
			return fmt.Errorf("%s, %s:\n%s\nprinted\n%s\nand the page says\n%s", s.Section, s.Party, s.Text, out, s.Output)
		}
	}
	return nil
}

// run returns both outputs. They go through a file: what a block leaves running
// holds a pipe open.
func run(ctx context.Context, bin, home, text string) (string, error) {
	out, err := os.CreateTemp("", "cloister-guide-")
	if err != nil {
		return "", err
	}
	defer out.Close()
	if err := os.Remove(out.Name()); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "bash", "-e", "-u", "-o", "pipefail", "-c", text)
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, out, out
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+filepath.Join(home, "config"))
	failed := cmd.Run()
	said, err := readFrom(out)
	return said, errors.Join(failed, err)
}

func readFrom(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	return string(b), err
}

// Close ends what blocks left running in dir, and returns when it has ended.
func Close(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.pid"))
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		errs = append(errs, end(pid, filepath.Dir(f)))
	}
	return errors.Join(errs...)
}

// end ends a process that works in a home. A number that has become another
// process's is let be.
func end(pid int, home string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || at != home {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return err
	}
	for {
		// A pidfd is readable when the process has ended.
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
