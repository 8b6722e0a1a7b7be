// Package enclave is the gate: the one order in which this machine comes to
// hold other people's keys.
//
// Life of a start: Open takes the steps of the plan from top to bottom. Consent
// is asked; each access is recorded and the record accepted before the access
// is made; the wrapped DEKs are fetched; the machine is attested; with consent
// asked again for each of them, the KEKs are released, and each opens its DEK,
// whose check value is the contract's; the volumes are mounted; consent is asked
// a last time, the execution recorded and the application started. The volumes
// with code are all mounted before any with data is touched; within each of
// these two stages volumes take a step together. The first step that fails ends
// the start: no later step is taken, the keys are zeroed and the refusal is
// recorded.
//
// What a start costs, with v volumes in a stage: three appends to the ledger
// until the stage's keys are in hand (before fetching, before attesting, before
// releasing) and one more until they are mounted, each of all its volumes'
// records; and 2v+1 requests whose answers the keys wait for: one to fetch and
// one to release each, and one for the token of the whole start. Three and three
// for the first volume. Not counted is what the keys do not wait for in turn:
// signing in, once an identity and kind of vault, and the attestation service's
// keys, which are fetched while it judges.
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

	"golang.org/x/sync/errgroup"
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
	// Mount makes a volume readable. It is called for one volume after the other,
	// in the plan's order, as one's mount point may be within another. The DEK is the gate's: it is zero after
	// Close and after an Open that failed.
	Mount func(ctx context.Context, volume string, dek *envelope.DEK) error
	// Start starts the application and does not wait for its end.
	Start func(ctx context.Context) error

	mu      sync.Mutex // guards the fields below
	opened  bool
	wrapped map[string][]byte        // by volume name; ciphertext
	deks    map[string]*envelope.DEK // by volume name
}

// refusalTime bounds how long a refusal may take to be recorded, also when the
// start was cancelled.
const refusalTime = 10 * time.Second

// maxAtOnce is how many volumes take a step together. Vaults throttle: a Managed
// HSM serves some 10 releases a second, a vault 200 secrets (Azure's published
// service limits).
const maxAtOnce = 8

// step is one thing that is done, and what it is called in errors and refusals.
type step struct {
	name string
	do   func(ctx context.Context) error
}

// failure is the end of a start: which step, and why.
type failure struct {
	step string
	error
}

func (f *failure) Error() string { return f.step + ": " + f.error.Error() }
func (f *failure) Unwrap() error { return f.error }

// Open takes all steps. After an error no key is left; what had been mounted is
// the caller's to unmount.
func (g *Gate) Open(ctx context.Context, p Plan) error {
	if err := g.begin(p); err != nil {
		return err
	}
	for _, s := range g.steps(p) {
		if err := s.run(ctx); err != nil {
			g.Close()
			return g.refuse(ctx, err)
		}
	}
	return nil
}

func (s step) run(ctx context.Context) *failure {
	// A start that was called off takes no further step, even one that would not
	// notice.
	err := ctx.Err()
	if err == nil {
		err = s.do(ctx)
	}
	var part *failure // of a step of several parts, the one that failed
	switch {
	case err == nil:
		return nil
	case errors.As(err, &part):
		return part
	default:
		return &failure{s.name, err}
	}
}

// steps is the order. Nothing in this package does any of it elsewhere.
func (g *Gate) steps(p Plan) (steps []step) {
	first := []Event{{Kind: EventConsent, Name: "starting " + p.Application}}
	attest := []step{{"attesting this machine", g.Keys.Attest}}
	for _, stage := range []struct {
		kind    string
		volumes []Volume
	}{{EventCode, p.Code}, {EventData, p.Data}} {
		if len(stage.volumes) == 0 {
			continue
		}
		steps = append(steps,
			g.record(append(first, each(stage.volumes, accessWrappedDEK)...)...),
			together(each(stage.volumes, g.fetch)),
			g.record(each(stage.volumes, accessKEK)...))
		steps = append(steps, attest...)
		steps = append(steps,
			g.record(each(stage.volumes, consentToRelease)...),
			together(each(stage.volumes, g.release)),
			g.record(each(stage.volumes, access(stage.kind))...))
		steps = append(steps, each(stage.volumes, g.mount)...)
		first, attest = nil, nil // once a start
	}
	return append(steps,
		g.record(append(first, Event{Kind: EventConsent, Name: "executing " + p.Application}, Event{Kind: EventExecution, Name: p.Application})...),
		step{"starting " + p.Application, g.Start})
}

func each[T any](volumes []Volume, of func(Volume) T) []T {
	var list []T
	for _, v := range volumes {
		list = append(list, of(v))
	}
	return list
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

// together is a step whose parts are taken at once. The first that fails calls
// the others off, and all have ended when it returns.
func together(parts []step) step {
	return step{parts[0].name, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(maxAtOnce)
		for _, part := range parts {
			group.Go(func() error {
				if f := part.run(ctx); f != nil {
					return f
				}
				return nil
			})
		}
		return group.Wait()
	}}
}

// record asks and records events as one step, which is taken when all of them
// are accepted.
func (g *Gate) record(events ...Event) step {
	return step{events[0].step(), func(ctx context.Context) error {
		accepted, err := g.Governance.Record(ctx, events...)
		if err != nil && accepted < len(events) {
			return &failure{events[accepted].step(), err}
		}
		return err
	}}
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

func (g *Gate) fetch(v Volume) step {
	return step{"fetching the wrapped DEK of " + v.Name, func(ctx context.Context) error {
		wrapped, err := g.Keys.WrappedDEK(ctx, v)
		if err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.wrapped[v.Name] = wrapped
		return nil
	}}
}

// release also unwraps, so that a KEK lives no longer than it takes to open one
// box.
func (g *Gate) release(v Volume) step {
	return step{"releasing the KEK of " + v.Name, func(ctx context.Context) error {
		g.mu.Lock()
		wrapped := g.wrapped[v.Name]
		g.mu.Unlock()
		kek, err := g.Keys.Release(ctx, v, wrapped)
		if err != nil {
			return err
		}
		defer kek.Destroy()
		dek, err := kek.Unwrap(wrapped, v.Key)
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
	g.opened, g.wrapped, g.deks = true, map[string][]byte{}, map[string]*envelope.DEK{}
	return nil
}

// refuse records that a step was not taken, as far as that is possible.
func (g *Gate) refuse(ctx context.Context, f *failure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTime)
	defer cancel()
	if _, err := g.Governance.Record(ctx, Event{Kind: EventRefusal, Name: f.step, Detail: f.error.Error()}); err != nil {
		return errors.Join(f, fmt.Errorf("recording that refusal: %w", err))
	}
	return f
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
