package statement

import (
	"fmt"
	"strings"
)

// The decisions of the runtime's proxy on what the application wants to reach.
const (
	EgressAllowed    = "allowed"
	EgressForbidden  = "forbidden-address" // a host that was let out has an address of the machine or its platform
	EgressNotListed  = "not-listed"        // the list does not have it
	EgressPolicy     = "refused-by-policy"
	EgressUnreadable = "unreadable" // no request that the proxy reads
)

// MaxEgress is how many decisions one statement holds.
const MaxEgress = maxItems

// Egress tells what the application reached, and how often it was not let out,
// since the run's statement of this type before. The first that allows a
// destination stands in the log before anything is sent there.
type Egress struct {
	Decisions []EgressDecision `json:"decisions"` // in the order of Compare
	Run       Run              `json:"run"`
}

// EgressDecision is how often something was decided about one destination.
type EgressDecision struct {
	Count    uint64 `json:"count"`
	Decision string `json:"decision"`
	// Host and Port are the destination's where it was let out. What was not is not
	// named: it would be the application's message to who reads the log.
	Host string `json:"host,omitempty"`
	Port uint32 `json:"port,omitempty"`
}

func (*Egress) Type() Type    { return TypeEgress }
func (b *Egress) Header() Run { return b.Run }

// Compare orders decisions: by decision, host and port.
func (d EgressDecision) Compare(o EgressDecision) int { return strings.Compare(d.key(), o.key()) }

func (d EgressDecision) key() string {
	return fmt.Sprintf("%s %s %05d", d.Decision, d.Host, d.Port)
}

func (b *Egress) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.that(len(b.Decisions) > 0, "no decision")
	ascending(c, "decisions", b.Decisions, MaxEgress, EgressDecision.key)
	for _, d := range b.Decisions {
		c.oneOf("decision", d.Decision, EgressAllowed, EgressForbidden, EgressNotListed, EgressPolicy, EgressUnreadable)
		c.number("the count", d.Count)
		named := d.Decision == EgressAllowed || d.Decision == EgressForbidden
		c.that(named == (d.Host != "") && named == (d.Port != 0), "%s: a host and port, or none", d.Decision)
		c.text("the host", d.Host, maxText)
		c.that(d.Port <= 65535, "port %d", d.Port)
	}
	return c.err
}
