package statement

import "fmt"

// Propose opens a contract's log with version 1 of the contract.
type Propose struct {
	Contract Contract `json:"contract"`
	// Specification is the canonical specification that Contract names by its
	// digest, where it is short enough to be in the log. Nobody approves it: they
	// approve the digest.
	Specification []byte `json:"specification,omitempty"`
}

// Amend puts a new version in the place of the one before. Approvals and
// consent given to earlier versions lapse.
type Amend struct {
	Contract Contract `json:"contract"`
	// Specification is as in Propose.
	Specification []byte `json:"specification,omitempty"`
}

// MaxSpecification is the longest specification in bytes that a proposal
// carries. Base64 twice makes 28 KiB of it 50 KiB of an entry, which leaves a
// fifth of MaxEntry to the contract.
const MaxSpecification = 28 << 10

// Approve approves exactly the version that has this digest.
type Approve struct {
	Digest string `json:"digest"`
}

// Reject vetoes the version that has this digest.
type Reject struct {
	Digest string `json:"digest"`
	Reason string `json:"reason,omitempty"`
}

// Withdraw ends the contract for all parties, for good.
type Withdraw struct {
	Reason string `json:"reason,omitempty"`
}

// What consent can be given to.
const (
	ScopeExecution = "execution"
	ScopeLogging   = "logging"
	ScopeTelemetry = "telemetry"
)

// ConsentGrant gives a party's consent to this version of the contract, in
// place of what it granted before for the same scopes.
type ConsentGrant struct {
	// Expires ends the grant; nil is no end.
	Expires *Time `json:"expires,omitempty"`
	// Runs is how many runs may begin under this grant; 0 is any number.
	Runs uint64 `json:"runs,omitempty"`
	// Scopes in rising order.
	Scopes []string `json:"scopes"`
}

// ConsentWithdraw takes a party's consent back, also from running enclaves.
type ConsentWithdraw struct {
	Reason string   `json:"reason,omitempty"`
	Scopes []string `json:"scopes"`
}

// ProvisionRequest asks the owners of these volumes to put their keys where the
// accepted version of the contract says.
type ProvisionRequest struct {
	// Volumes are names, in rising order.
	Volumes []string `json:"volumes"`
}

// ProvisionDecline answers a request: the party will not provision its volumes.
type ProvisionDecline struct {
	Reason  string   `json:"reason,omitempty"`
	Volumes []string `json:"volumes"`
}

// Provisioned answers a request, or comes without one. It says that a party has put these resources in place.
type Provisioned struct {
	// Resources in rising order of names.
	Resources []Resource `json:"resources"`
}

// Kinds of resources.
const (
	ResourceKEK        = "kek"
	ResourceWrappedDEK = "wrapped-dek"
	ResourceData       = "data"
	ResourceIdentity   = "identity"
)

// Resource is something a party provisioned for a volume of the contract.
type Resource struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"` // of the volume
	Reference string `json:"reference"`
}

func (*Propose) Type() Type          { return TypePropose }
func (*Amend) Type() Type            { return TypeAmend }
func (*Approve) Type() Type          { return TypeApprove }
func (*Reject) Type() Type           { return TypeReject }
func (*Withdraw) Type() Type         { return TypeWithdraw }
func (*ConsentGrant) Type() Type     { return TypeConsentGrant }
func (*ConsentWithdraw) Type() Type  { return TypeConsentWithdraw }
func (*ProvisionRequest) Type() Type { return TypeProvisionRequest }
func (*ProvisionDecline) Type() Type { return TypeProvisionDecline }
func (*Provisioned) Type() Type      { return TypeProvisioned }

func (b *Propose) check() error { return checkVersion(b.Contract, b.Specification) }
func (b *Amend) check() error   { return checkVersion(b.Contract, b.Specification) }

func checkVersion(k Contract, specification []byte) error {
	if len(specification) > MaxSpecification {
		return fmt.Errorf("a specification of %d bytes, at most %d are allowed", len(specification), MaxSpecification)
	}
	return k.check()
}

func (b *Approve) check() error {
	c := &checks{}
	c.digest("the approved contract", b.Digest)
	return c.err
}

func (b *Reject) check() error {
	c := &checks{}
	c.digest("the rejected contract", b.Digest)
	c.text("the reason", b.Reason, maxText)
	return c.err
}

func (b *Withdraw) check() error {
	c := &checks{}
	c.text("the reason", b.Reason, maxText)
	return c.err
}

func (b *ConsentGrant) check() error {
	c := &checks{}
	c.scopes(b.Scopes)
	c.that(b.Runs <= maxCounter, "%d runs are more than 2^53-1", b.Runs)
	return c.err
}

func (b *ConsentWithdraw) check() error {
	c := &checks{}
	c.scopes(b.Scopes)
	c.text("the reason", b.Reason, maxText)
	return c.err
}

func (c *checks) scopes(scopes []string) {
	c.that(len(scopes) > 0, "no scope is named")
	ascending(c, "scopes", scopes, maxItems, func(s string) string { return s })
	for _, s := range scopes {
		c.scope(s)
	}
}

func (c *checks) scope(s string) {
	c.oneOf("scope", s, ScopeExecution, ScopeLogging, ScopeTelemetry)
}

func (b *ProvisionRequest) check() error {
	c := &checks{}
	c.volumes(b.Volumes)
	return c.err
}

func (b *ProvisionDecline) check() error {
	c := &checks{}
	c.volumes(b.Volumes)
	c.text("the reason", b.Reason, maxText)
	return c.err
}

func (c *checks) volumes(names []string) {
	c.that(len(names) > 0, "no volume is named")
	ascending(c, "volumes", names, maxVolumes, func(s string) string { return s })
	for _, name := range names {
		c.name("volume", name)
	}
}

func (b *Provisioned) check() error {
	c := &checks{}
	c.that(len(b.Resources) > 0, "no resource is named")
	ascending(c, "resources", b.Resources, maxItems, func(r Resource) string { return r.Name + "\x00" + r.Kind })
	for _, r := range b.Resources {
		c.oneOf("kind", r.Kind, ResourceKEK, ResourceWrappedDEK, ResourceData, ResourceIdentity)
		c.name("resource", r.Name)
		c.required("reference", r.Reference, maxText)
	}
	return c.err
}
