package main

import (
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// TestRefusesWhatItCannotDo holds: a command carries out its own model and no other.
func TestRefusesWhatItCannotDo(t *testing.T) {
	plain := func() spec.Specification {
		return spec.Specification{Model: spec.Monolithic, Network: spec.Network{Egress: spec.EgressClosed},
			Application: spec.Application{Start: spec.StartAuto, Restart: spec.RestartNever},
			DataSources: []spec.Source{{Fetch: spec.FetchOnDemand}}, DataSinks: []spec.Sink{{Publish: spec.PublishAsWritten}},
			Deployment: &spec.Deployment{Replicas: 1}}
	}
	if err := canMeet(plain(), spec.Monolithic); err != nil {
		t.Error(err)
	}
	for model, other := range map[string]string{spec.Monolithic: spec.Distributed, spec.Distributed: spec.Monolithic} {
		s := plain()
		s.Model = model
		if err := canMeet(s, model); err != nil {
			t.Error(err)
		}
		if err := canMeet(s, other); fault.KindOf(err) != fault.Refused || !strings.HasSuffix(err.Error(), "the specification's is "+model) {
			t.Errorf("%s under the command for %s: %v", model, other, err)
		}
	}
	changes := map[string]func(*spec.Specification){
		"jobs in model distributed": func(s *spec.Specification) { s.Model, s.Jobs = spec.Distributed, &spec.Jobs{} },
	}
	if len(changes) != len(asked(plain())) {
		t.Errorf("%d of %d are tried", len(changes), len(asked(plain())))
	}
	for want, change := range changes {
		s := plain()
		change(&s)
		if err := canMeet(s, s.Model); fault.KindOf(err) != fault.Refused || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
