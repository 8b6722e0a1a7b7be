package enclave

import (
	"context"

	"cloister/enclave/envelope"
	"cloister/policy/release"
)

// Kinds of events.
const (
	EventConsent    = "consent"     // do all parties consent to the step Name?
	EventWrappedDEK = "wrapped-dek" // a wrapped DEK will be fetched
	EventKEK        = "kek"         // a KEK will be released
	EventCode       = "code"        // a volume of code will be mounted
	EventData       = "data"        // a volume of data will be mounted
	EventExecution  = "execution"   // the application will start
	EventRefusal    = "refusal"     // a step was not taken
)

// ScopeExecution is the scope of consent that a start needs.
const ScopeExecution = "execution"

// Event is what is asked or recorded. Name is the secret, key, volume,
// application or step; Volume the name of the volume it is about, if any.
type Event struct {
	Kind   string
	Name   string
	Volume string
	Detail string
}

// step is what asking or recording the event is called.
func (e Event) step() string {
	switch {
	case e.Kind == EventConsent:
		return "asking for consent before " + e.Name
	case e.Volume != "":
		return "recording " + e.Kind + " of " + e.Volume
	default:
		return "recording " + e.Kind + " of " + e.Name
	}
}

// Governance says whether the parties consent, and keeps the record of what is
// done. Its implementation adds the run, the contract's version and the
// checkpoint to each record.
type Governance interface {
	// Record asks and records events, one after the other, and returns nil once
	// all are accepted and all parties consent now where it is asked. After a no
	// or a refusal nothing more is accepted; accepted is how many events came
	// before the one that the error is about.
	Record(ctx context.Context, events ...Event) (accepted int, err error)
}

// KEK is a released key. The gate destroys it right after its one use.
type KEK interface {
	// Unwrap opens a wrapped DEK and returns it only when its check value is the
	// expected one.
	Unwrap(wrapped []byte, want envelope.Expected) (*envelope.DEK, error)
	Destroy()
}

// KeySource is where keys come from: Azure's vaults, or another broker. It is
// asked about several volumes at once.
type KeySource interface {
	// WrappedDEK fetches ciphertext.
	WrappedDEK(ctx context.Context, v Volume) ([]byte, error)
	// Attest proves what this machine is. It is called once a start, and what it
	// obtains serves all releases.
	Attest(ctx context.Context) error
	// Release returns the KEK of a volume whose wrapped DEK is given.
	Release(ctx context.Context, v Volume, wrapped []byte) (KEK, error)
}

// Volume is what the contract says of a volume's key.
type Volume struct {
	Name          string
	Key           envelope.Expected // pinned by the volume's reference
	WrappedDEK    string            // where it is, as the key source understands it
	KEK           string            // likewise
	ReleasePolicy release.Policy    // the contract's copy
}

// Opened is a volume whose key is in hand.
type Opened struct {
	Name string
	DEK  *envelope.DEK
}

// Plan is what a start opens.
type Plan struct {
	Code        []Volume
	Data        []Volume
	Application string // its name in the record
}

func accessWrappedDEK(v Volume) Event {
	return Event{Kind: EventWrappedDEK, Name: v.WrappedDEK, Volume: v.Name}
}

func accessKEK(v Volume) Event { return Event{Kind: EventKEK, Name: v.KEK, Volume: v.Name} }

func consentToRelease(v Volume) Event {
	return Event{Kind: EventConsent, Name: "releasing the KEK of " + v.Name}
}

func access(kind string) func(Volume) Event {
	return func(v Volume) Event { return Event{Kind: kind, Name: v.Name, Volume: v.Name} }
}
