package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"

	"cloister/enclave/launch"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// jobs is the table of a run's jobs, where its contract has jobs: what a caller
// asked for, in the order of the calls, until the run's end. An id, which the caller
// chooses, names one job for ever: a call that comes again, whoever repeats it, finds
// the job that there is and starts no other. The table never has more jobs than the
// contract says, and their results no more bytes.
type jobs struct {
	agreed spec.Jobs
	all    sync.WaitGroup // of those that start and run

	mu     sync.Mutex // guards what follows, and the fields of each work
	begin  func(*work)
	closed bool // no further job is taken
	list   []*work
	byID   map[string]*work
	exit   int // of all that ended: the worst
	failed error
	news   chan struct{} // closed, and made anew, when something changes
}

// work is one job.
type work struct {
	id, party  string // the party that called for it; "" for the run itself
	parameters []byte // until it runs
	asked      [sha256.Size]byte
	size       int      // of the parameters
	salt       [32]byte // of what stands for the parameters in the record
	resultSalt [32]byte
	stop       context.CancelCauseFunc // once it begins
	begun      chan struct{}           // closed when it runs, or never will
	answered   chan struct{}           // closed when its caller is told that

	state    string
	why      string // it was refused or has no result; "" where there is nothing to say
	refused  error
	exit     *int
	progress int // percent, of what was seen
	dir      *launch.Exchanged
	result   []byte
	handed   *statement.Handed // what stands for the result
	knows    []string          // parties that had the result or, where there is none, know what came of it
	given    []string          // parties that the record says the result goes to
}

// A job's states. The first becomes the second or the last two, the second the third
// or the fourth.
const (
	workWaiting   = "waiting" // for the run's volumes, or for consent
	workRunning   = "running"
	workEnded     = "ended" // by itself
	workCancelled = "cancelled"
	workRefused   = "refused"
)

func newJobs(agreed *spec.Jobs) *jobs {
	if agreed == nil {
		return nil
	}
	return &jobs{agreed: *agreed, byID: map[string]*work{}, news: make(chan struct{})}
}

// add takes a job, or finds the same one; fresh says which. Errors are of kind
// fault.Conflict where it never will be taken, and fault.Unavailable where it is not
// now.
func (j *jobs) add(id, party string, parameters []byte) (w *work, fresh bool, err error) {
	asked := sha256.Sum256(parameters)
	j.mu.Lock()
	defer j.mu.Unlock()
	if w := j.byID[id]; w != nil {
		if w.party != party || w.asked != asked {
			return nil, false, fault.Errorf(fault.Conflict, "choose another id", "job %s is another one", id)
		}
		return w, false, nil
	}
	switch {
	case j.closed || len(j.list) >= int(j.agreed.Most()):
		return nil, false, fault.Errorf(fault.Conflict, "start another run", "the run takes no further job: the contract has %d in a run, and %d were called for", j.agreed.Most(), len(j.list))
	case j.active() >= int(j.agreed.Together()):
		return nil, false, fault.Errorf(fault.Unavailable, "wait until one has ended", "%d jobs run, as many as the contract has at a time", j.active())
	}
	w = &work{answered: make(chan struct{}), id: id, party: party, parameters: parameters, asked: asked, size: len(parameters), begun: make(chan struct{}), state: workWaiting}
	for _, salt := range [][]byte{w.salt[:], w.resultSalt[:]} {
		if _, err := rand.Read(salt); err != nil {
			return nil, false, err
		}
	}
	j.list, j.byID[id] = append(j.list, w), w
	j.launch(w)
	j.changed()
	return w, true, nil
}

// launch has a job begin, where the run's volumes are there. The caller holds mu.
func (j *jobs) launch(w *work) {
	if begin := j.begin; begin != nil && w.state == workWaiting {
		j.all.Go(func() { begin(w) })
	}
}

// open has those jobs begin that wait, and from now on each at once.
func (j *jobs) open(begin func(*work)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.begin = begin
	for _, w := range j.list {
		j.launch(w)
	}
}

// active is how many are not at their end. The caller holds mu.
func (j *jobs) active() (n int) {
	for _, w := range j.list {
		if w.state == workWaiting || w.state == workRunning {
			n++
		}
	}
	return n
}

// changed wakes up who waits for news. The caller holds mu.
func (j *jobs) changed() {
	close(j.news)
	j.news = make(chan struct{})
}

// set changes a job.
func (j *jobs) set(w *work, change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := w.state
	change()
	if before == workWaiting && w.state != workWaiting {
		close(w.begun)
	}
	j.changed()
}

// close takes no further job.
func (j *jobs) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.changed()
}

// rest returns when nothing more is to come: no job is taken any more and none runs,
// and of none somebody is awaited, or has been for as long as keep; or when ctx ends.
func (j *jobs) rest(ctx context.Context, keep time.Duration) {
	var patience <-chan time.Time
	for {
		j.mu.Lock()
		over := (j.closed || len(j.list) >= int(j.agreed.Most())) && j.active() == 0
		told := !slices.ContainsFunc(j.list, func(w *work) bool { return j.awaited(w) })
		news := j.news
		j.mu.Unlock()
		if over && told {
			return
		}
		if over && patience == nil {
			timer := time.NewTimer(keep)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-news:
		case <-patience:
			return
		case <-ctx.Done():
			return
		}
	}
}

// awaited says whether somebody has yet to ask what came of a job that is at its end:
// each party that may have its result or, where there is none, one that may know.
func (j *jobs) awaited(w *work) bool {
	switch {
	case w.state == workCancelled:
		return false
	case w.handed != nil:
		return slices.ContainsFunc(j.agreed.Results, func(party string) bool { return !slices.Contains(w.knows, party) })
	}
	return len(w.knows) == 0 && (w.party != "" || len(j.agreed.Results) > 0)
}

// mayKnow says whether a party is told more of a job than that it is there.
func (j *jobs) mayKnow(w *work, party string) bool {
	return party == w.party || j.agreed.MayHave(party)
}

// cancel ends a job, whether or not it has begun, and reports whether it was to be.
func (j *jobs) cancel(w *work, why error) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case w.state == workWaiting && w.stop == nil:
		w.state, w.why = workCancelled, why.Error()
		close(w.begun)
		j.changed()
	case w.state == workWaiting || w.state == workRunning:
		w.stop(why)
	default:
		return false
	}
	return true
}

// saidOfJob is a job as those see it that may know of it.
type saidOfJob struct {
	Run    string `json:"run"`
	ID     string `json:"id"`
	Party  string `json:"party,omitempty"` // that called for it; "" where the run itself did
	State  string `json:"state"`
	Why    string `json:"why,omitempty"` // it was refused, or there is no result
	Exit   *int   `json:"exit,omitempty"`
	Length *int   `json:"length,omitempty"` // bytes of the result, where there is one
	// Progress is what the application says of itself, in percent, which never falls:
	// so that it tells no more in all than a hundred steps. Only those are told who
	// may have the result.
	Progress *int `json:"progress,omitempty"`
	// Salt is that of the parameters' digest in the record, in hexadecimal; only their
	// sender is told. The result's comes with the result.
	Salt string `json:"salt,omitempty"`
}

// readProgress is the job's own word, of a file that it writes: a number from 0 to
// 100. Anything else is as if there were none. The caller holds mu.
func (w *work) readProgress() int {
	if w.dir == nil {
		return w.progress
	}
	text, err := w.dir.Read(progressFile, 8)
	n := 0
	for _, digit := range strings.TrimSpace(string(text)) {
		if digit < '0' || digit > '9' {
			return w.progress
		}
		n = 10*n + int(digit-'0')
	}
	if err == nil && n <= 100 {
		w.progress = max(w.progress, n)
	}
	return w.progress
}
