package governance

import (
	"encoding/hex"
	"slices"

	"cloister/governance/statement"
)

// run is what the log knows of a run. There are many more than of all else, so
// one that has ended keeps little.
type run struct {
	key      statement.PublicKey
	version  uint64
	replica  uint64
	evidence string // digest; "" once it has ended, as is previous
	sequence uint64
	previous string // digest of the newest entry
	begun    int64
	asked    []asked // a scope each
	started  string  // the application that runs, "" for none
	end      *ending // nil until there is one
}

// asked is the answer to the newest check of consent to a scope.
type asked struct {
	scope string
	Answer
}

// Answer is the log's answer to a run's check of consent.
type Answer struct {
	Entry   int64  `json:"entry"`
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitempty"` // why not, in words
	nonce   string
}

// ending is what a run says of its end.
type ending struct {
	complete bool
	detail   string
}

type runID [16]byte

func parseRunID(id string) (parsed runID) {
	parseHex(parsed[:], id)
	return parsed
}

func (s *State) run(id string) (*run, bool) { return s.runs.get(parseRunID(id)) }

// ownRun returns a run for a change, which a State that this one is forked from
// does not see.
func (s *State) ownRun(id string) *run {
	key := parseRunID(id)
	if r, ok := s.runs.own[key]; ok {
		return r
	}
	r, _ := s.runs.get(key)
	own := *r
	own.asked = slices.Clone(r.asked)
	s.runs.set(key, &own)
	return &own
}

func (r *run) answer(scope string) (Answer, bool) {
	i := slices.IndexFunc(r.asked, func(a asked) bool { return a.scope == scope })
	if i < 0 {
		return Answer{}, false
	}
	return r.asked[i].Answer, true
}

func (r *run) setAnswer(scope string, a Answer) {
	r.asked = slices.DeleteFunc(r.asked, func(old asked) bool { return old.scope == scope })
	r.asked = append(r.asked, asked{scope, a})
}

func (r *run) complete(b *statement.Completion) {
	r.end, r.started = &ending{b.Complete, b.Detail}, ""
	r.evidence, r.previous = "", ""
}

// RunStatus is what the log knows of a run.
type RunStatus struct {
	ID        string `json:"id"`
	Version   uint64 `json:"version"`
	Replica   uint64 `json:"replica,omitempty"` // which of the version's replicas it is, from 0
	Records   uint64 `json:"records"`
	Begun     int64  `json:"begun"`             // entry
	Completed bool   `json:"completed"`         // it has ended, and said how
	Complete  bool   `json:"complete"`          // it did all it was to do, and its outputs are whole
	Detail    string `json:"detail,omitempty"`  // why not
	Running   string `json:"running,omitempty"` // the application that was started and has not ended
}

func (r *run) status(id string) RunStatus {
	status := RunStatus{ID: id, Version: r.version, Replica: r.replica, Records: r.sequence, Begun: r.begun, Running: r.started}
	if r.end != nil {
		status.Completed, status.Complete, status.Detail = true, r.end.complete, r.end.detail
	}
	return status
}

// Runs returns the runs in the order in which they began.
func (s *State) Runs() []RunStatus {
	var list []RunStatus
	for id, r := range s.runs.all() {
		list = append(list, r.status(hex.EncodeToString(id[:])))
	}
	slices.SortFunc(list, func(a, b RunStatus) int { return int(a.Begun - b.Begun) })
	return list
}
