package main

import (
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// canMeet refuses a specification that asks for what this runtime does not do:
// the parties agreed on it, so a run without it is not theirs. Who builds one
// of these takes its line out. The model is that of the command that was
// started, which is measured: an application beside the runtime is not one under
// it, and the parties agreed to one of them.
func canMeet(s spec.Specification, model string) error {
	if s.Model != model {
		return fault.Errorf(fault.Refused, "start `cloisterd run` for model "+spec.Monolithic+", and `cloisterd serve` for model "+spec.Distributed,
			"this command carries out model %s, and the specification's is %s", model, s.Model)
	}
	var cannot []string
	for _, f := range asked(s) {
		if f.wanted {
			cannot = append(cannot, f.what)
		}
	}
	if len(cannot) == 0 {
		return nil
	}
	return fault.Errorf(fault.Refused, "agree on a specification without it, or use a later runtime",
		"this runtime does not do what the specification asks for: %s", strings.Join(cannot, ", "))
}

type feature struct {
	wanted bool
	what   string
}

func asked(s spec.Specification) []feature {
	return []feature{
		{s.Jobs != nil && s.Model == spec.Distributed, "jobs in model " + spec.Distributed}, // the shim starts the application once
		{s.Application.Start == spec.StartManual && !slices.ContainsFunc(s.Endpoints, speaksHTTP), "application.start manual without an endpoint to call, other than of protocol tcp"},
	}
}

func speaksHTTP(e spec.Endpoint) bool { return e.Protocol != spec.ProtocolTCP }
