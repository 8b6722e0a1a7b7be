package spec

import (
	"fmt"
	"path"
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

// reserved are the directories a volume cannot be mounted on, above or below:
// the system, the platform and the runtime have their own there.
var reserved = [...]string{
	"/bin", "/boot", "/cloister", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/security-context", "/sys", "/usr",
}

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
	s.checkGovernance(c)
	s.checkAttestation(c)
	return c.problems
}

func (s Specification) checkHead(c *checks) {
	c.oneOf("apiVersion", s.APIVersion, APIVersion)
	c.name("name", s.Name)
	c.oneOf("kind", string(s.Kind), string(ACI), string(AKS), string(CVM), string(Simulated))
	c.oneOf("model", s.Model, Monolithic)
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
	}
}

// checkRuntime keeps the simulated platform's stand-in for an image and real
// images apart, in both directions.
func (s Specification) checkRuntime(c *checks) {
	switch {
	case s.Kind == Simulated && s.Runtime == nil:
		c.missing("runtime", "kind simulated has no image, so the runtime's binary must be named", "set it with cloister spec set kind --runtime-binary")
	case s.Kind != Simulated && s.Runtime != nil:
		c.add("runtime", "a binary stands in for an image only in kind simulated", "take runtime out; the image, or the VM's system, is measured")
	case s.Runtime != nil:
		c.digest("runtime.binary", s.Runtime.Binary)
	}
}

func (s Specification) checkApplication(c *checks) {
	a := s.Application
	if a.Name == "" && len(a.Command) == 0 {
		c.missing("application", "nothing is to run", "add it with cloister spec add application")
		return
	}
	c.name("application.name", a.Name)
	s.checkImage(c)
	c.count("application.command", len(a.Command))
	if len(a.Command) == 0 {
		c.add("application.command", "is empty", "give the program and its arguments")
	}
	for i, arg := range a.Command {
		at := fmt.Sprintf("application.command[%d]", i)
		c.text(at, arg)
		if i == 0 && !path.IsAbs(arg) {
			c.add(at, fmt.Sprintf("%q is not an absolute path", arg), "the runtime has no search path; write the program's full path")
		}
	}
	c.environment("application.environment", a.Environment)
	if a.WorkingDir != "" {
		c.absolute("application.workingDir", a.WorkingDir)
	}
	if a.User != nil && (a.User.UID == 0 || a.User.GID == 0) {
		c.add("application.user", "is root", "give a user and a group other than 0")
	}
}

func (s Specification) checkImage(c *checks) {
	image := s.Application.Image
	if s.Kind == Simulated || s.Kind == CVM {
		if image != nil {
			c.add("application.image", fmt.Sprintf("kind %s starts no image", s.Kind), "take it out, or set another kind")
		}
		return
	}
	if image == nil {
		c.missing("application.image", "a container needs an image", "give it by digest, with its layers")
		return
	}
	c.imageReference("application.image.reference", image.Reference)
	c.count("application.image.layers", len(image.Layers))
	if len(image.Layers) == 0 {
		c.add("application.image.layers", "is empty", "give each layer's dm-verity root hash, lowest first")
	}
	for i, layer := range image.Layers {
		c.hex(fmt.Sprintf("application.image.layers[%d]", i), layer, 32, "a dm-verity root hash")
	}
}

func (s Specification) checkNetwork(c *checks) {
	c.oneOf("network.egress", s.Network.Egress, EgressClosed)
	c.count("endpoints", len(s.Endpoints))
	names, ports := c.unique("an endpoint of this name"), c.unique("an endpoint on this port")
	for i, e := range s.Endpoints {
		at := fmt.Sprintf("endpoints[%d]", i)
		c.name(at+".name", e.Name)
		names(at+".name", e.Name)
		ports(at+".port", fmt.Sprint(e.Port))
		if e.Port < 1 || e.Port > 65535 {
			c.add(at+".port", fmt.Sprintf("%d is not a port", e.Port), "use 1 to 65535")
		}
	}
}

func (s Specification) checkGovernance(c *checks) {
	g := s.Governance
	if g.Ledger != "" {
		c.url("governance.ledger", g.Ledger, anyPath)
	}
	if g.LedgerKey == "" {
		c.missing("governance.ledgerKey", "no ledger is named whose record is believed", "set it with cloister spec set governance")
	} else {
		c.logKey("governance.ledgerKey", g.LedgerKey)
	}
	c.count("governance.witnesses", len(g.Witnesses))
	twice := c.unique("this witness")
	for i, w := range g.Witnesses {
		at := fmt.Sprintf("governance.witnesses[%d]", i)
		c.logKey(at, w)
		twice(at, w)
	}
}

func (s Specification) checkAttestation(c *checks) {
	a := s.Attestation
	if a.Authority == "" {
		c.missing("attestation.authority", "no attestation service is named", "set it with cloister spec set attestation")
		return
	}
	u := c.url("attestation.authority", a.Authority, noHTTP)
	if u != nil && isLoopback(u) != (s.Kind == Simulated) {
		c.add("attestation.authority", fmt.Sprintf("%s does not fit kind %s", a.Authority, s.Kind),
			"the simulated platform's service is on loopback, and a real one never is")
	}
	floor := uint32(minimumSVN)
	if s.Kind == Simulated {
		floor = 1
	}
	if a.MinSVN < floor || a.MinSVN > maxMinimum {
		c.add("attestation.minSVN", fmt.Sprintf("%d is not in %d to %d", a.MinSVN, floor, maxMinimum), "use the newest published minimum")
	}
}

// checkMounts refuses a mount that hides another, or that hides or lies in
// what the platform and the runtime need.
func checkMounts(c *checks, volumes []placed) {
	for i, v := range volumes {
		at := v.at + ".mount"
		if !c.absolute(at, v.Mount) {
			continue
		}
		if slices.ContainsFunc(reserved[:], func(dir string) bool { return overlap(v.Mount, dir) }) {
			c.add(at, fmt.Sprintf("%q is a reserved path", v.Mount), "mount it elsewhere, for example under /mnt")
		}
		for _, other := range volumes[:i] {
			if overlap(v.Mount, other.Mount) {
				c.add(at, fmt.Sprintf("%q overlaps %s %q", v.Mount, other.at+".mount", other.Mount), "give each volume a directory of its own")
			}
		}
	}
}

// overlap reports whether one of two clean absolute paths is the other or
// lies in it.
func overlap(a, b string) bool {
	a, b = strings.TrimSuffix(a, "/")+"/", strings.TrimSuffix(b, "/")+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// placed is a volume with its path in the document.
type placed struct {
	at string
	Source
}

func (s Specification) volumes() []placed {
	var all []placed
	for i, v := range s.Code {
		all = append(all, placed{fmt.Sprintf("code[%d]", i), v})
	}
	for i, v := range s.DataSources {
		all = append(all, placed{fmt.Sprintf("datasources[%d]", i), v})
	}
	for i, v := range s.DataSinks {
		all = append(all, placed{fmt.Sprintf("datasinks[%d]", i), v.Source()})
	}
	return all
}

func (s Specification) checkVolumes(c *checks) {
	c.count("code", len(s.Code))
	c.count("datasources", len(s.DataSources))
	c.count("datasinks", len(s.DataSinks))
	all := s.volumes()
	names, ids := c.unique("a volume of this name"), c.unique("this volume")
	for _, v := range all {
		c.name(v.at+".name", v.Name)
		names(v.at+".name", v.Name)
		s.checkVolume(c, v)
		ids(v.at+".volume", v.Volume)
	}
	checkMounts(c, all)
	for i, sink := range s.DataSinks {
		s.checkRecipients(c, fmt.Sprintf("datasinks[%d].recipients", i), sink.Recipients)
	}
}

func (s Specification) checkVolume(c *checks, v placed) {
	if _, ok := s.Party(v.Party); !ok {
		c.add(v.at+".party", fmt.Sprintf("%q is not among the parties", v.Party), "add the party first, or correct the name")
	}
	c.hex(v.at+".volume", v.Volume, 16, "a volume id")
	if s.Kind == Simulated && strings.HasPrefix(v.Store, "/") {
		c.absolute(v.at+".store", v.Store)
	} else {
		c.url(v.at+".store", v.Store, anyPath)
	}
	c.keyName(v.at+".key.kek", v.Key.KEK)
	c.url(v.at+".key.vault", v.Key.Vault, noPath)
	c.secretURL(v.at+".key.secret", v.Key.Secret)
	known := slices.ContainsFunc(s.Identities, func(id Identity) bool { return id.Name == v.Identity })
	if v.Identity != "" && !known {
		c.add(v.at+".identity", fmt.Sprintf("%q is not among the identities", v.Identity), "add the identity first, or correct the name")
	}
}

func (s Specification) checkRecipients(c *checks, at string, recipients []string) {
	c.count(at, len(recipients))
	twice := c.unique("this recipient")
	for i, name := range recipients {
		at := fmt.Sprintf("%s[%d]", at, i)
		twice(at, name)
		party, ok := s.Party(name)
		switch {
		case !ok:
			c.add(at, fmt.Sprintf("%q is not among the parties", name), "add the party first, or correct the name")
		case party.RecipientKey == "":
			c.add(at, fmt.Sprintf("party %q has no recipientKey", name), "add the key that results are sealed for to the party")
		}
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
