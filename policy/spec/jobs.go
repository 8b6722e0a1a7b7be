package spec

import (
	"fmt"
	"slices"
)

// Jobs has parties of the contract call for the application's work, and have what
// it answers. A job is one launch of the application's command, in namespaces of its
// own, on the run's volumes: so nothing of one job is in the memory of the next, its
// exit code is the job's, and to cancel it is to end its processes. An application
// that lives on and answers calls has endpoints for that, and needs no jobs.
type Jobs struct {
	Start   []string `json:"start"`             // parties that may start jobs
	Results []string `json:"results,omitempty"` // parties that may have a job's result and progress; nobody when absent
	// MaxResult is how many bytes a job's result has at most; none is handed over
	// when 0. What is larger goes to a datasink.
	MaxResult uint32 `json:"maxResult,omitempty"`
	// Consent is when a job asks for consent: ConsentRun when empty.
	Consent string `json:"consent,omitempty"`
	Count   uint32 `json:"count,omitempty"`  // how many jobs a run takes; 1 when 0
	AtOnce  uint32 `json:"atOnce,omitempty"` // how many of them run at a time; 1 when 0
}

// When a job asks for consent.
const (
	ConsentRun = "run" // as the run does: at its start, and again while it goes on
	ConsentJob = "job" // each job, before it starts, too
)

// The bounds of jobs. The runtime keeps a table of a run's jobs, and their results
// until its end, in memory; each that runs at a time has the application's resources.
const (
	MaxJobs       = 1024
	MaxJobsAtOnce = 16
	MaxResults    = 64 << 20 // bytes, of all jobs of a run
)

// Most returns how many jobs a run takes, at least 1.
func (j Jobs) Most() uint32 { return max(1, j.Count) }

// Together returns how many of them run at a time, at least 1.
func (j Jobs) Together() uint32 { return max(1, j.AtOnce) }

// MayStart reports whether a party may start jobs.
func (j Jobs) MayStart(party string) bool { return slices.Contains(j.Start, party) }

// MayHave reports whether a party may have results.
func (j Jobs) MayHave(party string) bool { return slices.Contains(j.Results, party) }

func (s Specification) checkJobs(c *checks) {
	j := s.Jobs
	if j == nil {
		return
	}
	if !slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.Protocol != ProtocolTCP }) {
		c.add("jobs", "nobody can call for a job: there is no endpoint that speaks HTTP", "add one with cloister spec add endpoint")
	}
	if restart := s.Application.Restart; restart != "" && restart != RestartNever {
		c.add("jobs", fmt.Sprintf("a job is one launch of the application, and application.restart is %s", restart), "set restart "+RestartNever+", and start another job instead")
	}
	if len(j.Start) == 0 && s.Application.Start == StartManual {
		c.missing("jobs.start", "nobody may start a job", "name a party that may")
	}
	s.checkJobParties(c, "jobs.start", j.Start)
	s.checkJobParties(c, "jobs.results", j.Results)
	c.optional("jobs.consent", j.Consent, ConsentRun, ConsentJob)
	if (j.MaxResult == 0) != (len(j.Results) == 0) {
		c.add("jobs", "results are for parties, and have a size: one of results and maxResult is missing", "give both, or neither")
	}
	j.checkBounds(c)
}

func (j Jobs) checkBounds(c *checks) {
	if j.Count > MaxJobs {
		c.add("jobs.count", fmt.Sprintf("%d is more than %d", j.Count, MaxJobs), "use fewer, and start another run")
	}
	if j.AtOnce > MaxJobsAtOnce || j.Together() > j.Most() {
		c.add("jobs.atOnce", fmt.Sprintf("%d is more than %d, or than there are jobs", j.AtOnce, MaxJobsAtOnce), "use fewer")
	}
	if uint64(j.MaxResult)*uint64(j.Most()) > MaxResults {
		c.add("jobs.maxResult", fmt.Sprintf("%d results of %d bytes are more than %d", j.Most(), j.MaxResult, MaxResults), "use less, and a datasink for what is larger")
	}
}

func (s Specification) checkJobParties(c *checks, at string, parties []string) {
	c.count(at, len(parties))
	twice := c.unique("this party")
	for i, name := range parties {
		at := fmt.Sprintf("%s[%d]", at, i)
		twice(at, name)
		if _, ok := s.Party(name); !ok {
			c.add(at, fmt.Sprintf("there is no party %.80q", name), "name one of the parties")
		}
	}
}
