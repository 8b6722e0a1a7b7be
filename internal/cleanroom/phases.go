package cleanroom

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// StartCloud starts the simulated cloud: attestation service, key vault,
// managed HSM, identity, and a processor that plays AMD's.
func (r *Room) StartCloud() error {
	up := []string{"local", "up", "--dir", r.Path("cloud")}
	if r.Roles {
		up = append(up, "--roles")
	}
	if r.Groups {
		up = append(up, "--runtime", filepath.Join(r.bin, "cloisterd"))
	}
	if r.Azurite != "" {
		up = append(up, "--azurite", r.Azurite)
	}
	if err := r.Serve(up...); err != nil {
		return err
	}
	return r.readCloud()
}

// Prepare is each party at home: the hospital seals a folder with a key of its
// own, the analyst names the volume that the result will be.
func (r *Room) Prepare(source string) error {
	return r.WithOwner(func() error { return r.prepare(source) })
}

func (r *Room) prepare(source string) (err error) {
	if _, err = r.Cloister("prep", "keygen", r.Path("hospital.key")); err != nil {
		return err
	}
	if r.Reference, err = r.Cloister("prep", "encrypt", "--key", r.Path("hospital.key"), source, r.Store("input")); err != nil {
		return err
	}
	if _, err = r.Cloister("prep", "keygen", r.Path("analyst.key")); err != nil {
		return err
	}
	if err := r.prepareCode(); err != nil {
		return err
	}
	if r.Second != "" {
		if r.SecondReference, err = r.Cloister("prep", "encrypt", "--key", r.Path("analyst.key"), r.Second, r.Store("second")); err != nil {
			return err
		}
	}
	r.Sink, err = r.Cloister("prep", "sink", "--key", r.Path("analyst.key"))
	return err
}

func (r *Room) prepareCode() (err error) {
	if r.Code == "" {
		return nil
	}
	if _, err = r.Cloister("prep", "keygen", r.Path("author.key")); err != nil {
		return err
	}
	r.CodeReference, err = r.Cloister("prep", "encrypt", "--key", r.Path("author.key"), r.Code, r.Store("code"))
	return err
}

// parties are all there are.
func (r *Room) parties() []string {
	if r.Code == "" {
		return []string{"hospital", "analyst"}
	}
	return []string{"hospital", "analyst", "author"}
}

// Specify writes down what may run on whose data: a shell script, as nobody, in
// which $IN and $OUT are the mounts.
func (r *Room) Specify(script string) error {
	for _, party := range r.parties() {
		if _, err := r.Cloister("party", "keygen", "--name", party, r.Path(party+".party")); err != nil {
			return err
		}
	}
	ledgerKey, err := r.startLedger()
	if err != nil {
		return err
	}
	spec := r.specification()
	volume := func(kind, name, party, id, store, mount string) []string {
		return slices.Concat([]string{"spec", "add", kind, "--name", name, "--party", party, "--volume", id,
			"--store", r.Store(store), "--mount", r.Path("mnt", mount)}, r.keysOf(party), []string{spec})
	}
	sink := volume("datasink", "report", "analyst", strings.Split(r.Sink, ":")[0], "output", "report")
	sink = append(sink, r.Output...)
	for _, party := range r.Recipients {
		sink = append(sink, "--recipient", party)
	}
	model := []string{"spec", "set", "model", spec, "monolithic"}
	if r.Distributed {
		model = []string{"spec", "set", "model", "--accept-risk", "this is a test on one machine and nothing in it is a secret", spec, "distributed"}
	}
	application := slices.Concat([]string{"spec", "add", "application", "--name", "checksums", "--env", "PATH=/usr/bin:/bin",
		"--env", "IN=" + r.Path("mnt", "input"), "--env", "OUT=" + r.Path("mnt", "report")}, r.Application, []string{spec, "/bin/sh", "-c", script})
	var more [][]string // volumes, with whose they are
	if r.Code != "" {
		application = slices.Insert(application, 3, "--env", "CODE="+r.Path("mnt", "code"))
		more = [][]string{
			{"spec", "add", "party", "--name", "author", "--signing-key", r.Path("author.party.pub"), "--recipient-key", r.Path("author.party.pub"), spec},
			volume("code", "code", "author", strings.Split(r.CodeReference, ".")[1], "code", "code"),
		}
	}
	if r.Second != "" {
		application = slices.Insert(application, 3, "--env", "SECOND="+r.Path("mnt", "second"))
		second := volume("datasource", "second", "analyst", strings.Split(r.SecondReference, ".")[1], "second", "second")
		for i, word := range second { // a key of its own
			second[i] = strings.NewReplacer("analyst-kek", "second-kek", "analyst-dek", "second-dek").Replace(word)
		}
		more = append(more, second)
	}
	governance := slices.Concat([]string{"spec", "set", "governance", "--ledger-key", ledgerKey}, r.namedWitnesses(), []string{spec})
	if r.AttestedLedger {
		governance = append(governance, "--ledger-policy", r.LedgerPolicy())
	}
	if r.LedgerAddress {
		governance = append(governance, "--ledger", r.Ledger)
	}
	if err := r.nameReplicas(); err != nil {
		return err
	}
	var ports [][]string
	for _, options := range r.Ports {
		ports = append(ports, slices.Concat([]string{"spec", "add", "endpoint"}, options, []string{spec}))
	}
	if r.Work != nil {
		ports = append(ports, slices.Concat([]string{"spec", "set", "jobs"}, r.Work, []string{spec}))
	}
	return r.all(slices.Concat([][]string{
		{"spec", "init", "--name", "source-report", "--kind", "simulated", spec},
		{"spec", "set", "kind", "--runtime-binary", filepath.Join(r.bin, "cloisterd"), spec, "simulated"},
		governance,
		{"spec", "set", "attestation", "--authority", r.Endpoints.Attestation, "--min-svn", "100", spec},
		{"spec", "add", "party", "--name", "hospital", "--signing-key", r.Path("hospital.party.pub"), "--recipient-key", r.Path("hospital.party.pub"), spec},
		{"spec", "add", "party", "--name", "analyst", "--signing-key", r.Path("analyst.party.pub"), "--recipient-key", r.Path("analyst.party.pub"), spec},
		application,
		append(volume("datasource", "source", "hospital", strings.Split(r.Reference, ".")[1], "input", "input"), r.Input...),
		sink,
		{"spec", "set", "deployment", "--replicas", fmt.Sprint(max(1, r.Replicas)), spec},
		model,
		append([]string{"spec", "set", "network", spec}, r.network()...),
	}, more, ports, [][]string{{"spec", "validate", spec}})...)
}

// nameReplicas has the analyst name the outputs of all replicas, where there are
// several.
func (r *Room) nameReplicas() error {
	if r.Replicas < 2 {
		return nil
	}
	lines, err := r.Cloister("prep", "sink", "--key", r.Path("analyst.key"), "--volume", strings.Split(r.Sink, ":")[0], "--replicas", fmt.Sprint(r.Replicas))
	r.Sinks = strings.Fields(lines)
	return err
}

func (r *Room) network() []string {
	if len(r.Network) == 0 {
		return []string{"closed"}
	}
	return r.Network
}

// startLedger makes the contract's log and serves it, to the parties and to runs
// that the simulated processor vouches for.
func (r *Room) startLedger() (key string, err error) {
	if r.AttestedLedger {
		return r.startAttestedLedger()
	}
	key, err = r.finish(r.Command("cloister-ledger", slices.Concat([]string{"init"}, r.proposers(), []string{r.Path("ledger")})...))
	if err != nil {
		return "", err
	}
	witnesses, err := r.initWitnesses(key)
	if err != nil {
		return "", err
	}
	serve := append([]string{"serve", "--platform", "simulated:" + r.Path("cloud"), "--listen", "127.0.0.1:0"}, witnesses...)
	url, err := r.serve(r.Command("cloister-ledger", append(serve, r.Path("ledger"))...))
	r.Ledger = url + ",ca=" + r.Path("ledger", "tls.pem")
	return key, err
}

// proposers are the parties, as options of cloister-ledger.
func (r *Room) proposers() (options []string) {
	for _, party := range r.parties() {
		options = append(options, "--party", r.Path(party+".party.pub"))
	}
	return options
}

// LedgerPolicy is the path of the container policy of an attested ledger.
func (r *Room) LedgerPolicy() string { return r.Path("ledger-policy.rego") }

// startAttestedLedger has the parties believe a ledger's key for its evidence.
func (r *Room) startAttestedLedger() (key string, err error) {
	if err := os.WriteFile(r.LedgerPolicy(), []byte("# Simulated platform.\npackage cloister_simulated_ledger\n"), 0o644); err != nil {
		return "", err
	}
	if err := r.Guest("ledger-guest", r.LedgerPolicy()); err != nil {
		return "", err
	}
	if err := r.ServeAttested("ledger-guest", "ledger"); err != nil {
		return "", err
	}
	return r.Cloister("ledger", "key", "--ledger", r.Ledger, "--policy", r.LedgerPolicy())
}

// ServeAttested starts an attested ledger in a guest, of a new log in a folder, and
// makes it the room's.
func (r *Room) ServeAttested(guest, folder string) error {
	url, err := r.serve(r.Command("cloister-ledger", slices.Concat([]string{"serve", "--attest", "--platform", "simulated:" + r.Path(guest), "--listen", "127.0.0.1:0"},
		r.proposers(), []string{r.Path(folder)})...))
	r.Ledger = url + ",platform=simulated:" + r.Path("cloud")
	return err
}

// keysOf is where a party's keys are.
func (r *Room) keysOf(party string) []string {
	if slices.Contains(r.AtBroker, party) {
		return []string{"--broker", r.Endpoints.Broker + ",ca=" + r.Path("cloud", "ca.pem")}
	}
	return []string{"--kek", party + "-kek", "--vault", r.Endpoints.HSM, "--secret", r.Endpoints.Vault + "/secrets/" + party + "-dek"}
}

func (r *Room) specification() string { return r.Path("specification.yaml") }

// Policy is the path of the container policy that PreProvision writes.
func (r *Room) Policy() string { return r.Path("policy", "container-policy.rego") }

// ReleasePolicy is the path of the key release policy that PreProvision writes.
func (r *Room) ReleasePolicy() string { return r.Path("policy", "key-release-policy.json") }

// PreProvision translates the specification into what the platform enforces.
func (r *Room) PreProvision() error {
	return r.all([]string{"policy", "generate", "--out", r.Path("policy"), r.specification()})
}

// By adds to a command of governance whose word it is.
func (r *Room) By(party string, args ...string) []string {
	args = append(args, "--ledger", r.Ledger, "--party", r.Path(party+".party"))
	if r.AttestedLedger && !slices.Contains(args, "--specification") {
		args = append(args, "--specification", r.specification())
	}
	return args
}

// Agree is the contract: both parties approve the same digests, and consent.
func (r *Room) Agree() error {
	propose := r.By("analyst", "contract", "propose", "--specification", r.specification(), "--volume", "source="+r.Reference)
	for i, sink := range r.Sinks {
		propose = append(propose, "--volume", fmt.Sprintf("report-%d=%s", i, sink))
	}
	if r.Sinks == nil {
		propose = append(propose, "--volume", "report="+r.Sink)
	}
	if r.Code != "" {
		propose = append(propose, "--volume", "code="+r.CodeReference)
	}
	if r.Second != "" {
		propose = append(propose, "--volume", "second="+r.SecondReference)
	}
	commands := [][]string{propose}
	for _, party := range r.parties() {
		commands = append(commands, r.By(party, "contract", "approve", "--specification", r.specification()))
	}
	for _, party := range r.parties() {
		commands = append(commands, r.By(party, "consent", "grant"))
	}
	return r.all(commands...)
}

// Provision puts each party's keys where only the agreed container gets them. Of
// a key broker, that is its operator's to say too.
func (r *Room) Provision() error {
	volumes := map[string]string{"hospital": "source", "analyst": "report", "author": "code"}
	if r.Second != "" {
		apply := r.By("analyst", "provision", "apply", "--specification", r.specification(), "--key", r.Path("analyst.key"), "--key-release-policy", r.ReleasePolicy())
		if err := r.AsOwner(append(apply, "second")...); err != nil {
			return err
		}
	}
	for _, party := range r.parties() {
		apply := r.By(party, "provision", "apply", "--specification", r.specification(), "--key", r.Path(party+".key"))
		if !slices.Contains(r.AtBroker, party) {
			if err := r.AsOwner(append(apply, "--key-release-policy", r.ReleasePolicy(), volumes[party])...); err != nil {
				return err
			}
			continue
		}
		if err := r.all(append(apply, "--broker-token", r.Path("cloud", "broker-admin.jwt"), volumes[party]),
			[]string{"local", "admit", "--dir", r.Path("cloud"), "--policy", r.Policy(), party + "/wrapped-dek/" + volumes[party], party + "/kek/" + volumes[party]}); err != nil {
			return err
		}
	}
	return nil
}

// AsOwner runs a command of an owner's: as the cloud's owner, and for the clean
// room's identity, where roles are checked.
func (r *Room) AsOwner(args ...string) error {
	if !r.Roles {
		return r.all(args)
	}
	raw, err := os.ReadFile(r.Path("cloud", "keys", "identities.json"))
	if err != nil {
		return err
	}
	var identities []struct{ Name, ObjectID string }
	if err := json.Unmarshal(raw, &identities); err != nil {
		return err
	}
	for _, i := range identities {
		if i.Name == "clean-room" {
			args = slices.Insert(args, len(args)-1, "--principal", i.ObjectID)
		}
	}
	return r.WithOwner(func() error { return r.all(args) })
}

// WithOwner does something as the cloud's owner, where roles are checked.
func (r *Room) WithOwner(do func() error) error {
	if !r.Roles {
		return do()
	}
	defer func(env []string) { r.Env = env }(r.Env)
	lines, err := r.Cloister("local", "env", "--dir", r.Path("cloud"), "--identity", "owner")
	if err != nil {
		return err
	}
	r.Env = strings.Fields(lines)
	return do()
}

// Guest launches a simulated container under a container policy.
func (r *Room) Guest(name, policy string) error {
	return r.all([]string{"local", "guest", "--dir", r.Path("cloud"), "--policy", policy, r.Path(name)})
}

// Doctor has the runtime's doctor look at what a run in a guest depends on.
func (r *Room) Doctor(guest string) error {
	_, err := r.finish(r.Command("cloisterd", "doctor", "--specification", r.Path("specification.json"),
		"--ledger", r.Ledger, "--platform", "simulated:"+r.Path(guest), "--allow-swap"))
	return err
}

// Runtime makes the command that is run in a guest.
func (r *Room) Runtime(guest string, args ...string) (*exec.Cmd, error) {
	digest, err := r.Cloister("spec", "digest", r.specification())
	if err != nil {
		return nil, err
	}
	canonical, err := r.Command("cloister", "spec", "show", "--json", r.specification()).Output()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.Path("specification.json"), canonical, 0o644); err != nil {
		return nil, err
	}
	ledgerKey, err := os.ReadFile(r.Path("ledger", "ledger.pub"))
	if err != nil {
		return nil, err
	}
	// A simulated guest protects nothing, so it may run where the machine swaps.
	args = append([]string{"run", "--specification-digest", digest, "--ledger-key", strings.TrimSpace(string(ledgerKey)),
		"--specification", r.Path("specification.json"), "--ledger", r.Ledger, "--platform", "simulated:" + r.Path(guest), "--allow-swap"}, args...)
	return r.Command("cloisterd", args...), nil
}
