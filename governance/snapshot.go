package governance

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

// snapshot is a View as Save writes it: a checkpoint, and what the log up to there
// comes to.
type snapshot struct {
	Checkpoint []byte      `json:"checkpoint"` // signed
	Tree       []tlog.Hash `json:"tree"`       // the frontier's roots
	State      savedState  `json:"state"`
}

// savedState has each member of State, but those that follow from another.
type savedState struct {
	Status        Status               `json:"status"`
	Contract      statement.Contract   `json:"contract"`
	Digest        string               `json:"digest"`
	Keys          []savedKey           `json:"keys"`
	Retired       map[string][]byte    `json:"retired"` // SPKI
	Vouchers      map[string]bool      `json:"vouchers"`
	Approvals     map[string]int64     `json:"approvals"`
	Consents      []savedGrant         `json:"consents"`
	Counters      map[string]uint64    `json:"counters"`
	Provision     map[string]Provision `json:"provision"`
	Specification []byte               `json:"specification"`
	Runs          []savedRun           `json:"runs"`
	Heads         map[string]Head      `json:"heads"`
	Pinned        map[string]uint64    `json:"pinned"`
	Newest        time.Time            `json:"newest"`
	Unknown       int                  `json:"unknown"`
	Ended         string               `json:"ended"`
}

type savedKey struct {
	Party string `json:"party"`
	Key   []byte `json:"key"` // SPKI
}

type savedGrant struct {
	Party     string    `json:"party"`
	Scope     string    `json:"scope"`
	Entry     int64     `json:"entry"`
	Withdrawn bool      `json:"withdrawn"`
	Expires   time.Time `json:"expires"`
	Limit     uint64    `json:"limit"`
	Runs      []string  `json:"runs,omitempty"`
}

type savedRun struct {
	ID       string        `json:"id"`
	Key      []byte        `json:"key"` // SPKI
	Version  uint64        `json:"version"`
	Replica  uint64        `json:"replica,omitempty"`
	Evidence string        `json:"evidence,omitempty"`
	Sequence uint64        `json:"sequence"`
	Previous string        `json:"previous,omitempty"`
	Begun    int64         `json:"begun"`
	Asked    []savedAnswer `json:"asked,omitempty"`
	Started  string        `json:"started,omitempty"`
	End      *savedEnding  `json:"end,omitempty"`
}

type savedAnswer struct {
	Scope string `json:"scope"`
	Answer
	Nonce string `json:"nonce"`
}

type savedEnding struct {
	Complete bool   `json:"complete"`
	Detail   string `json:"detail,omitempty"`
}

// Save returns the view for RestoreView. Whoever keeps it must see to it that nobody
// changes it: a snapshot says what a log of 1,000,000 entries comes to, and is
// believed in the place of reading them.
func (v *View) Save() ([]byte, error) {
	if v.broken != nil || v.signed == nil || v.verified.Size != v.tree.Size() {
		return nil, fault.Errorf(fault.Internal, "report it: this is a defect", "saving a view that is at no checkpoint")
	}
	return json.Marshal(snapshot{v.signed, v.tree.roots, v.state.save()})
}

// RestoreView returns the view that was saved, which goes on from its checkpoint. It
// checks that this is one of the ledger with key, cosigned as demanded, and that it
// is of the tree that was saved. That the rest was not changed is for the caller to
// know.
func RestoreView(key string, w Witnesses, raw []byte) (*View, error) {
	var saved snapshot
	if err := json.Unmarshal(raw, &saved); err != nil {
		return nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	v := NewCosignedView(key, w)
	var err error
	if v.verified, err = OpenCheckpoint(saved.Checkpoint, key); err != nil {
		return nil, err
	}
	if v.time, err = w.Cosigned(saved.Checkpoint); err != nil {
		return nil, err
	}
	v.signed, v.tree = saved.Checkpoint, Frontier{v.verified.Size, saved.Tree}
	if bits.OnesCount64(uint64(v.verified.Size)) != len(saved.Tree) || v.tree.Root() != v.verified.Root {
		return nil, fault.Errorf(fault.Refused, "remove it: the log is read instead", "the snapshot's tree is not the one of its checkpoint")
	}
	return v, saved.State.restore(&v.state)
}

func (s *State) save() savedState {
	saved := savedState{Status: s.status, Contract: s.contract, Digest: s.digest, Retired: map[string][]byte{}, Vouchers: s.vouchers,
		Approvals: s.approvals, Counters: s.counters, Provision: s.provision, Specification: s.specification, Heads: s.heads,
		Pinned: s.pinned, Newest: s.newest, Unknown: s.unknown, Ended: s.ended}
	for _, k := range s.keys {
		saved.Keys = append(saved.Keys, savedKey{k.party, k.key.SPKI()})
	}
	for old, by := range s.retired {
		saved.Retired[old] = by.SPKI()
	}
	for k, g := range s.consents {
		saved.Consents = append(saved.Consents, g.save(k))
	}
	for id, r := range s.runs.all() {
		saved.Runs = append(saved.Runs, r.save(id))
	}
	return saved
}

func (g *grant) save(k consentKey) savedGrant {
	saved := savedGrant{k.party, k.scope, g.entry, g.withdrawn, g.expires, g.limit, nil}
	for id := range g.runs.all() {
		saved.Runs = append(saved.Runs, hex.EncodeToString(id[:]))
	}
	return saved
}

func (r *run) save(id runID) savedRun {
	saved := savedRun{ID: hex.EncodeToString(id[:]), Key: r.key.SPKI(), Version: r.version, Replica: r.replica, Evidence: r.evidence,
		Sequence: r.sequence, Previous: r.previous, Begun: r.begun, Started: r.started}
	for _, a := range r.asked {
		saved.Asked = append(saved.Asked, savedAnswer{a.scope, a.Answer, a.nonce})
	}
	if r.end != nil {
		saved.End = &savedEnding{r.end.complete, r.end.detail}
	}
	return saved
}

func (saved savedState) restore(s *State) error {
	*s = State{status: saved.Status, contract: saved.Contract, digest: saved.Digest, vouchers: saved.Vouchers, approvals: saved.Approvals,
		counters: saved.Counters, provision: saved.Provision, specification: saved.Specification, heads: saved.Heads,
		pinned: saved.Pinned, newest: saved.Newest, unknown: saved.Unknown, ended: saved.Ended}
	if saved.Digest != "" {
		s.keys, s.consents = map[string]signer{}, map[consentKey]*grant{}
	}
	for _, k := range saved.Keys {
		key, err := statement.ParsePublicKey(k.Key)
		if err != nil {
			return err
		}
		s.keys[key.Fingerprint()] = signer{k.Party, key}
	}
	for old, by := range saved.Retired {
		key, err := statement.ParsePublicKey(by)
		if err != nil {
			return err
		}
		s.retire(old, key)
	}
	for _, g := range saved.Consents {
		s.consents[consentKey{g.Party, g.Scope}] = g.restore()
	}
	for _, r := range saved.Runs {
		if err := r.restore(s); err != nil {
			return err
		}
	}
	return nil
}

func (saved savedGrant) restore() *grant {
	g := &grant{entry: saved.Entry, withdrawn: saved.Withdrawn, expires: saved.Expires, limit: saved.Limit}
	for _, id := range saved.Runs {
		g.runs.set(parseRunID(id), true)
	}
	return g
}

func (saved savedRun) restore(s *State) error {
	key, err := statement.ParsePublicKey(saved.Key)
	if err != nil {
		return err
	}
	r := &run{key: key, version: saved.Version, replica: saved.Replica, evidence: saved.Evidence, sequence: saved.Sequence,
		previous: saved.Previous, begun: saved.Begun, started: saved.Started}
	for _, a := range saved.Asked {
		a.Answer.nonce = a.Nonce
		r.asked = append(r.asked, asked{a.Scope, a.Answer})
	}
	if saved.End != nil {
		r.end = &ending{saved.End.Complete, saved.End.Detail}
	}
	s.addRun(parseRunID(saved.ID), r)
	return nil
}
