package governance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Binding is what a run's evidence must vouch for.
type Binding struct {
	RunID          [16]byte
	ContractDigest [32]byte
	AuditKey       []byte // SPKI in DER
}

// Attest returns evidence for a binding, and the TLS key, SPKI in DER, that it
// binds with it.
type Attest func(ctx context.Context, b Binding) (evidence statement.Evidence, tlsKey []byte, err error)

// Run is the runtime's side of one run: it asks for consent and records, in the
// enclave's name. Its methods may be called concurrently; their statements go
// into the log one after the other, as the chain wants.
type Run struct {
	log      Log
	trust    Trust
	key      *statement.PrivateKey
	id       string
	contract statement.Contract
	digest   string
	evidence string

	// turn holds one token, and its holder owns what follows. It is a channel
	// and not a mutex because it is held across I/O and gives way to a context.
	turn     chan struct{}
	view     *View
	sequence uint64
	previous string
	unsure   []byte // an entry that may or may not have been appended
}

// Begin follows the log, refuses it unless its contract is the measured one,
// and begins a run of it with a new audit key that lives in memory only. On
// return the run-begin statement is in the log; consent is not yet asked.
func Begin(ctx context.Context, log Log, trust Trust, attest Attest) (*Run, error) {
	view := NewView(trust.Ledger)
	if err := view.AdvanceToNewest(ctx, log, nil); err != nil {
		return nil, fmt.Errorf("following the contract's log: %w", err)
	}
	if err := trust.check(view.State()); err != nil {
		return nil, err
	}
	key, err := statement.GenerateKey(statement.Ed25519)
	if err != nil {
		return nil, fmt.Errorf("making the audit key: %w", err)
	}
	r := &Run{log: log, trust: trust, key: key, view: view, turn: make(chan struct{}, 1)}
	r.contract, r.digest = view.State().Contract()
	if err := r.begin(ctx, attest); err != nil {
		r.Destroy()
		return nil, fmt.Errorf("beginning a run: %w", err)
	}
	return r, nil
}

func (r *Run) begin(ctx context.Context, attest Attest) error {
	b := Binding{AuditKey: r.key.Public().SPKI()}
	if _, err := rand.Read(b.RunID[:]); err != nil {
		return err
	}
	r.id = hex.EncodeToString(b.RunID[:])
	if _, err := hex.Decode(b.ContractDigest[:], []byte(r.digest[len("sha256:"):])); err != nil {
		return err
	}
	evidence, tlsKey, err := attest(ctx, b)
	if err != nil {
		return fmt.Errorf("binding the audit key: %w", err)
	}
	if r.evidence, err = evidence.Digest(); err != nil {
		return err
	}
	return r.append(ctx, func(head statement.Run) statement.Body {
		return &statement.RunBegin{AuditKey: b.AuditKey, ContractDigest: r.digest, Evidence: evidence, Run: head, TLSKey: tlsKey}
	})
}

// ID returns the run's id: 32 hexadecimal digits.
func (r *Run) ID() string { return r.id }

// Contract returns the contract version that the run carries out.
func (r *Run) Contract() statement.Contract { return r.contract }

// SignReference returns the run's signature over an output's volume reference,
// as statement.SignReference makes it.
func (r *Run) SignReference(reference string) ([]byte, error) {
	return statement.SignReference(reference, r.key)
}

// Destroy makes the run unable to say anything more.
func (r *Run) Destroy() { r.key.Destroy() }

// append signs the statement that body makes of the run's head, appends it and
// returns nil once it is in the verified log as the run's next.
func (r *Run) append(ctx context.Context, body func(statement.Run) statement.Body) error {
	release, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return r.appendHolding(ctx, body)
}

func (r *Run) take(ctx context.Context) (release func(), err error) {
	select {
	case r.turn <- struct{}{}:
		return func() { <-r.turn }, nil
	case <-ctx.Done():
		return nil, fault.Errorf(fault.Unavailable, "", "waiting for the record before: %w", ctx.Err())
	}
}

func (r *Run) appendHolding(ctx context.Context, body func(statement.Run) statement.Body) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	at, _ := r.view.Checkpoint()
	what := body(statement.Run{Checkpoint: at.named(), ID: r.id, Previous: r.previous})
	entry, err := statement.Sign(statement.Statement{Body: what, Contract: r.contract.ID, Time: time.Now(), Version: r.contract.Version},
		statement.Signature{Signer: r.key, Counter: r.sequence + 1})
	if err != nil {
		return fmt.Errorf("signing %s: %w", what.Type(), err)
	}
	receipt, err := r.log.Append(ctx, entry)
	if err != nil {
		if ReasonOf(err) == "" {
			r.unsure = entry
		}
		return fmt.Errorf("recording %s: %w", what.Type(), err)
	}
	r.unsure = entry
	return r.confirm(ctx, what.Type(), receipt)
}

// confirm follows the log to the receipt's checkpoint and wants to meet the
// entry on the way, at the place the ledger said, accepted by the fold.
func (r *Run) confirm(ctx context.Context, what statement.Type, receipt Receipt) error {
	found, err := r.follow(ctx, receipt.Checkpoint)
	if err != nil {
		return fmt.Errorf("recording %s: %w", what, err)
	}
	if found != receipt.Index {
		return fault.Errorf(fault.Refused, "do not trust this ledger",
			"recording %s: the ledger acknowledged entry %d, its log does not hold the record there", what, receipt.Index)
	}
	return nil
}

// follow advances the view and returns the index at which it met the unsure
// entry, which is then the run's newest, or -1.
func (r *Run) follow(ctx context.Context, checkpoint []byte) (int64, error) {
	found := int64(-1)
	err := r.view.Advance(ctx, r.log, checkpoint, func(seen Seen) {
		if r.unsure != nil && seen.Refused == nil && bytes.Equal(seen.Entry, r.unsure) {
			found = seen.Index
			r.sequence, r.previous, r.unsure = r.sequence+1, statement.EntryDigest(seen.Entry), nil
		}
	})
	return found, err
}

// settle finds out whether an entry whose append ended in an error is in the
// log. If it is not now, it may still come in: then its sequence is taken, and
// the statement that is tried in its place is refused, so that nothing forks.
func (r *Run) settle(ctx context.Context) error {
	if r.unsure == nil {
		return nil
	}
	checkpoint, err := r.log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("looking for the record before: %w", err)
	}
	if _, err := r.follow(ctx, checkpoint); err != nil {
		return fmt.Errorf("looking for the record before: %w", err)
	}
	r.unsure = nil
	return nil
}
