package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	logs "cloister/governance/remote"
)

// Appenders of a busy ledger, and how many statements each appends, one after the
// other.
const (
	busyAppenders = 256
	busyRecords   = 16
	idleRecords   = 100
)

// ledgerRows is a ledger of many entries: the binaries, over TLS on loopback, on a
// disk.
func ledgerRows() []row {
	ledger := func(what func(ctx context.Context, l *lab, s *servedLog) (float64, error)) side {
		return side{"cloister-ledger", func(ctx context.Context, l *lab) (float64, error) {
			s, err := l.ledger()
			if err != nil {
				return 0, err
			}
			return what(ctx, l, s)
		}}
	}
	return []row{
		{"appends to a long log, 256 at once", "/s", ledger(busyAppends), []reference{{bar: reach(1000, "/s")}}},
		{"append to a long log, idle, median", "ms", ledger(idleAppend), []reference{{bar: within(150, "ms")}}},
		{"audit verify of a run exported from a long log", "s", ledger(verifyRun), []reference{{bar: within(1, "s")}}},
		{"audit verify of a long log", "entries/s", ledger(verifyLog), []reference{{bar: reach(20_000, "entries/s")}}},
		{"start of the ledger of a long log, saved", "s", ledger(startAgain), []reference{{bar: within(2, "s")}}},
		{"first start of the ledger of a long log", "s", ledger(func(_ context.Context, _ *lab, s *servedLog) (float64, error) { return s.started.Seconds(), nil }), []reference{{bar: alone}}},
		{"memory of that ledger, at its peak", "MiB", ledger(peakOfLedger), []reference{{bar: within(256, "MiB")}}},
	}
}

// servedLog is a long log that is served.
type servedLog struct {
	*longLog
	server  *exec.Cmd
	address string // as --ledger takes it
	started time.Duration
}

func (l *lab) serveLog() (*servedLog, error) {
	log, err := l.makeLog()
	if err != nil {
		return nil, fmt.Errorf("making a log of %d entries: %w", l.entries, err)
	}
	return l.serve(log)
}

// serve starts a server of the log, beside any that is there.
func (l *lab) serve(log *longLog) (*servedLog, error) {
	s := &servedLog{longLog: log, server: exec.Command(filepath.Join(l.bin, "cloister-ledger"), "serve", "--listen", "127.0.0.1:0", "--rate", "1000000", "--anyone-reads", "--platform", "simulated:"+log.guest, log.dir)}
	errs, err := os.OpenFile(filepath.Join(filepath.Dir(log.dir), "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer errs.Close()
	s.server.Stderr = errs
	s.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := s.server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.server.Start(); err != nil {
		return nil, err
	}
	l.atEnd(func() error {
		s.server.Process.Signal(syscall.SIGTERM)
		return s.server.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the ledger is not ready: see %s: %w", errs.Name(), err)
	}
	s.started = time.Since(began)
	go io.Copy(io.Discard, out)
	s.address = strings.TrimSpace(strings.TrimPrefix(line, "ready ")) + ",ca=" + filepath.Join(log.dir, "tls.pem")
	return s, nil
}

// startAgain is with what the first server saved at its start.
func startAgain(_ context.Context, l *lab, s *servedLog) (float64, error) {
	again, err := l.serve(s.longLog)
	if err != nil {
		return 0, err
	}
	return again.started.Seconds(), nil
}

func (s *servedLog) client() (*logs.Log, error) { return logs.Open(s.address, nil) }

// appendRun appends statements of a new run one by one, and returns what each took
// until its receipt.
func (s *servedLog) appendRun(ctx context.Context, log *logs.Log, run [][]byte) (took []time.Duration, err error) {
	for _, entry := range run {
		began := time.Now()
		if _, err := log.Append(ctx, entry); err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func busyAppends(ctx context.Context, _ *lab, s *servedLog) (perSecond float64, err error) {
	log, err := s.client()
	if err != nil {
		return 0, err
	}
	entries, err := s.runs(busyAppenders*runRecords, s.attests)
	if err != nil {
		return 0, err
	}
	runs := slices.Collect(slices.Chunk(entries, runRecords))
	failed := make([]error, len(runs))
	seconds, _ := timed(func() error {
		var all sync.WaitGroup
		for i, run := range runs {
			all.Go(func() { _, failed[i] = s.appendRun(ctx, log, run[:busyRecords]) })
		}
		all.Wait()
		return nil
	})
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return float64(len(runs)*busyRecords) / seconds, nil
}

func idleAppend(ctx context.Context, _ *lab, s *servedLog) (ms float64, err error) {
	log, err := s.client()
	if err != nil {
		return 0, err
	}
	entries, err := s.runs(idleRecords, s.attests)
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	for run := range slices.Chunk(entries, runRecords) {
		t, err := s.appendRun(ctx, log, run)
		if err != nil {
			return 0, err
		}
		took = append(took, t...)
	}
	slices.Sort(took)
	return took[len(took)/2].Seconds() * 1000, nil
}

func verifyRun(ctx context.Context, l *lab, s *servedLog) (float64, error) {
	dir, err := l.newDir("export")
	if err != nil {
		return 0, err
	}
	exported := filepath.Join(dir, "run.json")
	if err := command(ctx, nil, "", l.program(), "audit", "export", "--ledger", s.dir, "--ledger-key", s.key, "--run", s.last, "--out", exported); err != nil {
		return 0, err
	}
	return timed(func() error { return l.audit(ctx, s, "--export", exported) })
}

func verifyLog(ctx context.Context, l *lab, s *servedLog) (float64, error) {
	seconds, err := timed(func() error { return l.audit(ctx, s, "--ledger", s.dir) })
	return float64(s.entries) / seconds, err
}

// audit is a first one: no head is remembered.
func (l *lab) audit(ctx context.Context, s *servedLog, more ...string) error {
	heads, err := l.newDir("heads")
	if err != nil {
		return err
	}
	args := append([]string{"audit", "verify", "--ledger-key", s.key, "--heads", heads}, more...)
	return command(ctx, nil, "", l.program(), args...)
}

// peakOfLedger is after the rows before it that were chosen.
func peakOfLedger(_ context.Context, _ *lab, s *servedLog) (float64, error) {
	peak, err := memory(s.server.Process.Pid, "VmHWM")
	return peak / (1 << 20), err
}
