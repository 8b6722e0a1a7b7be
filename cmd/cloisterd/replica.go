package main

import (
	"os"
	"strconv"

	"cloister/enclave/sidecar"
	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/spec"
)

// replicaOf returns the replica of a specification that this process is to be,
// nil where there is one alone. The index is the host's word: it decides which of
// the agreed outputs this run writes, and the record says it.
func replicaOf(s spec.Specification) (*sidecar.Replica, error) {
	if s.Replicas() == 1 {
		return nil, nil
	}
	text := os.Getenv(cce.ReplicaVariable)
	index, err := strconv.ParseUint(text, 10, 32)
	if err != nil || strconv.FormatUint(index, 10) != text || uint32(index) >= s.Replicas() {
		return nil, fault.Errorf(fault.Usage, "start it as the template does: a Job of Kubernetes sets the variable",
			"the specification has %d replicas, and %s=%.20q names none of them", s.Replicas(), cce.ReplicaVariable, text)
	}
	return &sidecar.Replica{Index: uint32(index), Count: s.Replicas()}, nil
}
