package statement

import "strings"

// Why an endpoint turns a client away, or answers in the application's place.
const (
	IngressCrowded    = "too-many-connections"
	IngressHandshake  = "handshake"         // no TLS 1.3, or no proof, in its time
	IngressUnreadable = "unreadable"        // no request, in its time
	IngressProtocol   = "protocol"          // a request that the endpoint's protocol does not admit
	IngressTooLarge   = "too-large"         // a body beyond what is taken
	IngressStalled    = "stalled"           // a body that did not go on
	IngressPolicy     = "refused-by-policy" // a request
	IngressKept       = "kept-by-policy"    // a response
	IngressUnsigned   = "unsigned"          // a call of the runtime's own, which no party signed
	IngressUnanswered = "unanswered"        // by the application
)

// MaxIngress is how many refusals one statement holds.
const MaxIngress = maxItems

// Ingress tells how often the endpoints turned clients away since the run's
// statement of this type before. It names no client: who asks a thousand times a
// second is a number here.
type Ingress struct {
	Refusals []IngressRefusal `json:"refusals"` // in the order of Compare
	Run      Run              `json:"run"`
}

// IngressRefusal is how often one endpoint did so for one reason.
type IngressRefusal struct {
	Count    uint64 `json:"count"`
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
}

func (*Ingress) Type() Type    { return TypeIngress }
func (b *Ingress) Header() Run { return b.Run }

// Compare orders refusals: by endpoint and reason.
func (r IngressRefusal) Compare(o IngressRefusal) int { return strings.Compare(r.key(), o.key()) }

func (r IngressRefusal) key() string { return r.Endpoint + " " + r.Reason }

func (b *Ingress) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.that(len(b.Refusals) > 0, "no refusal")
	ascending(c, "refusals", b.Refusals, MaxIngress, IngressRefusal.key)
	for _, r := range b.Refusals {
		c.oneOf("reason", r.Reason, IngressCrowded, IngressHandshake, IngressUnreadable, IngressProtocol, IngressTooLarge,
			IngressStalled, IngressPolicy, IngressKept, IngressUnsigned, IngressUnanswered)
		c.number("the count", r.Count)
		c.required("the endpoint", r.Endpoint, maxText)
	}
	return c.err
}
