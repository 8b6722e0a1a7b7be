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
	"time"

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

// printed is what the application prints in one of its starts.
type printed struct {
	stdout, stderr *os.File    // its ends
	heard          [2]*os.File // the runtime's
	all            sync.WaitGroup
}

// pipes are what the application writes to.
func (s *says) pipes() (p *printed, err error) {
	p = &printed{}
	if p.heard[0], p.stdout, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.heard[1], p.stderr, err = os.Pipe(); err != nil {
		return nil, errors.Join(err, p.heard[0].Close(), p.stdout.Close())
	}
	p.all.Go(func() { s.pass("stdout", p.heard[0]) })
	p.all.Go(func() { s.pass("stderr", p.heard[1]) })
	return p, nil
}

// wait closes the application's ends and returns when all that was written is read.
func (p *printed) wait() {
	p.stdout.Close()
	p.stderr.Close()
	p.all.Wait()
}

// cut ends the hearing of what is written from now on: whoever is left in another
// container may hold an end for ever.
func (p *printed) cut() {
	for _, f := range p.heard {
		_ = f.SetReadDeadline(time.Unix(1, 0)) // a pipe has deadlines
	}
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
