package main

import (
	"strings"
	"testing"

	"cloister/policy/spec"
)

// TestJobsInWords: who may have the application work, and what of it is told to whom.
func TestJobsInWords(t *testing.T) {
	jobs := &spec.Jobs{Start: []string{"lab", "hospital"}, Results: []string{"lab"}, MaxResult: 4096, Consent: spec.ConsentJob, Count: 8, AtOnce: 2}
	for want, s := range map[string]spec.Specification{
		"none; any party may end the run":                                                          {},
		"any party may start the run's one":                                                        {Application: spec.Application{Start: spec.StartManual}},
		"party lab and you may start at most 8 jobs in a run, 2 at ":                               {Jobs: jobs},
		"each job asks for consent before it starts":                                               {Jobs: jobs},
		"party lab may have anything the application puts into a job's result, at most 4096 bytes": {Jobs: jobs},
		"nobody may start at most 1 jobs":                                                          {Jobs: &spec.Jobs{}},
		"no job asks for consent by itself":                                                        {Jobs: &spec.Jobs{}},
		"a job's result is for nobody":                                                             {Jobs: &spec.Jobs{}},
	} {
		if said := strings.Join(reviewer{spec: s, name: "hospital"}.jobs(), "\n"); !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}
