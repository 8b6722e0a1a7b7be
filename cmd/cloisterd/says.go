package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"cloister/governance/statement"
)

// says is the way of what the application says on its standard output and error:
// to this runtime's log, where all parties consent to logging, and otherwise to
// nowhere. It is a pipe of the runtime's, so that the application has no file of
// the host's open, and the way ends when consent does.
type says struct {
	log     *slog.Logger
	allowed atomic.Bool
}

// maxLine bounds what is logged as one line, in bytes.
const maxLine = 4 << 10

// pipes are what the application writes to; wait closes them and returns when all
// that was written is read.
func (s *says) pipes() (stdout, stderr *os.File, wait func(), err error) {
	outR, stdout, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	errR, stderr, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, outR.Close(), stdout.Close())
	}
	var all sync.WaitGroup
	all.Go(func() { s.pass("stdout", outR) })
	all.Go(func() { s.pass("stderr", errR) })
	return stdout, stderr, func() {
		stdout.Close()
		stderr.Close()
		all.Wait()
	}, nil
}

// pass reads to the end, whether or not what is read goes anywhere.
func (s *says) pass(stream string, r *os.File) {
	defer r.Close()
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 && s.allowed.Load() {
			s.log.Info("the application says", "stream", stream, "text", string(line))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if !errors.Is(err, io.EOF) {
				s.log.Warn("what the application says is not heard any more", "error", err)
			}
			return
		}
	}
}

// allows asks whether all parties consent to a scope beside the execution. No
// answer is no.
func (r *room) allows(ctx context.Context, scope, what string) bool {
	err := r.record.CheckConsent(ctx, scope, what)
	if err != nil {
		r.log.Info("not allowed", "scope", scope, "because", err)
	}
	return err == nil
}

// askLogging asks at the start, and again as long as it was allowed.
func (r *room) askLogging(ctx context.Context) {
	r.says.allowed.Store(r.allows(ctx, statement.ScopeLogging, "passing on what "+r.spec.Application.Name+" says"))
}
