package main

import (
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// canMeet refuses a specification of another model. The model is that of the command
// that was started, which is measured: an application beside the runtime is not one
// under it, and the parties agreed to one of them. Of what a specification can ask
// for beyond that, nothing is left that this runtime does not do; what a platform
// does not let it do is refused where it is met.
func canMeet(s spec.Specification, model string) error {
	if s.Model != model {
		return fault.Errorf(fault.Refused, "start `cloisterd run` for model "+spec.Monolithic+", and `cloisterd serve` for model "+spec.Distributed,
			"this command carries out model %s, and the specification's is %s", model, s.Model)
	}
	return nil
}
