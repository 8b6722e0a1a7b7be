package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloister/enclave/proxy"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// openAPI documents what callers are served with below proxy.RuntimePath.
//
//go:embed openapi.json
var openAPI []byte

const (
	// maxParameters bounds what a caller sends with a job, in bytes: what questions
	// take. What is larger is data, which is sealed and agreed on.
	maxParameters = 64 << 10
	// parametersTime is how long a caller has to send them.
	parametersTime = 10 * time.Second
	// takeTime is how long a caller may take nothing of a result.
	takeTime = time.Minute
)

// calls are what the runtime answers itself: to parties of the contract, by their
// signature, and to everybody what there is to call.
func (r *room) calls() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) {
		method, target, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+proxy.RuntimePath+target, h)
	}
	handle("GET openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI)
	})
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		handle(method+" job", r.signed(r.do))
	}
	if r.jobs == nil {
		return uncached(mux)
	}
	handle("GET jobs", r.signed(r.listJobs))
	handle("DELETE jobs", r.signed(r.closeJobs))
	handle("PUT jobs/{id}", r.signed(r.putJob))
	handle("GET jobs/{id}", r.signed(r.ofJob(r.getJob)))
	handle("DELETE jobs/{id}", r.signed(r.ofJob(r.cancelJob)))
	handle("GET jobs/{id}/result", r.signed(r.ofJob(r.getResult)))
	return uncached(mux)
}

// uncached has nobody keep an answer.
func uncached(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, req)
	})
}

// call is a request that a party of the contract signed; body is the digest of what
// it sends.
type call struct {
	party string
	body  [sha256.Size]byte
}

func (r *room) signed(h func(http.ResponseWriter, *http.Request, call)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		c, err := r.caller(req)
		if err != nil {
			w.Header().Set("WWW-Authenticate", strings.TrimSpace(callScheme))
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		h(w, req, c)
	}
}

// ofJob finds the job that a call names.
func (r *room) ofJob(h func(http.ResponseWriter, *http.Request, call, *work)) func(http.ResponseWriter, *http.Request, call) {
	return func(w http.ResponseWriter, req *http.Request, c call) {
		r.jobs.mu.Lock()
		job := r.jobs.byID[req.PathValue("id")]
		r.jobs.mu.Unlock()
		if job == nil {
			http.Error(w, "the run has no such job", http.StatusNotFound)
			return
		}
		h(w, req, c, job)
	}
}

// putJob starts a job, or finds it started.
func (r *room) putJob(w http.ResponseWriter, req *http.Request, c call) {
	id := req.PathValue("id")
	if !r.mayStart(w, c) {
		return
	}
	if err := statement.CheckJobID(id); err != nil || id == r.record.ID() {
		http.Error(w, "a job's id is 32 random hexadecimal digits", http.StatusBadRequest)
		return
	}
	parameters, ok := readParameters(w, req, c)
	if !ok {
		return
	}
	if r.job.now() == jobEnding {
		http.Error(w, "the run ends", http.StatusConflict)
		return
	}
	job, fresh, err := r.jobs.add(id, c.party, parameters)
	if err != nil {
		status := http.StatusConflict
		if fault.KindOf(err) == fault.Unavailable {
			status = http.StatusTooManyRequests
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, err.Error(), status)
		return
	}
	if fresh {
		r.log.Info("a job is called for", "job", id, "party", c.party)
		defer close(job.answered)
		defer http.NewResponseController(w).Flush()
	}
	if r.job.start() || r.job.now() == jobStarted {
		r.sayJob(w, http.StatusAccepted, job, c.party) // it waits for the volumes
		return
	}
	select {
	case <-job.begun:
	case <-req.Context().Done():
	}
	status := http.StatusAccepted
	if err := r.refusedJob(job); err != nil {
		status = statusOf(err)
	} else if !fresh {
		status = http.StatusOK
	}
	r.sayJob(w, status, job, c.party)
}

// mayStart answers those whom the contract does not let start jobs.
func (r *room) mayStart(w http.ResponseWriter, c call) bool {
	if r.jobs != nil && !r.jobs.agreed.MayStart(c.party) {
		http.Error(w, "the contract does not have party "+c.party+" start jobs", http.StatusForbidden)
		return false
	}
	return true
}

// readParameters reads what the call is signed over.
func readParameters(w http.ResponseWriter, req *http.Request, c call) (parameters []byte, ok bool) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(parametersTime))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	parameters, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxParameters))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "parameters have at most "+strconv.Itoa(maxParameters)+" bytes: what is larger goes into a datasource", http.StatusRequestEntityTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		http.Error(w, "the parameters did not come within "+parametersTime.String(), http.StatusRequestTimeout)
	case err != nil:
		http.Error(w, "the parameters did not come whole", http.StatusBadRequest)
	case sha256.Sum256(parameters) != c.body:
		http.Error(w, "the call is signed for other parameters", http.StatusUnauthorized)
	default:
		return parameters, true
	}
	return nil, false
}

// listJobs tells of all jobs, in the order of their calls.
func (r *room) listJobs(w http.ResponseWriter, _ *http.Request, c call) {
	r.jobs.mu.Lock()
	list := slices.Clone(r.jobs.list)
	r.jobs.mu.Unlock()
	said := []saidOfJob{}
	for _, job := range list {
		said = append(said, r.saidOf(job, c.party))
	}
	reply(w, http.StatusOK, map[string]any{"run": r.record.ID(), "jobs": said})
}

// closeJobs takes no further job: the run comes to its end when those have that run.
func (r *room) closeJobs(w http.ResponseWriter, _ *http.Request, c call) {
	if !r.mayStart(w, c) {
		return
	}
	r.log.Info("no further job is taken", "party", c.party)
	reply(w, http.StatusAccepted, r.saidOfRun())
	_ = http.NewResponseController(w).Flush() // the endpoints may close now
	r.jobs.close()
	if r.job.now() == jobWaiting {
		r.job.end(fault.Errorf(fault.Incomplete, "", "party %s ended the run before it had a job", c.party))
	}
}

func (r *room) getJob(w http.ResponseWriter, _ *http.Request, c call, job *work) {
	r.sayJob(w, http.StatusOK, job, c.party)
	r.tell(job, c.party)
}

// tell notes that a party that may know what came of a job does, where there is no
// result to be taken.
func (r *room) tell(job *work, party string) {
	r.jobs.set(job, func() {
		over := job.state != workWaiting && job.state != workRunning
		if over && job.handed == nil && r.jobs.mayKnow(job, party) {
			job.knows = append(job.knows[:0], party)
		}
	})
}

func (r *room) cancelJob(w http.ResponseWriter, _ *http.Request, c call, job *work) {
	status := http.StatusOK
	if r.jobs.cancel(job, fault.Errorf(fault.Incomplete, "", "party %s cancelled the job", c.party)) {
		status = http.StatusAccepted
		r.log.Info("a job is cancelled", "job", job.id, "party", c.party)
	}
	r.sayJob(w, status, job, c.party)
}

// getResult hands a job's result over, once the record says that it is.
func (r *room) getResult(w http.ResponseWriter, req *http.Request, c call, job *work) {
	if !r.jobs.agreed.MayHave(c.party) {
		http.Error(w, "the contract does not have party "+c.party+" given results", http.StatusForbidden)
		return
	}
	r.jobs.mu.Lock()
	state, why, result, handed, given := job.state, job.why, job.result, job.handed, slices.Contains(job.given, c.party)
	r.jobs.mu.Unlock()
	if handed == nil {
		r.noResult(w, state, why)
		r.tell(job, c.party)
		return
	}
	if !given {
		if err := r.handOver(req.Context(), job, c.party, handed); err != nil {
			http.Error(w, err.Error(), statusOf(err))
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(result)))
	w.Header().Set("Cloister-Result-Digest", handed.Digest)
	w.Header().Set("Cloister-Result-Salt", hex.EncodeToString(job.resultSalt[:]))
	if send(w, result) == nil {
		r.jobs.set(job, func() {
			if !slices.Contains(job.knows, c.party) {
				job.knows = append(job.knows, c.party)
			}
		})
	}
}

// noResult says why there is none.
func (r *room) noResult(w http.ResponseWriter, state, why string) {
	switch {
	case state == workWaiting || state == workRunning:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the job has not ended", http.StatusConflict)
	case why != "":
		http.Error(w, why, http.StatusGone)
	default:
		http.Error(w, "the job left no result", http.StatusNotFound)
	}
}

// send writes to a client that may be slow, and not still.
func send(w http.ResponseWriter, b []byte) error {
	control := http.NewResponseController(w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	for chunk := range slices.Chunk(b, 64<<10) {
		_ = control.SetWriteDeadline(time.Now().Add(takeTime))
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	return control.Flush()
}

// statusOf is the answer where the ledger has no yes: a no, or nothing.
func statusOf(err error) int {
	if fault.KindOf(err) == fault.Refused {
		return http.StatusForbidden
	}
	return http.StatusServiceUnavailable
}

func (r *room) refusedJob(w *work) error {
	r.jobs.mu.Lock()
	defer r.jobs.mu.Unlock()
	return w.refused
}

func (r *room) sayJob(w http.ResponseWriter, status int, job *work, party string) {
	reply(w, status, r.saidOf(job, party))
}

// saidOf is what a party may know of a job.
func (r *room) saidOf(w *work, party string) saidOfJob {
	j := r.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	said := saidOfJob{Run: r.record.ID(), ID: w.id, Party: w.party, State: w.state, Exit: w.exit}
	if j.mayKnow(w, party) {
		said.Why = w.why
	}
	if party == w.party && w.size > 0 {
		said.Salt = hex.EncodeToString(w.salt[:])
	}
	if j.agreed.MayHave(party) {
		progress := w.readProgress()
		said.Progress = &progress
		if w.handed != nil {
			length := len(w.result)
			said.Length = &length
		}
	}
	return said
}

func (r *room) saidOfRun() map[string]string {
	return map[string]string{"run": r.record.ID(), "application": r.spec.Application.Name, "state": r.job.now()}
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// With its length: whoever ends the run has the whole answer once it is flushed, and
	// not only when the handler, with which the endpoints end, has returned.
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error: the client is gone
}
