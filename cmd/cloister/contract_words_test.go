package main

import (
	"slices"
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
		"in a network that the shim makes for the application":                          {Model: spec.Distributed, Network: spec.Network{Egress: spec.EgressClosed}},
		"nor from answering at a port of its own":                                       {Model: spec.Distributed, Network: spec.Network{Egress: spec.EgressUnguarded}},
		"when a client first connects, whoever that is":                                 {Application: spec.Application{Start: spec.StartManual}, Endpoints: []spec.Endpoint{{Name: "a", Protocol: spec.ProtocolTCP}}},
	} {
		if said := strings.Join(reviewer{spec: s}.network(), "\n"); !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}

// TestLeaksInWords: who reviews a contract is told, to the word, what leaks by
// pattern in spite of all sealing, of which volume, through whom, and what ends it.
func TestLeaksInWords(t *testing.T) {
	input := func(name, fetch string) spec.Source { return spec.Source{Name: name, Party: "hospital", Fetch: fetch} }
	sink := func(name, publish string) spec.Sink { return spec.Sink{Name: name, Party: "analyst", Publish: publish} }
	const always = "how long a run takes, and the padded sizes of volumes, show to the host and the stores in any case"
	for name, tc := range map[string]struct {
		spec spec.Specification
		want []string
	}{
		"open": {spec.Specification{Code: []spec.Source{input("model", "")}, DataSources: []spec.Source{input("records", "")}, DataSinks: []spec.Sink{sink("report", "")}}, []string{
			"which parts of model (of hospital) are read, and when, shows to its store and the host: code that chooses its reads can tell them about 21 bits of any data with each, so its author and the host together could leak; fetch: whole ends that",
			"which parts of records (of hospital) are read, and when, shows to its store and the host: code that chooses its reads can tell them about 21 bits of any data with each, so its author and the host together could leak; fetch: whole ends that",
			"when something is written to report, and how much, shows to its store and the host: code that chooses both can tell them something of any data; publish: at-end, padded ends that",
			always}},
		"one of two": {spec.Specification{DataSources: []spec.Source{input("records", spec.FetchWhole), input("more", "")}, DataSinks: []spec.Sink{sink("report", spec.PublishAtEndPadded)}}, []string{
			"which parts of more (of hospital) are read, and when, shows to its store and the host: code that chooses its reads can tell them about 21 bits of any data with each, so its author and the host together could leak; fetch: whole ends that",
			always}},
		"closed": {spec.Specification{DataSources: []spec.Source{input("records", spec.FetchWhole)}, DataSinks: []spec.Sink{sink("report", spec.PublishAtEndPadded)}}, []string{always}},
	} {
		if said := (reviewer{spec: tc.spec}).leaks(); !slices.Equal(said, tc.want) {
			t.Errorf("%s: %q, want %q", name, said, tc.want)
		}
	}
}
