package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

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

// ServeHTTP answers callers: POST starts, GET tells, DELETE ends. It reads no body.
func (r *room) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case req.URL.Path != "/.well-known/cloister/job":
		http.NotFound(w, req)
		return
	case req.Method != http.MethodGet && req.Method != http.MethodPost && req.Method != http.MethodDelete:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "a job is started, asked about and ended", http.StatusMethodNotAllowed)
		return
	}
	party, err := r.caller(req)
	if err != nil {
		w.Header().Set("WWW-Authenticate", strings.TrimSpace(callScheme))
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	r.do(w, req.Method, party)
}

// do does what a party of the contract asks for.
func (r *room) do(w http.ResponseWriter, method, party string) {
	status := http.StatusOK
	switch method {
	case http.MethodPost:
		if status = http.StatusAccepted; !r.job.start() {
			status = http.StatusConflict
		}
	case http.MethodDelete:
		status = http.StatusAccepted
		// Once the caller has its answer: the endpoints close then.
		defer r.job.end(fault.Errorf(fault.Incomplete, "", "party %s cancelled the run", party))
		defer http.NewResponseController(w).Flush()
	}
	if status == http.StatusAccepted {
		r.log.Info("the job is called", "method", method, "party", party)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"run": r.record.ID(), "application": r.spec.Application.Name, "state": r.job.now()})
}

// caller is the party of the contract that signed a call.
func (r *room) caller(req *http.Request) (string, error) {
	call, ok := strings.CutPrefix(req.Header.Get("Authorization"), callScheme)
	if !ok {
		return "", fault.Errorf(fault.Denied, "", "a party of the contract must sign the call")
	}
	key, _, err := statement.VerifyCall(call, statement.Call{Method: req.Method, Target: "job", Run: r.record.ID()}, time.Now())
	if err != nil {
		return "", err
	}
	if name, ok := r.record.Party(key); ok {
		return name, nil
	}
	return "", fault.Errorf(fault.Denied, "", "the call is signed by nobody who is a party of the contract")
}
