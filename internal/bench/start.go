package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"cloister/internal/cleanroom"
)

// startRows is the runtime's start, from its process on until the keys of both
// volumes of a clean room are in hand, against `cloister local` and a ledger on
// files. Three requests are for the first volume, and two for each further one.
func startRows() []row {
	room := func(what func(start) float64) side {
		return side{"cloisterd run", func(ctx context.Context, l *lab) (float64, error) {
			s, err := l.startRoom(ctx)
			return what(s), err
		}}
	}
	return []row{
		{"start until an application that ends at once has ended", "ms", room(func(s start) float64 { return s.until("application ended").Seconds() * 1000 }), []reference{{bar: within(2000, "ms")}}},
		{"start to keys in hand, 2 volumes", "ms", room(func(s start) float64 { return s.keys.Seconds() * 1000 }), []reference{{bar: alone}}},
		{"requests to the cloud until then", "requests", room(func(s start) float64 { return s.requests }), []reference{{bar: within(5, "requests")}}},
		{"appends to the ledger until then", "appends", room(func(s start) float64 { return s.appends }), []reference{{bar: within(3, "appends")}}},
	}
}

// start is what one start cost.
type start struct {
	keys              time.Duration
	steps             []reached
	requests, appends float64
}

// reached is a line of the runtime's log, and when it came.
type reached struct {
	step string
	at   time.Duration // since the runtime was started
}

// until returns when a step was reached, and prints all of them, step by step. The
// application's first instruction is before "application ended", of one that does
// nothing.
func (s start) until(step string) (at time.Duration) {
	var before time.Duration
	for _, r := range s.steps {
		fmt.Fprintf(os.Stderr, "%8.1f ms  %+7.1f  %s\n", ms(r.at), ms(r.at-before), r.step)
		before = r.at
		if r.step == step {
			at = r.at
		}
	}
	return at
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// makeRoom is a clean room whose application does nothing.
func (l *lab) makeRoom() (*cleanroom.Room, error) {
	r, err := cleanroom.New(context.Background(), l.bin, os.Getuid())
	if err != nil {
		return nil, err
	}
	l.atEnd(func() error { return r.Close(false) })
	data, err := l.newDir("data")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(data+"/file", []byte("x"), 0o644); err != nil {
		return nil, err
	}
	for _, phase := range []func() error{
		r.StartCloud, func() error { return r.Prepare(data) }, func() error { return r.Specify("exit 0") },
		r.PreProvision, r.Agree, r.Provision, func() error { return r.Guest("guest", r.Policy()) },
	} {
		if err := phase(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (l *lab) startRoom(ctx context.Context) (s start, err error) {
	r, err := l.room()
	if err != nil {
		return s, err
	}
	before, err := os.ReadFile(r.Path("cloud", "requests.jsonl"))
	if err != nil {
		return s, err
	}
	cmd, err := r.Runtime("guest")
	if err != nil {
		return s, err
	}
	if s, err = watchStart(cmd); err != nil {
		return s, err
	}
	// A line is written once its answer is on its way, so all are there now.
	after, err := os.ReadFile(r.Path("cloud", "requests.jsonl"))
	s.requests = awaited(after[len(before):])
	return s, err
}

// watchStart runs the runtime to its end and reads from its log when the keys
// were in hand: an access to data is recorded next.
func watchStart(cmd *exec.Cmd) (s start, err error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	var said bytes.Buffer
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := lines.Text()
		said.WriteString(line + "\n")
		if m := message.FindStringSubmatch(line); m != nil {
			s.steps = append(s.steps, reached{strings.Trim(m[1]+m[2], `"`), time.Since(began)})
		}
		switch {
		case s.keys > 0:
		case strings.Contains(line, " what=data "):
			s.keys = time.Since(began)
		case strings.Contains(line, `msg="the ledger accepted"`):
			s.appends++
		}
	}
	if err := cmd.Wait(); err != nil {
		return s, fmt.Errorf("cloisterd run: %w\n%s", err, said.String())
	}
	if s.keys == 0 {
		return s, errors.New("the runtime's log does not say when it had its keys:\n" + said.String())
	}
	return s, nil
}

// message finds what a line of the runtime's log says, and of an audit what of.
var message = regexp.MustCompile(` msg=("[^"]*"|\S+)(?:.*( what=\S+))?`)

// awaited counts the requests whose answers the keys wait for: see package
// cloister/enclave for what goes on beside them.
func awaited(log []byte) (n float64) {
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"service":"vault"`) || strings.Contains(line, `"service":"hsm"`) || strings.Contains(line, `/attest/SevSnpVm"`) {
			n++
		}
	}
	return n
}
