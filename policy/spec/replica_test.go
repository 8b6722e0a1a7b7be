package spec

import (
	"strings"
	"testing"
)

// TestReplicas: no two volumes of all replicas have an id, a name, a place or the
// address of a key in common, and each is that of its replica alone.
func TestReplicas(t *testing.T) {
	s := example(t)
	sink := s.DataSinks[0]
	broker := sink
	broker.Name, broker.Volume, broker.Key = "other", strings.Repeat("5", 32), Key{Broker: &Broker{URL: "https://kbs.example", Resource: "a/b/c", KEK: "a/kek/c"}}
	s.DataSinks = []Sink{sink, broker}
	s.Deployment = &Deployment{Replicas: 3}
	all := s.Sinks()
	if len(all) != 6 || s.Replicas() != 3 {
		t.Fatalf("%d sinks of %d replicas", len(all), s.Replicas())
	}
	seen := map[string]bool{sink.Volume: true, broker.Volume: true}
	once := func(what string) {
		if what != "" && seen[what] {
			t.Errorf("%s comes twice", what)
		}
		seen[what] = true
	}
	for _, v := range all {
		for _, what := range []string{v.Name, v.Volume, v.Key.Secret} {
			once(what)
		}
		if b := v.Key.Broker; b != nil {
			once(b.Resource)
			once(b.KEK)
		}
	}
	for index := range uint32(3) {
		r := s.Replica(index)
		if len(r.DataSinks) != 2 || r.DataSinks[0].Name != all[index].Name || r.DataSinks[0].Volume != all[index].Volume || r.DataSinks[0].Mount != sink.Mount {
			t.Errorf("replica %d has %+v", index, r.DataSinks)
		}
	}
	if s.DataSinks[0].Name != sink.Name || s.DataSinks[1].Key.Broker.KEK != "a/kek/c" {
		t.Error("the specification has changed")
	}
	if want := sink.Store + "/replica-2"; all[2].Store != want {
		t.Errorf("the third is at %s, want %s", all[2].Store, want)
	}
	// Fixed: volumes that were agreed on are found under it.
	if got := ReplicaVolume(strings.Repeat("0", 32), 7); got != "58898978686952a5026013cfb780f5f8" {
		t.Errorf("the volume of a replica is now %s", got)
	}
	s.Deployment.Replicas = 1
	if one := s.Sinks(); len(one) != 2 || one[0].Name != sink.Name || s.Replica(0).DataSinks[0].Volume != sink.Volume {
		t.Errorf("of one replica: %+v", one)
	}
}
