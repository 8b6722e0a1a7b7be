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
		"in a network that the shim makes for the application":                          {Model: spec.Distributed, Network: spec.Network{Egress: spec.EgressClosed}},
		"nor from answering at a port of its own":                                       {Model: spec.Distributed, Network: spec.Network{Egress: spec.EgressUnguarded}},
		"when a client first connects, whoever that is":                                 {Application: spec.Application{Start: spec.StartManual}, Endpoints: []spec.Endpoint{{Name: "a", Protocol: spec.ProtocolTCP}}},
	} {
		if said := strings.Join(reviewer{spec: s}.network(), "\n"); !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}
