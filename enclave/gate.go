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
)

// Gate opens one plan once. All fields are required.
type Gate struct {
	Governance Governance
	Keys       KeySource
	// Mount makes the volumes of one stage readable. Where it fails, what it did
	// mount is its own to unmount. The DEKs are the gate's: they are zero after
	// Close and after an Open that failed.
	Mount func(ctx context.Context, volumes []Opened) error
	// Start starts the application and does not wait for its end.
	Start func(ctx context.Context) error

	mu      sync.Mutex // guards the fields below
	begun   bool
	wrapped map[string][]byte        // by volume name; ciphertext
	deks    map[string]*envelope.DEK // by volume name
}

// refusalTime bounds how long a refusal may take to be recorded, also when the
// start was cancelled.
const refusalTime = 10 * time.Second

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
	if g.begun {
		return errors.New("the gate has been opened before")
	}
	g.begun, g.wrapped, g.deks = true, map[string][]byte{}, map[string]*envelope.DEK{}
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
