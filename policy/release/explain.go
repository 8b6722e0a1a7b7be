package release

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Explanation says in words who could get a key.
type Explanation struct {
	// Ways are sentences, a list for each way to the key.
	Ways [][]string `json:"ways"`
	// Warnings say who else could than one container that is as it should be.
	Warnings []Warning `json:"warnings"`
}

// Warning is a weakness, by a name that scripts can look for.
type Warning struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// The names of warnings.
const (
	NoHostData        = "no-host-data"
	NoType            = "no-attestation-type"
	NoCompliance      = "no-compliance-status"
	NoDebug           = "no-debug"
	NoVMPL            = "no-vmpl"
	NoSVN             = "no-svn-floor"
	WildcardAuthority = "wildcard-authority"
	ForeignAuthority  = "foreign-authority"
	Never             = "never-met"
	Mutable           = "mutable"
	SimulatedOnly     = "simulated"
)

// Explain looks at every way to the key. mutable is what the vault says of the
// key's policy; nil where it is not known. Errors are those of Ways.
func Explain(p Policy, mutable *bool) (Explanation, error) {
	ways, err := p.Ways()
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Ways: [][]string{}, Warnings: []Warning{}}
	for i, w := range ways {
		e.Ways = append(e.Ways, w.sentences())
		for _, warning := range w.warnings() {
			if len(ways) > 1 {
				warning.Text = fmt.Sprintf("way %d: %s", i+1, warning.Text)
			}
			e.Warnings = append(e.Warnings, warning)
		}
	}
	if len(ways) == 0 {
		e.Warnings = append(e.Warnings, Warning{Never, "nobody is ever given the key"})
	}
	if mutable != nil && *mutable {
		e.Warnings = append(e.Warnings, Warning{Mutable, "the policy is not immutable: who may update the key in the vault may put another policy in its place, and then get it"})
	}
	return e, nil
}

func (w Way) sentences() []string {
	list := []string{"the attestation service " + w.Authority + " vouches for it"}
	for _, c := range w.Conditions {
		list = append(list, c.sentence())
	}
	return list
}

// sentence puts what is known of Azure's claims in words. What is not is shown
// as it is.
func (c Condition) sentence() string {
	v := c.Value.Text()
	if c.Operator == GreaterOrEquals && c.Claim == claimGuestSVN {
		return "its guest's security version is " + v + " or higher"
	}
	if c.Operator != Equals {
		return "its " + c.String()
	}
	switch {
	case c.Claim == claimType && v == "sevsnpvm":
		return "it is in a virtual machine of AMD SEV-SNP"
	case c.Claim == claimCompliance && v == "azure-compliant-uvm":
		return "it is a confidential container of Azure, in a utility VM that Azure has signed"
	case c.Claim == claimHostData:
		return "it runs under the container policy whose SHA-256 is " + v
	case c.Claim == claimDebuggable && v == "false":
		return "its memory cannot be read by a debugger on the host"
	case c.Claim == claimVMPL && v == "0":
		return "the report was asked for at the highest privilege in it (VMPL 0), not by the host"
	case c.Claim == SimulatedClaim && v == "true":
		return "it is SIMULATED: a program on a developer's machine, which protects nothing"
	default:
		return "its " + c.String()
	}
}

// asks reports whether the way's conditions hold a claim to a value; a statement
// that something else is so does not.
func (w Way) asks(claim string, op Operator, fits func(string) bool) bool {
	return slices.ContainsFunc(w.Conditions, func(c Condition) bool { return c.Claim == claim && c.Operator == op && fits(c.Value.Text()) })
}

func (w Way) warnings() (list []Warning) {
	is := func(want string) func(string) bool { return func(v string) bool { return v == want } }
	isHash := func(v string) bool { return len(v) == 64 && strings.Trim(strings.ToLower(v), "0123456789abcdef") == "" }
	positive := func(v string) bool { n, ok := number(v); return ok && n.Sign() > 0 }
	for _, lint := range []struct {
		name, claim string
		op          Operator
		fits        func(string) bool
		text        string
	}{
		{NoHostData, claimHostData, Equals, isHash, "any container policy will do: whoever can start a confidential container gets the key"},
		{NoType, claimType, Equals, is("sevsnpvm"), "the kind of evidence is not asked for: a virtual machine with a TPM may do"},
		{NoCompliance, claimCompliance, Equals, is("azure-compliant-uvm"), "a utility VM need not be Azure's: one that enforces no policy could claim any"},
		{NoDebug, claimDebuggable, Equals, is("false"), "a debuggable virtual machine will do: its host reads the key from its memory"},
		{NoVMPL, claimVMPL, Equals, is("0"), "the privilege level is not asked for: a less privileged part of the guest may get the key"},
		{NoSVN, claimGuestSVN, GreaterOrEquals, positive, "there is no floor for the guest's security version: one with known holes will do"},
	} {
		if !w.asks(lint.claim, lint.op, lint.fits) {
			list = append(list, Warning{lint.name, lint.text})
		}
	}
	return append(list, w.authorityWarnings()...)
}

func (w Way) authorityWarnings() []Warning {
	u, err := url.Parse(w.Authority)
	simulated := w.asks(SimulatedClaim, Equals, func(v string) bool { return v == "true" })
	switch {
	case err != nil || strings.ContainsAny(u.Host, "*?"):
		return []Warning{{WildcardAuthority, "the authority is a pattern: whoever runs any service that it matches decides who gets the key"}}
	case simulated || onLoopback(w.Authority):
		return []Warning{{SimulatedOnly, "only the simulated platform is meant: it protects nothing"}}
	case !strings.HasSuffix(strings.ToLower(u.Hostname()), ".attest.azure.net"):
		return []Warning{{ForeignAuthority, "the authority " + w.Authority + " is no attestation service of Azure's: whoever runs it decides who gets the key"}}
	default:
		return nil
	}
}
