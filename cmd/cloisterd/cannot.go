package main

import (
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// canMeet refuses a specification of another model. The model is that of the command
// that was started, which is measured: an application beside the runtime is not one
// under it, and the parties agreed to one of them. It refuses too what this runtime
// does not do; what a platform does not let it do is refused where it is met.
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
		{s.Jobs != nil && s.Model == spec.Distributed, "jobs in model " + spec.Distributed}, // each has a directory of its own, which the shim does not make
	}
}
