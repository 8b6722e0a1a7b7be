package spec

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Limits: far above any use, so that what a stranger wrote stays small.
const (
	maxItems   = 256  // of any list
	maxText    = 4096 // bytes of any text
	maxMinimum = 1 << 16
)

// minimumSVN is the lowest security version of the utility VM that Azure runs
// in production; a floor below it would admit versions with known holes.
const minimumSVN = 100

// Validate returns nil or all problems (type Problems in the chain), of kind
// fault.Usage.
func (s Specification) Validate() error { return s.Problems().Err() }

// Problems returns everything wrong with the specification, in the order of
// its fields.
func (s Specification) Problems() Problems {
	c := &checks{}
	s.checkHead(c)
	s.checkParties(c)
	s.checkIdentities(c)
	s.checkRuntime(c)
	s.checkApplication(c)
	s.checkVolumes(c)
	s.checkNetwork(c)
	s.checkJobs(c)
	s.checkGovernance(c)
	s.checkAttestation(c)
	s.checkDeployment(c)
	return c.problems
}

func (s Specification) checkHead(c *checks) {
	c.oneOf("apiVersion", s.APIVersion, APIVersion)
	c.name("name", s.Name)
	s.checkLabel(c, "name", s.Name)
	c.oneOf("kind", string(s.Kind), string(ACI), string(AKS), string(CVM), string(Simulated))
	s.checkCloud(c)
	c.oneOf("model", s.Model, Monolithic, Distributed)
	s.checkResidualRisk(c)
}

// minRiskWords is what no sentence that names a risk and says why it is
// acceptable does without; a single word would be a tick in a box.
const minRiskWords = 8

// checkResidualRisk: in a pod it is the shim that keeps the application to a network
// of its own and from the attestation device, with what an unprivileged container may
// do, and with egress unguarded nothing keeps it to a network, so the parties must
// have said that they know.
func (s Specification) checkResidualRisk(c *checks) {
	c.publicText("acceptedRisk", s.AcceptedRisk)
	words := len(strings.Fields(s.AcceptedRisk))
	switch {
	case s.Model != Distributed && s.AcceptedRisk != "":
		c.add("acceptedRisk", "only the distributed model has this risk", "take it out")
	case s.Model == Distributed && words < minRiskWords:
		at := "acceptedRisk"
		if words == 0 {
			at = "model" // which has a line
		}
		c.add(at, "the distributed model guards less: the application has a container of its own beside the runtime's, in one pod with its network and the attestation device",
			fmt.Sprintf("say in acceptedRisk, in %d words or more, why the parties accept that, or use model %s", minRiskWords, Monolithic))
	}
}

func (s Specification) checkCloud(c *checks) {
	if s.Cloud == "" {
		return
	}
	c.oneOf("cloud", string(s.Cloud), string(PublicCloud), string(USGovernmentCloud), string(ChinaCloud))
	if s.Kind == Simulated {
		c.add("cloud", "kind simulated is in none of Azure's clouds", "take cloud out")
	}
}

func (s Specification) checkParties(c *checks) {
	c.count("parties", len(s.Parties))
	if len(s.Parties) == 0 {
		c.missing("parties", "nobody has to agree", "add one with cloister spec add party")
	}
	names := c.unique("a party of this name")
	keys := c.unique("this signing key under another name")
	for i, p := range s.Parties {
		at := fmt.Sprintf("parties[%d]", i)
		c.name(at+".name", p.Name)
		names(at+".name", p.Name)
		c.key(at+".signingKey", p.SigningKey, signing)
		keys(at+".signingKey", p.SigningKey)
		if p.RecipientKey != "" {
			c.key(at+".recipientKey", p.RecipientKey, recipient)
		}
	}
}

func (s Specification) checkIdentities(c *checks) {
	c.count("identities", len(s.Identities))
	names := c.unique("an identity of this name")
	for i, id := range s.Identities {
		at := fmt.Sprintf("identities[%d]", i)
		c.name(at+".name", id.Name)
		names(at+".name", id.Name)
		c.uuid(at+".clientId", id.ClientID)
		if id.TenantID != "" {
			c.uuid(at+".tenantId", id.TenantID)
		}
		if id.ResourceID != "" {
			c.resource(at+".resourceId", id.ResourceID, identityResource, "a user-assigned managed identity")
		}
	}
}

func (s Specification) checkGovernance(c *checks) {
	g := s.Governance
	s.checkLedger(c)
	if g.LedgerKey == "" {
		c.missing("governance.ledgerKey", "no ledger is named whose record is believed", "set it with cloister spec set governance")
	} else {
		c.logKey("governance.ledgerKey", g.LedgerKey, noteEd25519, "signs checkpoints")
	}
	c.optional("governance.refused", g.Refused, RefusedKept)
	if g.LedgerPolicy != "" {
		c.digest("governance.ledgerPolicy", g.LedgerPolicy)
		if s.Kind == CVM {
			c.add("governance.ledgerPolicy", "a ledger is attested in a container, and kind cvm does not say which version of the utility VM is good enough", "take it out, or set kind aci or aks")
		}
	}
	c.count("governance.witnesses", len(g.Witnesses))
	twice := c.unique("this witness")
	for i, w := range g.Witnesses {
		at := fmt.Sprintf("governance.witnesses[%d]", i)
		c.logKey(at, w, noteCosignature, "cosigns")
		twice(at, w)
	}
	c.count("governance.witnessAddresses", len(g.WitnessAddresses))
	twiceAt := c.unique("the address of this witness")
	for i, w := range g.WitnessAddresses {
		key := c.witnessAddress(fmt.Sprintf("governance.witnessAddresses[%d]", i), w, g.Witnesses)
		twiceAt(fmt.Sprintf("governance.witnessAddresses[%d]", i), key)
	}
	if int64(g.Threshold) > int64(len(g.Witnesses)) {
		c.add("governance.threshold", fmt.Sprintf("%d of %d witnesses cannot cosign", g.Threshold, len(g.Witnesses)), "name more witnesses, or fewer that must")
	}
}

// witnessAddress wants KEY@URL of one of the witnesses, and returns the key. What is
// said there is signed, so it need not be https.
func (c *checks) witnessAddress(at, address string, witnesses []string) string {
	key, where, _ := strings.Cut(address, "@")
	if !slices.Contains(witnesses, key) {
		c.add(at, fmt.Sprintf("%.200q is of none of the witnesses", address), "write KEY@URL, of a witness that is named")
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(where) > maxText {
		c.add(at, fmt.Sprintf("%.200q is no address of a witness", where), "write KEY@URL, as cloister witness serve prints it")
	}
	return key
}

// checkLedger: who deploys a container cannot tell it where the ledger is, as the
// container policy admits no such word of theirs.
func (s Specification) checkLedger(c *checks) {
	g := s.Governance
	switch {
	case g.Ledger != "":
		c.url("governance.ledger", g.Ledger, anyPath)
	case s.Kind.StartsContainers():
		c.missing("governance.ledger", fmt.Sprintf("a container of kind %s would not find its ledger", s.Kind), "set it with cloister spec set governance --ledger URL")
	case g.LedgerCA != "":
		c.add("governance.ledgerCA", "there is no ledger whose certificate it ends", "set governance.ledger, or take it out")
	}
	c.certificate("governance.ledgerCA", g.LedgerCA)
}

func (s Specification) checkAttestation(c *checks) {
	a := s.Attestation
	c.count("attestation.transparencyKeys", len(a.TransparencyKeys))
	twice := c.unique("this key")
	for i, key := range a.TransparencyKeys {
		at := fmt.Sprintf("attestation.transparencyKeys[%d]", i)
		c.key(at, key, transparency)
		twice(at, key)
	}
	if a.Authority == "" {
		c.missing("attestation.authority", "no attestation service is named", "set it with cloister spec set attestation")
		return
	}
	u := c.url("attestation.authority", a.Authority, noHTTP)
	if u != nil && isLoopback(u) != (s.Kind == Simulated) {
		c.add("attestation.authority", fmt.Sprintf("%s does not fit kind %s", a.Authority, s.Kind),
			"the simulated platform's service is on loopback, and a real one never is")
	}
	if s.Kind == CVM {
		if a.MinSVN != 0 {
			c.add("attestation.minSVN", "kind cvm has no utility VM, whose version it would be the floor of", "take it out")
		}
		return
	}
	floor := uint32(minimumSVN)
	if s.Kind == Simulated {
		floor = 1
	}
	if a.MinSVN < floor || a.MinSVN > maxMinimum {
		c.add("attestation.minSVN", fmt.Sprintf("%d is not in %d to %d", a.MinSVN, floor, maxMinimum), "use the newest published minimum")
	}
}

// Party returns the party of that name.
func (s Specification) Party(name string) (Party, bool) {
	i := slices.IndexFunc(s.Parties, func(p Party) bool { return p.Name == name })
	if i < 0 {
		return Party{}, false
	}
	return s.Parties[i], true
}
