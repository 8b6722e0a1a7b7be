package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"cloister/internal/cleanroom"
)

// stage is where the demo plays: a clean room, and what one phase leaves for the
// next.
type stage struct {
	*cleanroom.Room
	ctx   context.Context
	start time.Time

	source string // the folder that is sealed
	output string // reference of the output volume

	bytesIn, bytesOut, peakMemory int64
}

func newStage(ctx context.Context, bin string) (*stage, error) {
	room, err := cleanroom.New(ctx, bin, os.Getuid())
	if err != nil {
		return nil, err
	}
	d := &stage{Room: room, ctx: ctx, start: time.Now()}
	d.Ran = func(cmd *exec.Cmd, took time.Duration) {
		fmt.Printf("%8.0f ms  %s\n", float64(took.Microseconds())/1000, d.Shown(cmd.Args))
	}
	return d, nil
}

// clean ends what is left running and removes the folder.
func (d *stage) clean(keep bool) error {
	if keep {
		fmt.Println("kept:", d.Dir)
	}
	return d.Close(keep)
}

func (d *stage) say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// runtime launches a guest under a container policy and runs the runtime in it.
func (d *stage) runtime(guest, policy string) (string, error) {
	if err := d.Guest(guest, policy); err != nil {
		return "", err
	}
	cmd, err := d.Runtime(guest)
	if err != nil {
		return "", err
	}
	start := time.Now()
	out, log, err := d.follow(cmd)
	d.Ran(cmd, time.Since(start))
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
		fmt.Printf("   %6.0f ms  %s\n", float64(time.Since(start).Microseconds())/1000, strings.ReplaceAll(message, d.Dir+"/", ""))
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
