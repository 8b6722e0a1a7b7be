package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Replicas returns how many clean rooms work on the same sources, 1 or more.
func (s Specification) Replicas() uint32 {
	if s.Deployment == nil {
		return 1
	}
	return max(1, s.Deployment.Replicas)
}

// Replica returns the specification as the replica of an index, from 0, carries
// it out: with sinks of its own. With one replica it is the specification itself.
func (s Specification) Replica(index uint32) Specification {
	if s.Replicas() == 1 {
		return s
	}
	sinks := make([]Sink, len(s.DataSinks))
	for i, sink := range s.DataSinks {
		sinks[i] = sink.replica(index)
	}
	s.DataSinks = sinks
	return s
}

// Sinks returns the sinks of all replicas: every volume that is written, which
// the contract pins one by one.
func (s Specification) Sinks() []Sink {
	if s.Replicas() == 1 {
		return s.DataSinks
	}
	var all []Sink
	for _, sink := range s.DataSinks {
		for index := range s.Replicas() {
			all = append(all, sink.replica(index))
		}
	}
	return all
}

// replica is the sink of one replica: another volume below the sink's store, with
// a key of its own. Its mount is the sink's, as each replica sees its own alone.
func (s Sink) replica(index uint32) Sink {
	end := fmt.Sprintf("-%d", index)
	s.Name += end
	s.Volume = ReplicaVolume(s.Volume, index)
	s.Store = fmt.Sprintf("%s/replica-%d", strings.TrimRight(s.Store, "/"), index)
	if s.Key.Broker == nil {
		s.Key.Secret += end // one KEK wraps them all
		return s
	}
	b := *s.Key.Broker
	b.Resource, b.KEK = b.Resource+end, b.KEK+end
	s.Key.Broker = &b
	return s
}

// ReplicaVolume returns the volume id that a replica's sink has: the first half,
// in hexadecimal, of a hash over the sink's id and the index. So the indexes need
// no list, and no two of them have one volume.
func ReplicaVolume(volume string, index uint32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "cloister replica volume v1\n%s\n%d\n", volume, index))
	return hex.EncodeToString(sum[:16])
}

// maxContractVolumes is how many volumes a contract can pin (package statement).
const maxContractVolumes = 256

// checkReplicas: what is derived for each must be as valid as what is written.
func (s Specification) checkReplicas(c *checks) {
	const at = "deployment.replicas"
	n := int(s.Replicas())
	switch {
	case n == 1:
		return
	case n > MaxReplicas:
		c.add(at, fmt.Sprintf("%d is more than %d", n, MaxReplicas), "use fewer")
		return
	case s.Kind == CVM:
		c.add(at, fmt.Sprintf("kind %s runs one clean room", s.Kind), "use kind aks, which runs them as an Indexed Job, or aci")
	case len(s.Code)+len(s.DataSources)+n*len(s.DataSinks) > maxContractVolumes:
		c.add(at, fmt.Sprintf("%d replicas of %d datasinks are more volumes than the %d that a contract pins", n, len(s.DataSinks), maxContractVolumes), "use fewer")
	case len(s.DataSinks) == 0:
		c.missing("datasinks", "replicas without a datasink do the same and write nothing", "add a datasink, or take replicas out")
	}
	taken := map[string]bool{}
	for _, v := range s.volumes() {
		taken[v.Name] = true
	}
	for i, sink := range s.DataSinks {
		s.checkReplicaNames(c, fmt.Sprintf("datasinks[%d]", i), sink, taken)
	}
}

func (s Specification) checkReplicaNames(c *checks, at string, sink Sink, taken map[string]bool) {
	last := sink.replica(s.Replicas() - 1)
	if !namePattern.MatchString(last.Name) {
		c.add(at+".name", fmt.Sprintf("%.80q, of the last replica, is not a name", last.Name), "use a shorter one")
	}
	if _, name, ok := strings.Cut(last.Key.Secret, "/secrets/"); ok && !vaultName.MatchString(name) {
		c.add(at+".key.secret", fmt.Sprintf("%.200q, of the last replica, does not name a secret", name), "use a shorter one")
	}
	for index := range s.Replicas() {
		if name := sink.replica(index).Name; taken[name] {
			c.add(at+".name", fmt.Sprintf("%.80q, of replica %d, is the name of another volume", name, index), "change one of them")
		}
	}
}
