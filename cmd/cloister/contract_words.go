package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/policy/spec"
)

// reviewer says a verified contract in words.
type reviewer struct {
	spec     spec.Specification
	contract statement.Contract
	name     string // of the party it is said to, or ""
}

func (r reviewer) sections() []section {
	return []section{
		{"Which code", r.code()},
		{"Which data", r.data()},
		{"Which outputs, and for whom", r.outputs()},
		{"Which network", r.network()},
		{"Which jobs, and whose results", r.jobs()},
		{"Under what the keys are given out", r.keys()},
		{"Whose record is believed", r.record()},
		{"What shows all the same", r.leaks()},
	}
}

func (r reviewer) code() []string {
	a := r.spec.Application
	says := []string{fmt.Sprintf("application %q runs %q", a.Name, strings.Join(a.Command, " "))}
	if a.Image != nil {
		says = append(says, "from image "+a.Image.Reference)
	}
	if rt := r.spec.Runtime; rt != nil {
		if rt.Binary != "" {
			says = append(says, "under the runtime program "+rt.Binary)
		}
		if rt.Image != nil {
			says = append(says, "beside the runtime image "+rt.Image.Reference)
		}
	}
	if port := a.GovernanceAPI; port != 0 {
		says = append(says, fmt.Sprintf("which may ask for consent, and with all parties' consent to logging put words of its own into the record that all parties read, at port %d of its own network", port))
	}
	for _, v := range r.spec.Code {
		says = append(says, fmt.Sprintf("with the code of %s in volume %s at %s: %s", r.yours(v.Party), v.Name, v.Mount, r.pinned(v.Name)))
	}
	return says
}

// pinned says which state of a volume it is.
func (r reviewer) pinned(name string) string {
	v, _ := r.contract.Volume(name)
	ref, err := format.ParseReference(v.Reference)
	if err != nil {
		return fmt.Sprintf("volume %s, key version %d, nothing in it yet", v.ID, v.KeyVersion)
	}
	return fmt.Sprintf("volume %s as it is in epoch %d, %s", ref.Volume, ref.Epoch, ref.Manifest)
}

func (r reviewer) data() (says []string) {
	for _, v := range r.spec.DataSources {
		says = append(says, fmt.Sprintf("application %q reads all files of %s in volume %s, at %s: %s", r.spec.Application.Name, r.yours(v.Party), v.Name, v.Mount, r.pinned(v.Name)))
	}
	if says == nil {
		return []string{"none"}
	}
	return says
}

func (r reviewer) outputs() (says []string) {
	if n := r.spec.Replicas(); n > 1 {
		says = append(says, fmt.Sprintf("%d replicas run, on the same data, and each writes volumes of its own; which of them is started, and how often, is the host's to say and the record's to show", n))
	}
	for _, v := range r.spec.Sinks() {
		who := []string{r.yours(v.Party)}
		for _, p := range v.Recipients {
			who = append(who, r.yours(p))
		}
		says = append(says, fmt.Sprintf("what application %q writes at %s goes to volume %s, which %s can open: %s", r.spec.Application.Name, v.Mount, v.Name, strings.Join(who, " and "), r.pinned(v.Name)))
	}
	if says == nil {
		return []string{"none"}
	}
	return append(says, "whoever can open an output sees all that the application puts there, and it has read all data above")
}

func (r reviewer) network() []string {
	n := r.spec.Network
	says := []string{}
	switch n.Egress {
	case spec.EgressList:
		for _, d := range n.Allow {
			says = append(says, fmt.Sprintf("the application may send anything it has read to %s, %s", d, looked(n.Proxy)))
		}
	case spec.EgressPolicy:
		says = append(says, fmt.Sprintf("the application may send, to any host, the HTTP requests that policy %s %s lets through; what a WebSocket carries once it is let through nobody looks at", n.Policy.File, n.Policy.Digest))
	case spec.EgressUnguarded:
		says = append(says, "the application is in the pod's network: nothing of ours keeps it from sending anything that it has read to what that reaches, nor from answering at a port of its own, without the runtime's TLS and policies, whoever reaches the pod's address")
	default:
		says = append(says, "the application reaches nothing outside")
	}
	if r.spec.Model == spec.Distributed && n.Egress != spec.EgressUnguarded {
		says = append(says, "that holds in a network that the shim makes for the application beside the runtime: where it may not make one, the application does not start")
	}
	if n.Egress == spec.EgressList || n.Egress == spec.EgressPolicy {
		says = append(says, "the record names the hosts that it reached, before it first reaches one, and how often; what it asked for in vain is counted and not named")
	}
	for _, e := range r.spec.Endpoints {
		says = append(says, fmt.Sprintf("clients may call endpoint %s at port %d, %s", e.Name, e.Port, judgedBy(e)))
	}
	if startedByAnybody(r.spec) {
		says = append(says, "the application starts when a client first connects, whoever that is: no endpoint speaks HTTP, in which a party would call for it")
	}
	if len(r.spec.Endpoints) == 0 {
		says = append(says, "nobody can call it")
	}
	return says
}

// jobs says who may have the application work, and what of it they are told.
func (r reviewer) jobs() []string {
	j := r.spec.Jobs
	switch {
	case j == nil && r.spec.Application.Start == spec.StartManual:
		return []string{"any party may start the run's one application, and end it"}
	case j == nil:
		return []string{"none; any party may end the run"}
	}
	says := []string{fmt.Sprintf("%s may start at most %d jobs in a run, %d at a time, with parameters of their own, which the record has by a digest and nobody else is shown; any party may cancel one",
		cmp.Or(r.together(j.Start), "nobody"), j.Most(), j.Together())}
	if j.Consent == spec.ConsentJob {
		says = append(says, "each job asks for consent before it starts")
	} else {
		says = append(says, "no job asks for consent by itself: it is asked at the run's start, and again while it goes on")
	}
	if j.MaxResult == 0 {
		return append(says, "a job's result is for nobody")
	}
	return append(says, fmt.Sprintf("%s may have anything the application puts into a job's result, at most %d bytes of each, and it has read all data above; the record tells its size, when it is handed over and to whom, before it is",
		r.together(j.Results), j.MaxResult))
}

func (r reviewer) together(parties []string) string {
	var who []string
	for _, p := range parties {
		if r.name != "" && p == r.name {
			who = append(who, "you")
			continue
		}
		who = append(who, "party "+p)
	}
	return strings.Join(who, " and ")
}

func startedByAnybody(s spec.Specification) bool {
	return s.Application.Start == spec.StartManual && len(s.Endpoints) > 0 && !slices.ContainsFunc(s.Endpoints, func(e spec.Endpoint) bool { return e.Protocol != spec.ProtocolTCP })
}

func looked(proxy string) string {
	if proxy == spec.ProxyOpen {
		return "as bytes that nobody looks at"
	}
	return "in HTTP requests, over TLS or not, that the runtime reads and forwards"
}

func judgedBy(e spec.Endpoint) string {
	if e.Policy == nil {
		return "and may be answered with anything that the application has read"
	}
	return fmt.Sprintf("as policy %s %s lets through", e.Policy.File, e.Policy.Digest)
}

func (r reviewer) keys() []string {
	says := []string{
		"key release policy " + r.contract.KeyReleasePolicy,
		"container policy " + r.contract.ContainerPolicy + ": no container under another one is given a key",
		"specification " + r.contract.Specification,
		fmt.Sprintf("that it is such a container is the word of %s, security version %d or higher", r.spec.Attestation.Authority, r.spec.Attestation.MinSVN),
	}
	if r.spec.Kind == spec.Simulated {
		says = append(says, "SIMULATED platform: none of this protects anything")
	}
	if r.spec.Model == spec.Distributed {
		says = append(says, "the application has a container of its own, and what the runtime can guard there is less; the parties' words for that: "+r.spec.AcceptedRisk)
	}
	return says
}

func (r reviewer) record() []string {
	g := r.spec.Governance
	says := []string{"ledger " + cmp.Or(g.Ledger, "on files") + " with key " + g.LedgerKey}
	if g.LedgerPolicy != "" {
		says = append(says, "nothing is said to it before it proves that its key is in a container under policy "+g.LedgerPolicy+": its operator signs nothing in its place; the record ends with that container")
	}
	if g.Refused == spec.RefusedKept {
		says = append(says, "the ledger keeps what parties and runs signed and it refused, the newest 1 to 2 MiB of it")
	}
	if len(g.Witnesses) == 0 && g.LedgerPolicy != "" {
		return append(says, "no witness: its operator can keep what is newer, such as a withdrawal, from reaching it")
	}
	if len(g.Witnesses) == 0 {
		return append(says, "no witness: its operator is believed about there being nothing newer, such as a withdrawal")
	}
	says = append(says, fmt.Sprintf("%d of the %d witnesses must have seen a checkpoint before a run believes it", cmp.Or(int(g.Threshold), len(g.Witnesses)), len(g.Witnesses)))
	for _, w := range g.WitnessAddresses {
		key, at, _ := strings.Cut(w, "@")
		name, _, _ := strings.Cut(key, "+")
		says = append(says, "witness "+name+" is asked at "+at+" by the doctors")
	}
	return says
}

// bitsPerRead: a read of one 4 KiB page out of a volume of 8 GiB tells the store
// one of 2^21 offsets.
const bitsPerRead = 21

// leaks is what the host and the stores see whatever is sealed (docs: rule 19 of
// the threat model): access pattern, timing, sizes after padding.
func (r reviewer) leaks() []string {
	var says []string
	for _, v := range append(append([]spec.Source(nil), r.spec.Code...), r.spec.DataSources...) {
		if v.Fetch != spec.FetchWhole {
			says = append(says, fmt.Sprintf("which parts of %s (of %s) are read, and when, shows to its store and the host: code that chooses its reads can tell them about %d bits of any data with each, so its author and the host together could leak; fetch: whole ends that",
				v.Name, r.yours(v.Party), bitsPerRead))
		}
	}
	for _, v := range r.spec.DataSinks {
		if v.Publish != spec.PublishAtEndPadded {
			says = append(says, fmt.Sprintf("when something is written to %s, and how much, shows to its store and the host: code that chooses both can tell them something of any data; publish: at-end, padded ends that", v.Name))
		}
	}
	return append(says, "how long a run takes, and the padded sizes of volumes, show to the host and the stores in any case")
}
