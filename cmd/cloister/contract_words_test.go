package main

import (
	"strings"
	"testing"

	"cloister/policy/spec"
)

// TestNetworkInWords: what a specification opens is said, and what nobody guards.
func TestNetworkInWords(t *testing.T) {
	to := []spec.Destination{{Host: "api.example", Port: 443}}
	for want, s := range map[string]spec.Specification{
		"reaches nothing outside": {Network: spec.Network{Egress: spec.EgressClosed}},
		"to api.example:443, in HTTP requests, over TLS or not, that the runtime reads": {Network: spec.Network{Egress: spec.EgressList, Allow: to}},
		"to api.example:443, as bytes that nobody looks at":                             {Network: spec.Network{Egress: spec.EgressList, Allow: to, Proxy: spec.ProxyOpen}},
		"the HTTP requests that policy out.rego sha256:00 lets through":                 {Network: spec.Network{Egress: spec.EgressPolicy, Policy: &spec.PolicyFile{File: "out.rego", Digest: "sha256:00"}}},
		"shares the pod's network":                                                      {Model: spec.Distributed, Network: spec.Network{Egress: spec.EgressClosed}},
	} {
		if said := strings.Join(reviewer{spec: s}.network(), "\n"); !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}

// TestJobsInWords: who may have the application work, and what of it is told to whom.
func TestJobsInWords(t *testing.T) {
	jobs := &spec.Jobs{Start: []string{"lab", "hospital"}, Results: []string{"lab"}, MaxResult: 4096, Consent: spec.ConsentJob, Count: 8, AtOnce: 2}
	for want, s := range map[string]spec.Specification{
		"none; any party may end the run":                                                          {},
		"any party may start the run's one":                                                        {Application: spec.Application{Start: spec.StartManual}},
		"party lab and you may start at most 8 jobs in a run, 2 at a time":                         {Jobs: jobs},
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
