package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
)

// A run whose keys are at a key broker, from the owner's command to the result,
// beside one party that keeps its in a vault; and one without Azure at all, in
// which no service but the broker is asked.
func TestKeysAtABroker(t *testing.T) {
	for name, atBroker := range map[string][]string{"one of two": {"hospital"}, "all": {"hospital", "analyst"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.AtBroker = atBroker })
			provisioned := r.requests()
			run := r.start()
			run.do("cat $IN/private/secret.txt > $OUT/copy")
			run.tell("exit 0")
			run.ends(0)
			if got := r.decrypt(run.reference("output"))["copy"]; got != "for the owner alone\n" {
				t.Errorf("the result is %q", got)
			}
			asked := r.requests()[len(provisioned):]
			services := map[string]int{}
			for _, a := range asked {
				services[a.Service]++
			}
			// A session, and wrapped DEK and KEK of each volume.
			if services["broker"] != 2+2*len(atBroker) {
				t.Errorf("the broker was asked %d times: %+v", services["broker"], asked)
			}
			if others := len(services) - 1; name == "all" && others != 0 || name != "all" && services["attestation"] != 2 {
				t.Errorf("asked were %v", services)
			}
			r.recordsBeforeRequests()
			r.searchForDEKs(run)
		})
	}
}

// recordsBeforeRequests holds the audit record against the addresses of the
// specification: which is announced, and in which order.
func (r *site) recordsBeforeRequests() {
	r.t.Helper()
	list := r.cloister("audit", "list", "--json", "--kind", "record-access", "--ledger", r.Path("ledger"))
	at := func(what string) int {
		i := strings.Index(list, what)
		if i < 0 {
			r.t.Errorf("the record does not name %s:\n%s", what, list)
		}
		return i
	}
	broker := r.Endpoints.Broker + "/kbs/v0/resource/"
	if dek, kek := at(broker+"hospital/wrapped-dek/source"), at(broker+"hospital/kek/source"); dek > kek {
		r.t.Error("the KEK is recorded before the wrapped DEK")
	}
}

// searchForDEKs looks for both keys in what the run said and in the cloud's log.
func (r *site) searchForDEKs(run *process) {
	r.t.Helper()
	log, err := os.ReadFile(r.Path("cloud", "requests.jsonl"))
	must(r.t, err)
	said := append([]byte(run.stderr.String()+run.stdout.String()), log...)
	for _, key := range []string{"hospital.key", "analyst.key"} {
		volume := strings.Split(r.Reference, ".")[1]
		if key == "analyst.key" {
			volume = strings.Split(r.Sink, ":")[0]
		}
		for _, form := range formsOf(r.dek(key, volume)) {
			if bytes.Contains(said, form) {
				r.t.Errorf("the DEK of %s is in the logs", key)
			}
		}
	}
}

// request is a line of the simulated cloud's log.
type request struct {
	Service, Path string
	Status        int
}

func (r *site) requests() (list []request) {
	r.t.Helper()
	log, err := os.ReadFile(r.Path("cloud", "requests.jsonl"))
	must(r.t, err)
	dec := json.NewDecoder(bytes.NewReader(log))
	for dec.More() {
		var q request
		must(r.t, dec.Decode(&q))
		list = append(list, q)
	}
	return list
}

// The runtime's doctor shows its evidence to the broker, and stops there.
func TestDoctorOfKeysAtABroker(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.AtBroker = []string{"hospital"} })
	if _, err := r.Runtime("guest"); err != nil { // it writes what the doctor reads
		t.Fatal(err)
	}
	before := len(r.requests())
	must(t, r.Doctor("guest"))
	asked := r.requests()[before:]
	if !slices.ContainsFunc(asked, func(q request) bool { return q.Path == "/kbs/v0/attest" && q.Status == 200 }) ||
		slices.ContainsFunc(asked, func(q request) bool { return strings.HasPrefix(q.Path, "/kbs/v0/resource") }) {
		t.Errorf("the doctor asked %+v", asked)
	}
}
