package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"cloister/enclave/proxy"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// job is the run as its callers have it: DoWork() of the user flow. A party of the
// contract, by its signature, starts an application that waits for it, asks how far
// it is, and ends it; at the endpoints, in a path that is the runtime's
// (proxy.RuntimePath). What the application answers goes through the endpoints,
// what it writes to the sinks, and both end in the record.
type job struct {
	called chan struct{} // closed when the job is to start

	mu     sync.Mutex // guards what follows
	state  string
	cancel context.CancelCauseFunc
}

// A job's states, in their order.
const (
	jobWaiting = "waiting" // for a call
	jobStarted = "started" // from the question for consent to the application's start
	jobRunning = "running"
	jobEnding  = "ending"
)

func newJob() *job { return &job{called: make(chan struct{}), state: jobWaiting} }

// awaitCall waits for a call where the specification says so. What is cancelled
// before has not begun. cancel ends the run.
func (r *room) awaitCall(ctx context.Context, cancel context.CancelCauseFunc) error {
	r.job.mu.Lock()
	r.job.cancel = cancel
	r.job.mu.Unlock()
	if r.spec.Application.Start != spec.StartManual {
		r.job.start()
	} else {
		r.log.Info("the run waits for a call", "run", r.record.ID())
	}
	select {
	case <-r.job.called:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start reports whether the job was waiting.
func (j *job) start() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state != jobWaiting {
		return false
	}
	j.state = jobStarted
	close(j.called)
	return true
}

func (j *job) running() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state == jobStarted {
		j.state = jobRunning
	}
}

func (j *job) end(why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state = jobEnding
	if j.cancel != nil {
		j.cancel(why)
	}
}

func (j *job) now() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

// callScheme is the Authorization of a call, of statement.SignCall.
const callScheme = "Cloister-Party "

// do does what a party of the contract asks of the run: POST starts it, GET tells,
// DELETE ends it. It reads no body.
func (r *room) do(w http.ResponseWriter, req *http.Request, c call) {
	status := http.StatusOK
	switch req.Method {
	case http.MethodPost:
		if !r.mayStart(w, c) {
			return
		}
		if status = http.StatusAccepted; !r.job.start() {
			status = http.StatusConflict
		}
	case http.MethodDelete:
		status = http.StatusAccepted
		// Once the caller has its answer: the endpoints close then.
		defer r.job.end(fault.Errorf(fault.Incomplete, "", "party %s cancelled the run", c.party))
		defer http.NewResponseController(w).Flush()
	}
	if status == http.StatusAccepted {
		r.log.Info("the job is called", "method", req.Method, "party", c.party)
	}
	reply(w, status, r.saidOfRun())
}

// caller is the party of the contract that signed a call.
func (r *room) caller(req *http.Request) (c call, err error) {
	signed, ok := strings.CutPrefix(req.Header.Get("Authorization"), callScheme)
	if !ok {
		return c, fault.Errorf(fault.Denied, "", "a party of the contract must sign the call")
	}
	target := strings.TrimPrefix(req.URL.EscapedPath(), proxy.RuntimePath)
	key, body, err := statement.VerifyCall(signed, statement.Call{Method: req.Method, Target: target, Run: r.record.ID()}, time.Now())
	if err != nil {
		return c, err
	}
	r.follow(req.Context())
	name, ok := r.record.Party(key)
	if !ok {
		return c, fault.Errorf(fault.Denied, "", "the call is signed by nobody who is a party of the contract")
	}
	return call{name, body}, nil
}

const (
	// followInterval is how old what a run knows of parties' keys may be when one of
	// them calls: strangers' calls do not have it ask the ledger more often.
	followInterval = 10 * time.Second
	// followTime is how long a call waits for the ledger. Without an answer the keys
	// are those of the newest checkpoint that the run has verified.
	followTime = 2 * time.Second
)

// follow reads the log on before a caller's key is looked for: a run that waits for a
// call asks the ledger nothing by itself, and the key may have been replaced.
func (r *room) follow(ctx context.Context) {
	now, last := time.Now().UnixNano(), r.followed.Load()
	if last != 0 && now-last < int64(followInterval) || !r.followed.CompareAndSwap(last, now) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), followTime)
	defer cancel()
	if err := r.record.Follow(ctx); err != nil {
		r.log.Warn("the ledger is not followed", "error", err)
	}
}
