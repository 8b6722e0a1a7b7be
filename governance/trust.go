package governance

import (
	"slices"
	"strings"

	"cloister/internal/fault"
)

// Trust is what the runtime knows before it reads the log: all of it is
// measured, from the specification whose digest the container policy pins, and
// from the container policy itself. Every field is required, but Witnesses where
// the specification names none, and the last two where there is one run.
type Trust struct {
	Ledger          string    // the ledger's verifier key
	Witnesses       Witnesses // whose cosignatures a checkpoint needs
	Parties         []string  // fingerprints of the parties' signing keys
	Specification   string    // digest of the specification that is running
	ContainerPolicy string    // digest of the container policy: HOST_DATA of the report
	Replicas        uint32    // how many runs carry out the specification together, 1 or more
	// Replica is which of them this is, from 0: the host's word, so that the
	// record names it and an audit counts.
	Replica uint32
}

// check refuses a log whose newest contract is not the one that was measured.
func (t Trust) check(s *State) error {
	if s.Unknown() > 0 {
		return fault.Errorf(fault.Refused, "use a newer cloister", "the log holds %d statement(s) of types unknown to this runtime", s.Unknown())
	}
	if s.Status() != Accepted {
		return fault.Errorf(fault.Refused, "see cloister contract status", "the contract is %s, not accepted", describe(s))
	}
	contract, _ := s.Contract()
	if contract.Specification != t.Specification {
		return fault.Errorf(fault.Refused, "propose and approve the specification that this container runs",
			"the contract is about specification %s, this container runs %s", contract.Specification, t.Specification)
	}
	if contract.ContainerPolicy != t.ContainerPolicy {
		return fault.Errorf(fault.Refused, "propose and approve the container policy that this container runs under",
			"the contract is about container policy %s, this container runs under %s", contract.ContainerPolicy, t.ContainerPolicy)
	}
	if want := max(1, t.Replicas); replicasOf(contract) != uint64(want) {
		return fault.Errorf(fault.Refused, "amend the contract: cloister contract amend takes the replicas from the specification",
			"the contract is about %d replica(s), the specification about %d", replicasOf(contract), want)
	}
	return t.checkParties(s)
}

// checkParties wants exactly the measured parties: a party more would have had
// a say in the contract that the specification does not give it. A key that was
// replaced since is still the one that the contract names: the fold has seen its
// rotation.
func (t Trust) checkParties(s *State) error {
	want := slices.Sorted(slices.Values(t.Parties))
	var got []string
	for _, p := range s.contract.Parties {
		got = append(got, p.Fingerprint())
	}
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(want, got) {
		return fault.Errorf(fault.Refused, "the contract's parties must be exactly those of the specification",
			"the contract is signed by %s, the specification names %s", orNobody(got), orNobody(want))
	}
	return nil
}

func orNobody(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, ", ")
}

func describe(s *State) string {
	if s.Ended() != "" {
		return string(s.Status()) + " (" + s.Ended() + ")"
	}
	return string(s.Status())
}
