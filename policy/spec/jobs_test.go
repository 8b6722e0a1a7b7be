package spec

import (
	"strings"
	"testing"
)

func withJobs(t *testing.T) Specification {
	s := example(t)
	s.Jobs = &Jobs{Start: []string{"lab", "hospital"}, Results: []string{"lab"}, MaxResult: 4096, Consent: ConsentJob, Count: 8, AtOnce: 2}
	return s
}

// TestJobsAreChecked: each bound, and what jobs need of the rest.
func TestJobsAreChecked(t *testing.T) {
	s := withJobs(t)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if !s.Jobs.MayStart("hospital") || s.Jobs.MayHave("hospital") || !s.Jobs.MayHave("lab") || s.Jobs.Most() != 8 || s.Jobs.Together() != 2 {
		t.Errorf("%+v", s.Jobs)
	}
	if (Jobs{}).Most() != 1 || (Jobs{}).Together() != 1 {
		t.Error("one job at a time is the least")
	}
	for want, change := range map[string]func(*Specification){
		"nobody can call":            func(s *Specification) { s.Endpoints[0].Protocol = ProtocolTCP },
		"one launch":                 func(s *Specification) { s.Application.Restart = RestartOnFailure },
		"nobody may start":           func(s *Specification) { s.Application.Start, s.Jobs.Start = StartManual, nil },
		`no party "stranger"`:        func(s *Specification) { s.Jobs.Results = []string{"stranger"} },
		"there is already":           func(s *Specification) { s.Jobs.Start = []string{"lab", "lab"} },
		`"never" is not known`:       func(s *Specification) { s.Jobs.Consent = "never" },
		"one of results and max":     func(s *Specification) { s.Jobs.MaxResult = 0 },
		"1025 is more than 1024":     func(s *Specification) { s.Jobs.Count, s.Jobs.MaxResult = 1025, 1 },
		"17 is more than 16":         func(s *Specification) { s.Jobs.Count, s.Jobs.AtOnce = 20, 17 },
		"or than there are jobs":     func(s *Specification) { s.Jobs.AtOnce = 9 },
		"are more than 67108864":     func(s *Specification) { s.Jobs.MaxResult = 8<<20 + 1 },
		"results of 4294967295 byte": func(s *Specification) { s.Jobs.MaxResult = 1<<32 - 1 },
	} {
		s := withJobs(t)
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
}

// TestJobsInTheDigest: the parties agree on who may have results.
func TestJobsInTheDigest(t *testing.T) {
	a, b, c := withJobs(t), withJobs(t), withJobs(t)
	b.Jobs.Start = []string{"hospital", "lab"} // a set
	c.Jobs.Results = []string{"lab", "hospital"}
	digest := func(s Specification) string {
		d, err := s.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if digest(a) != digest(b) || digest(a) == digest(c) {
		t.Error("the digest is not of the set of parties")
	}
	raw, err := a.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseCanonical(raw); err != nil || back.Jobs == nil || back.Jobs.MaxResult != 4096 {
		t.Errorf("%+v, %v", back.Jobs, err)
	}
}
