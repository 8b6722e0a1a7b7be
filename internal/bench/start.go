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
		{"start to keys in hand, 2 volumes", "ms", room(func(s start) float64 { return s.keys.Seconds() * 1000 }), []reference{{bar: alone}}},
		{"requests to the cloud until then", "requests", room(func(s start) float64 { return s.requests }), []reference{{bar: within(5, "requests")}}},
		{"appends to the ledger until then", "appends", room(func(s start) float64 { return s.appends }), []reference{{bar: within(3, "appends")}}},
	}
}

// start is what one start cost.
type start struct {
	keys              time.Duration
	requests, appends float64
}

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
	if s.keys, s.appends, err = watchStart(cmd); err != nil {
		return s, err
	}
	// A line is written once its answer is on its way, so all are there now.
	after, err := os.ReadFile(r.Path("cloud", "requests.jsonl"))
	s.requests = awaited(after[len(before):])
	return s, err
}

// watchStart runs the runtime to its end and reads from its log when the keys
// were in hand: an access to data is recorded next.
func watchStart(cmd *exec.Cmd) (keys time.Duration, appends float64, err error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	var said bytes.Buffer
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := lines.Text()
		said.WriteString(line + "\n")
		switch {
		case keys > 0:
		case strings.Contains(line, " what=data "):
			keys = time.Since(began)
		case strings.Contains(line, `msg="the ledger accepted"`):
			appends++
		}
	}
	if err := cmd.Wait(); err != nil {
		return 0, 0, fmt.Errorf("cloisterd run: %w\n%s", err, said.String())
	}
	if keys == 0 {
		return 0, 0, errors.New("the runtime's log does not say when it had its keys:\n" + said.String())
	}
	return keys, appends, nil
}

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
