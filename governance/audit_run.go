package governance

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cloister/governance/statement"

	"golang.org/x/mod/sumdb/tlog"
)

// AuditRun checks the export of one run by its proofs, without the rest of the
// log. It cannot say whether consent held at each step, or whether the ledger
// ever showed another log: that takes the whole, and the report says so.
func (a *Auditor) AuditRun(x *Exported) (Report, error) {
	signed := []byte(x.Head.Checkpoint)
	at, err := OpenCheckpoint(signed, a.Key)
	var cosigned time.Time
	if err == nil {
		cosigned, err = a.Witnesses.Cosigned(signed)
	}
	if err != nil {
		a.found("log", "", false, "%v", err)
		return a.report, nil
	}
	a.foundWitnesses(cosigned)
	a.report.Entries, a.report.Head = at.Size, signed
	p, err := readProven(x, at)
	if err != nil {
		a.found("log", "", false, "%v", err)
		return a.report, nil
	}
	id := x.Head.Run
	a.found("log", "", true, "%d entries are in the log of %d that %s signed", p.entries, at.Size, at.Origin)
	a.found("statements", id, true, "the contract version is signed by a party of it, each record by the run's audit key")
	a.found("sequence", id, true, "%d records, each naming the one before, no gap", p.run.sequence)
	a.checkRememberedOf(at)
	a.skipped("consent", id, "not judged: that takes the whole log")
	a.checkEvidence(p.begin, p.contract)
	a.tellClients(id, p.refusals)
	a.checkEnd(id, p.run.end)
	a.report.Runs = []RunStatus{p.run.status(id)}
	return a.report, nil
}

// checkRememberedOf holds the export's checkpoint to the remembered one as far as
// that can be done without the log between them.
func (a *Auditor) checkRememberedOf(at Checkpoint) {
	if a.Remembered == nil {
		return
	}
	const check = "remembered head"
	was, err := OpenCheckpoint(a.Remembered, a.Key)
	switch {
	case err != nil:
		a.found(check, "", false, "%v", err)
	case was.Size == at.Size && was.Root != at.Root:
		a.found(check, "", false, "the ledger signed another log of %d entries before", at.Size)
	case was.Size == at.Size:
		a.found(check, "", true, "the log is the one that was there before")
	default:
		a.skipped(check, "", "not judged: that takes the log between the two")
	}
}

// proven is a run as its export proves it.
type proven struct {
	rotated  []*statement.Opened // parties' keys, before the contract version
	contract statement.Contract
	begin    *statement.RunBegin
	run      run
	entries  int
	last     int64 // index of the newest entry
	refusals refusedClients
}

func readProven(x *Exported, at Checkpoint) (p proven, err error) {
	p.refusals = refusedClients{}
	for p.last = -1; ; p.entries++ {
		var e ExportedEntry
		if err := x.read(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return p, fmt.Errorf("reading the export: %w", err)
		}
		if err := p.add(e, x.Head.Run, at); err != nil {
			return p, fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	if p.begin == nil {
		return p, fmt.Errorf("the export holds no beginning of run %s", x.Head.Run)
	}
	return p, nil
}

func (p *proven) add(e ExportedEntry, id string, at Checkpoint) error {
	if e.Index <= p.last {
		return fmt.Errorf("it stands behind entry %d", p.last)
	}
	p.last = e.Index
	if err := tlog.CheckRecord(e.Proof, at.Size, at.Root, e.Index, tlog.RecordHash(e.Entry)); err != nil {
		return fmt.Errorf("it is not in the log: %w", err)
	}
	o, err := statement.Open(e.Entry)
	if err != nil {
		return err
	}
	if p.contract.ID == "" {
		return p.introduce(o)
	}
	body, ok := o.Body.(statement.RunBody)
	if !ok || body.Header().ID != id || o.Contract != p.contract.ID {
		return fmt.Errorf("%s is not of run %s", o.Body.Type(), id)
	}
	if begin, ok := body.(*statement.RunBegin); ok && p.begin == nil {
		return p.start(o, begin, e.Index)
	}
	return p.record(o, body)
}

// introduce takes what stands before the run: rotations, and the contract version.
func (p *proven) introduce(o *statement.Opened) error {
	if o.Body.Type() == statement.TypeRotate {
		p.rotated = append(p.rotated, o)
		return nil
	}
	contract, ok := contractOf(o.Body)
	if !ok {
		return fmt.Errorf("%s stands before the contract version", o.Body.Type())
	}
	p.contract = contract
	return p.checkOwnParty(o)
}

// checkOwnParty wants the contract version signed by a party of it, with the key
// that it names or with one that took its place.
func (p *proven) checkOwnParty(o *statement.Opened) error {
	version, err := new(State).newVersion(p.contract, nil)
	if err != nil {
		return err
	}
	s := State{contract: p.contract, keys: version.keys}
	s.vouch()
	for _, r := range p.rotated {
		s.replay(r)
	}
	by, ok := s.keys[o.Signers[0].Key]
	if !ok {
		return fmt.Errorf("key %s is of no party of the contract", o.Signers[0].Key)
	}
	return o.Verify(0, by.key)
}

// replay replaces a key as a rotation says that holds for this version. One that
// does not is of a key that the version names no more: it changes nothing.
func (s *State) replay(o *statement.Opened) {
	body, ok := o.Body.(*statement.Rotate)
	if !ok || o.Contract != s.contract.ID {
		return
	}
	if r, err := s.rotation(body); err == nil && s.checkSigners(o, r) == nil {
		s.rotate(r)
	}
}

func (p *proven) start(o *statement.Opened, begin *statement.RunBegin, index int64) error {
	digest, err := p.contract.Digest()
	if err != nil || digest != begin.ContractDigest || o.Version != p.contract.Version || o.Signers[0].Counter != 1 || begin.Replica >= replicasOf(p.contract) {
		return fmt.Errorf("the run does not begin with the contract version of the export")
	}
	key, err := statement.ParsePublicKey(begin.AuditKey)
	if err != nil {
		return err
	}
	p.begin, p.run = begin, run{key: key, version: o.Version, replica: begin.Replica, sequence: 1, previous: o.EntryDigest(), begun: index}
	return o.Verify(0, key)
}

func (p *proven) record(o *statement.Opened, body statement.RunBody) error {
	if p.begin == nil {
		return fmt.Errorf("it stands before the run's beginning")
	}
	if err := o.Verify(0, p.run.key); err != nil {
		return err
	}
	if err := p.run.checkChain(o, body.Header()); err != nil {
		return err
	}
	p.run.sequence, p.run.previous = o.Signers[0].Counter, o.EntryDigest()
	switch b := body.(type) {
	case *statement.Completion:
		p.run.complete(b)
	case *statement.Ingress:
		p.refusals.add(b)
	}
	return nil
}
