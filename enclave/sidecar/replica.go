package sidecar

import "fmt"

// Replica is which of how many runs on the same inputs a run is; the zero value
// where it is the only one. The parts of the input are the application's to divide.
type Replica struct {
	Index uint32 `json:"index"` // from 0
	Count uint32 `json:"count"`
}

// The variables in which an application finds its replica.
const (
	ReplicaIndexVariable = "CLOISTER_REPLICA_INDEX"
	ReplicaCountVariable = "CLOISTER_REPLICA_COUNT"
)

// Environment returns them, NAME=VALUE; nil where the run is the only one.
func (r *Replica) Environment() []string {
	if r == nil || r.Count < 2 {
		return nil
	}
	return []string{fmt.Sprintf("%s=%d", ReplicaCountVariable, r.Count), fmt.Sprintf("%s=%d", ReplicaIndexVariable, r.Index)}
}
