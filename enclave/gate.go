// Package enclave is the gate: the one order in which this machine comes to
// hold other people's keys.
//
// Life of a start: Open walks the steps of the plan from top to bottom. Consent
// is asked; each access is recorded and the record accepted before the access
// is made; the wrapped DEKs are fetched; the machine is attested; with consent
// asked again for each of them, the KEKs are released, and each opens its DEK,
// whose check value is the contract's; the volumes are mounted, those with code
// before those with data; consent is asked a last time, the execution recorded
// and the application started. The first step that fails ends the start: no
// later step is taken, the keys are zeroed and the refusal is recorded.
//
// The gate does not know what a key opens: mounting and starting are its
// caller's.
package enclave

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloister/enclave/envelope"
	"cloister/policy/release"
)

// Kinds of events.
const (
	EventWrappedDEK = "wrapped-dek" // a wrapped DEK will be fetched
	EventKEK        = "kek"         // a KEK will be released
	EventCode       = "code"        // a volume of code will be mounted
	EventData       = "data"        // a volume of data will be mounted
	EventExecution  = "execution"   // the application will start
	EventRefusal    = "refusal"     // a step was not taken
)

// ScopeExecution is the scope of consent that a start needs.
const ScopeExecution = "execution"

// Event is what is recorded. Name is the secret, key, volume, application or
// step; Volume the name of the volume it is about, if any.
type Event struct {
	Kind   string
	Name   string
	Volume string
	Detail string
}

// Governance says whether the parties consent, and keeps the record of what is
// done. Its implementation adds the run, the contract's version and the
// checkpoint to each record.
type Governance interface {
	// CheckConsent returns nil when all parties consent to the scope now. what
	// names the step that follows.
	CheckConsent(ctx context.Context, scope, what string) error
	// Record returns nil once the event is accepted.
	Record(ctx context.Context, e Event) error
}

// KEK is a released key. The gate destroys it right after its one use.
type KEK interface {
	// Unwrap opens a wrapped DEK and returns it only when its check value is the
	// expected one.
	Unwrap(wrapped []byte, want envelope.Expected) (*envelope.DEK, error)
	Destroy()
}

// KeySource is where keys come from: Azure's vaults, or another broker.
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

// Plan is what a start opens.
type Plan struct {
	Code        []Volume
	Data        []Volume
	Application string // its name in the record
}

// Gate opens one plan once. All fields are required.
type Gate struct {
	Governance Governance
	Keys       KeySource
	// Mount makes a volume readable. The DEK is the gate's: it is zero after
	// Close and after an Open that failed.
	Mount func(ctx context.Context, volume string, dek *envelope.DEK) error
	// Start starts the application and does not wait for its end.
	Start func(ctx context.Context) error

	mu     sync.Mutex // guards the fields below
	opened bool
	deks   map[string]*envelope.DEK // by volume name
}

// refusalTime bounds how long a refusal may take to be recorded, also when the
// start was cancelled.
const refusalTime = 10 * time.Second

// step is one thing that is done, and what it is called in errors and refusals.
type step struct {
	name string
	do   func(ctx context.Context) error
}

// Open takes all steps. After an error no key is left; what had been mounted is
// the caller's to unmount.
func (g *Gate) Open(ctx context.Context, p Plan) error {
	if err := g.begin(p); err != nil {
		return err
	}
	for _, s := range g.steps(p) {
		if err := s.run(ctx); err != nil {
			g.Close()
			return g.refuse(ctx, s, err)
		}
	}
	return nil
}

func (s step) run(ctx context.Context) error {
	// A start that was called off takes no further step, even one that would not
	// notice.
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.do(ctx)
}

// steps is the order. Nothing in this package does any of it elsewhere.
func (g *Gate) steps(p Plan) []step {
	wrapped := map[string][]byte{} // by volume name; ciphertext
	attested := false

	steps := []step{g.consent("starting " + p.Application)}
	for _, stage := range []struct {
		kind    string
		volumes []Volume
	}{{EventCode, p.Code}, {EventData, p.Data}} {
		for _, v := range stage.volumes {
			steps = append(steps,
				g.record(Event{Kind: EventWrappedDEK, Name: v.WrappedDEK, Volume: v.Name}),
				g.fetch(v, wrapped),
				g.record(Event{Kind: EventKEK, Name: v.KEK, Volume: v.Name}),
			)
			if !attested {
				steps = append(steps, step{"attesting this machine", g.Keys.Attest})
				attested = true
			}
			steps = append(steps,
				g.consent("releasing the KEK of "+v.Name),
				g.release(v, wrapped),
				g.record(Event{Kind: stage.kind, Name: v.Name, Volume: v.Name}),
				g.mount(v),
			)
		}
	}
	return append(steps,
		g.consent("executing "+p.Application),
		g.record(Event{Kind: EventExecution, Name: p.Application}),
		step{"starting " + p.Application, g.Start},
	)
}

func (g *Gate) consent(what string) step {
	return step{"asking for consent before " + what, func(ctx context.Context) error {
		return g.Governance.CheckConsent(ctx, ScopeExecution, what)
	}}
}

func (g *Gate) record(e Event) step {
	return step{"recording " + e.Kind + " of " + e.subject(), func(ctx context.Context) error {
		return g.Governance.Record(ctx, e)
	}}
}

func (e Event) subject() string {
	if e.Volume != "" {
		return e.Volume
	}
	return e.Name
}

func (g *Gate) fetch(v Volume, wrapped map[string][]byte) step {
	return step{"fetching the wrapped DEK of " + v.Name, func(ctx context.Context) (err error) {
		wrapped[v.Name], err = g.Keys.WrappedDEK(ctx, v)
		return err
	}}
}

// release also unwraps, so that a KEK lives no longer than it takes to open one
// box.
func (g *Gate) release(v Volume, wrapped map[string][]byte) step {
	return step{"releasing the KEK of " + v.Name, func(ctx context.Context) error {
		kek, err := g.Keys.Release(ctx, v, wrapped[v.Name])
		if err != nil {
			return err
		}
		defer kek.Destroy()
		dek, err := kek.Unwrap(wrapped[v.Name], v.Key)
		if err != nil {
			return fmt.Errorf("unwrapping the DEK: %w", err)
		}
		return g.keep(v.Name, dek)
	}}
}

func (g *Gate) mount(v Volume) step {
	return step{"mounting " + v.Name, func(ctx context.Context) error {
		g.mu.Lock()
		dek := g.deks[v.Name]
		g.mu.Unlock()
		if dek == nil {
			return errors.New("the gate is closed")
		}
		return g.Mount(ctx, v.Name, dek)
	}}
}

// keep holds a DEK until Close. A gate that was closed meanwhile holds none.
func (g *Gate) keep(name string, dek *envelope.DEK) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deks == nil {
		dek.Destroy()
		return errors.New("the gate is closed")
	}
	g.deks[name] = dek
	return nil
}

// begin refuses a plan that cannot be told apart in the record, and a second
// start.
func (g *Gate) begin(p Plan) error {
	if g.Governance == nil || g.Keys == nil || g.Mount == nil || g.Start == nil {
		return errors.New("the gate is not set up")
	}
	if p.Application == "" {
		return errors.New("the plan names no application")
	}
	seen := map[string]bool{}
	for _, volumes := range [][]Volume{p.Code, p.Data} {
		for _, v := range volumes {
			if v.Name == "" || seen[v.Name] {
				return fmt.Errorf("the plan's volume %q has no name of its own", v.Name)
			}
			seen[v.Name] = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened {
		return errors.New("the gate has been opened before")
	}
	g.opened, g.deks = true, map[string]*envelope.DEK{}
	return nil
}

// refuse records that a step was not taken, as far as that is possible, and
// names the step.
func (g *Gate) refuse(ctx context.Context, s step, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTime)
	defer cancel()
	err := fmt.Errorf("%s: %w", s.name, cause)
	if recordErr := g.Governance.Record(ctx, Event{Kind: EventRefusal, Name: s.name, Detail: cause.Error()}); recordErr != nil {
		return errors.Join(err, fmt.Errorf("recording that refusal: %w", recordErr))
	}
	return err
}

// Close zeroes all keys. It may be called more than once, also while Open runs,
// which then fails.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, dek := range g.deks {
		dek.Destroy()
	}
	g.deks = nil
}
