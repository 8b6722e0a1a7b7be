package governance

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
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
	*Introduction
	log      RunLog
	trust    Trust
	contract statement.Contract

	checkpoint atomic.Pointer[[]byte]            // the view's newest, signed
	parties    atomic.Pointer[map[string]string] // there, by the fingerprints of their keys

	// turn holds one token, and its holder owns what follows. It is a channel
	// and not a mutex because it is held across I/O and gives way to a context.
	turn     chan struct{}
	view     *View
	sequence uint64 // 0 until run-begin is in the log
	previous string
	unsure   [][]byte // entries that may or may not have been appended, in order
	denied   *denial  // of the newest append's questions, the first that was not answered yes
}

// body makes a statement of its run's head.
type body func(statement.Run) statement.Body

// denial is an answer that is not yes.
type denial struct {
	at  int // place of the question in its append
	err error
}

// Begin introduces a run to the log's ledger, follows the log, refuses it unless
// its contract is the measured one, and makes a run of it. The run-begin
// statement goes into the log in one append with the run's first statements:
// until then the run has done nothing that anybody must know of.
func Begin(ctx context.Context, log RunLog, trust Trust, attest Attest) (*Run, error) {
	known, err := Introduce(ctx, log, attest)
	if err != nil {
		return nil, err
	}
	known.replica = uint64(trust.Replica)
	r := &Run{Introduction: known, log: log, trust: trust, view: NewCosignedView(trust.Ledger, trust.Witnesses), turn: make(chan struct{}, 1)}
	if err := r.read(ctx); err != nil {
		r.Destroy()
		return nil, err
	}
	return r, nil
}

// read wants the log to be of the contract that is measured, and its newest
// version the one that the run's evidence is bound to.
func (r *Run) read(ctx context.Context) error {
	if err := r.view.AdvanceToNewest(ctx, r.log, nil); err != nil {
		return fmt.Errorf("following the contract's log: %w", err)
	}
	if err := r.trust.check(r.view.State()); err != nil {
		return err
	}
	contract, digest := r.view.State().Contract()
	if digest != r.digest {
		return fault.Errorf(fault.Conflict, "start the run again", "the ledger said that the contract is %s, its log says %s: it was amended, or the ledger lies", r.digest, digest)
	}
	r.contract = contract
	r.keepCheckpoint()
	return nil
}

// ID returns the run's id: 32 hexadecimal digits.
func (r *Run) ID() string { return r.id }

// Checkpoint returns the newest checkpoint that the run has verified, in its signed
// form. It waits for nothing.
func (r *Run) Checkpoint() []byte { return *r.checkpoint.Load() }

// keepCheckpoint is for who holds the turn.
func (r *Run) keepCheckpoint() {
	_, signed := r.view.Checkpoint()
	r.checkpoint.Store(&signed)
	names := r.view.State().partyKeys()
	r.parties.Store(&names)
}

// Begun reports whether run-begin is in the log, or may be. Where it is not, the
// log holds no run that wants an end.
func (r *Run) Begun() bool {
	r.turn <- struct{}{} // nobody holds it beyond their context
	defer func() { <-r.turn }()
	return r.sequence > 0 || r.unsure != nil
}

// Contract returns the contract version that the run carries out.
func (r *Run) Contract() statement.Contract { return r.contract }

// SignReference returns the run's signature over an output's volume reference,
// as statement.SignReference makes it.
func (r *Run) SignReference(reference string) ([]byte, error) {
	return statement.SignReference(reference, r.key)
}

// append is appendSome of any number of statements, in as many appends as they
// need.
func (r *Run) append(ctx context.Context, bodies ...body) (accepted int, err error) {
	release, err := r.take(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	for chunk := range slices.Chunk(bodies, MaxAppend-1) { // one is for run-begin
		n, err := r.appendSome(ctx, chunk)
		if accepted += n; err != nil {
			return accepted, err
		}
	}
	return accepted, nil
}

func (r *Run) take(ctx context.Context) (release func(), err error) {
	select {
	case r.turn <- struct{}{}:
		return func() { <-r.turn }, nil
	case <-ctx.Done():
		return nil, fault.Errorf(fault.Unavailable, "see that the ledger answers", "waiting for the record before: %w", ctx.Err())
	}
}

// appendSome signs the statements, each naming the one before, appends them and
// returns nil once all are in the verified log as the run's next and every
// question among them is answered yes. accepted is how many came before the one
// that the error is about.
func (r *Run) appendSome(ctx context.Context, bodies []body) (accepted int, err error) {
	if err := r.settle(ctx); err != nil {
		return 0, err
	}
	if r.sequence == 0 {
		accepted, err = r.put(ctx, append([]body{r.begin}, bodies...))
		return max(0, accepted-1), err
	}
	return r.put(ctx, bodies)
}

func (r *Run) put(ctx context.Context, bodies []body) (accepted int, err error) {
	entries, types, err := r.sign(bodies)
	if err != nil {
		return 0, err
	}
	receipt, refused, err := r.send(ctx, types[0], entries)
	if err != nil {
		return 0, err
	}
	if r.denied != nil {
		return r.denied.at, r.denied.err
	}
	if i := slices.Index(types, statement.TypeConsentCheck); 0 <= i && i < receipt.Count {
		// Yes was said to this run. Whether it is still the agreed contract's is
		// asked of the whole log up to the checkpoint.
		if err := r.trust.check(r.view.State()); err != nil {
			return i, err
		}
	}
	if refused != nil {
		return receipt.Count, fmt.Errorf("recording %s: %w", types[receipt.Count], refused)
	}
	return receipt.Count, nil
}

// send appends entries and confirms those that are acknowledged; refused is why the
// first of the others is not in the log. After an error all that the log was not
// seen to hold are unsure. Entries that are in the log already are as good as new.
func (r *Run) send(ctx context.Context, what statement.Type, entries [][]byte) (receipt Receipt, refused, err error) {
	r.unsure, r.denied = entries, nil
	receipt, refused = r.log.Append(ctx, entries...)
	if refused != nil && ReasonOf(refused) == "" {
		return receipt, nil, fmt.Errorf("recording %s: %w", what, refused)
	}
	if refused == nil && receipt.Count != len(entries) || receipt.Count < 0 || receipt.Count >= len(entries) && refused != nil {
		return receipt, nil, fault.Errorf(fault.Refused, "do not trust this ledger", "recording %s: the ledger acknowledged %d of %d entries", what, receipt.Count, len(entries))
	}
	if receipt.Count > 0 {
		if err := r.confirm(ctx, what, receipt); err != nil {
			return receipt, nil, err
		}
	}
	if receipt.Count == 0 && takenBefore(refused) {
		in, err := r.alreadyIn(ctx, what, refused)
		if err != nil || in {
			return Receipt{Count: len(entries)}, nil, err
		}
	}
	r.unsure = nil
	return receipt, refused, nil
}

// sign makes a chain of entries that goes on from the run's newest.
func (r *Run) sign(bodies []body) (entries [][]byte, types []statement.Type, err error) {
	at, _ := r.view.Checkpoint()
	head := statement.Run{Checkpoint: at.named(), ID: r.id, Previous: r.previous}
	for i, body := range bodies {
		what := body(head)
		entry, err := statement.Sign(statement.Statement{Body: what, Contract: r.contract.ID, Time: time.Now(), Version: r.contract.Version},
			statement.Signature{Signer: r.key, Counter: r.sequence + 1 + uint64(i)})
		if err != nil {
			return nil, nil, fmt.Errorf("signing %s: %w", what.Type(), err)
		}
		entries, types = append(entries, entry), append(types, what.Type())
		head.Previous = statement.EntryDigest(entry)
	}
	return entries, types, nil
}

// confirm follows the log to the receipt's checkpoint and wants to meet the
// entries on the way, at the places the ledger said, accepted by the fold.
func (r *Run) confirm(ctx context.Context, what statement.Type, receipt Receipt) error {
	found, err := r.follow(ctx, receipt.Checkpoint)
	if err != nil {
		return fmt.Errorf("recording %s: %w", what, err)
	}
	for i := range receipt.Count {
		if i >= len(found) || found[i] != receipt.Index+int64(i) {
			return fault.Errorf(fault.Refused, "do not trust this ledger",
				"recording %s: the ledger acknowledged entry %d, its log does not hold the record there", what, receipt.Index+int64(i))
		}
	}
	return nil
}

// follow advances the view and returns the indexes at which it met the unsure
// entries, the last of which is then the run's newest.
func (r *Run) follow(ctx context.Context, checkpoint []byte) (found []int64, err error) {
	err = r.view.Advance(ctx, r.log, checkpoint, func(seen Seen) {
		if len(r.unsure) == 0 || seen.Refused != nil || !bytes.Equal(seen.Entry, r.unsure[0]) {
			return
		}
		r.sequence, r.previous, r.unsure = r.sequence+1, statement.EntryDigest(seen.Entry), r.unsure[1:]
		// The state is the one right after this entry.
		if check, ok := seen.Statement.Body.(*statement.ConsentCheck); ok && r.denied == nil {
			if err := r.answer(*check); err != nil {
				r.denied = &denial{len(found), err}
			}
		}
		found = append(found, seen.Index)
	})
	r.keepCheckpoint()
	return found, err
}

// settle brings an append of unknown end to one, before anything else is said: its
// place in the run's chain is taken, and a ledger that was slow may fill it at any
// time. What is not in the log is sent again, the same bytes, so that whichever
// copy comes in is the one record. What the fold then refuses can no longer come in:
// neither it, nor what is chained to it.
func (r *Run) settle(ctx context.Context) error {
	if r.unsure == nil {
		return nil
	}
	const step = "looking for the record before: %w"
	if err := r.look(ctx); err != nil {
		return fmt.Errorf(step, err)
	}
	if r.unsure == nil {
		return nil
	}
	if _, _, err := r.send(ctx, "what was recorded before", r.unsure); err != nil {
		return fmt.Errorf(step, err)
	}
	return nil
}

// takenBefore says whether a refusal may be of entries that are in the log: a
// completed run is asked nothing more, not even its counter.
func takenBefore(refused error) bool {
	return ReasonOf(refused) == Replayed || ReasonOf(refused) == WrongState
}

// alreadyIn says whether the log shows the unsure entries. A ledger that says so has
// to show it: nobody else signs with the run's key.
func (r *Run) alreadyIn(ctx context.Context, what statement.Type, refused error) (bool, error) {
	if err := r.look(ctx); err != nil {
		return false, fmt.Errorf("recording %s: %w", what, err)
	}
	if r.unsure != nil && ReasonOf(refused) == Replayed {
		return false, fault.Errorf(fault.Unavailable, "try again; if it lasts, do not trust this ledger",
			"recording %s: the ledger says that it is in the log, which its newest checkpoint does not cover", what)
	}
	return r.unsure == nil, nil
}

// look follows the log to its newest checkpoint, and forgets of the unsure entries
// those that it met.
func (r *Run) look(ctx context.Context) error {
	checkpoint, err := r.log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if _, err = r.follow(ctx, checkpoint); err == nil && len(r.unsure) == 0 {
		r.unsure = nil
	}
	return err
}
