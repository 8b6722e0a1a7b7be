package governance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
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
	log      Log
	trust    Trust
	key      *statement.PrivateKey
	id       string
	contract statement.Contract
	digest   string
	evidence string

	begin body // the statement that it begins with

	checkpoint atomic.Pointer[[]byte] // the view's newest, signed

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

// Begin follows the log, refuses it unless its contract is the measured one,
// and makes a run of it with a new audit key that lives in memory only. The
// run-begin statement goes into the log in one append with the run's first
// statements: until then the run has done nothing that anybody must know of.
func Begin(ctx context.Context, log Log, trust Trust, attest Attest) (*Run, error) {
	view := NewCosignedView(trust.Ledger, trust.Witnesses)
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
	r.keepCheckpoint()
	if err := r.bind(ctx, attest); err != nil {
		r.Destroy()
		return nil, fmt.Errorf("beginning a run: %w", err)
	}
	return r, nil
}

func (r *Run) bind(ctx context.Context, attest Attest) error {
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
	r.begin = func(head statement.Run) statement.Body {
		return &statement.RunBegin{AuditKey: b.AuditKey, ContractDigest: r.digest, Evidence: evidence, Run: head, TLSKey: tlsKey}
	}
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
}

// Begun reports whether run-begin is known to be in the log. Where it is not, the
// log holds no run that wants an end.
func (r *Run) Begun() bool {
	r.turn <- struct{}{} // nobody holds it beyond their context
	defer func() { <-r.turn }()
	return r.sequence > 0
}

// Contract returns the contract version that the run carries out.
func (r *Run) Contract() statement.Contract { return r.contract }

// SignReference returns the run's signature over an output's volume reference,
// as statement.SignReference makes it.
func (r *Run) SignReference(reference string) ([]byte, error) {
	return statement.SignReference(reference, r.key)
}

// Destroy makes the run unable to say anything more.
func (r *Run) Destroy() { r.key.Destroy() }

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
		return nil, fault.Errorf(fault.Unavailable, "", "waiting for the record before: %w", ctx.Err())
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
	r.unsure, r.denied = entries, nil
	receipt, refused := r.log.Append(ctx, entries...)
	if refused != nil && ReasonOf(refused) == "" {
		return 0, fmt.Errorf("recording %s: %w", types[0], refused)
	}
	if refused == nil && receipt.Count != len(entries) || receipt.Count < 0 || receipt.Count >= len(entries) && refused != nil {
		return 0, fault.Errorf(fault.Refused, "do not trust this ledger", "recording %s: the ledger acknowledged %d of %d entries", types[0], receipt.Count, len(entries))
	}
	if receipt.Count > 0 {
		if err := r.confirm(ctx, types[0], receipt); err != nil {
			return 0, err
		}
	}
	r.unsure = nil
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

// settle finds out whether entries whose append ended in an error are in the
// log. If one is not now, it may still come in: then its sequence is taken, and
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
