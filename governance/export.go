package governance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/tlog"
)

const exportType = "cloister-audit-export/v1"

// maxExportLine is far above an entry in base64 with its proof, in bytes.
const maxExportLine = 256 << 10

// ExportHead is the first line of an export; each line after it is an
// ExportedEntry. What it says of itself is believed only as far as it is proven.
type ExportHead struct {
	Type       string `json:"type"`
	Ledger     string `json:"ledger"`        // verifier key, as the exporter had it
	Checkpoint string `json:"checkpoint"`    // signed
	Run        string `json:"run,omitempty"` // whose entries these are; "" for the whole log
}

// ExportedEntry is one entry. Those of a run carry RFC 6962 inclusion proofs,
// those of a whole log need none: together they have the checkpoint's root.
type ExportedEntry struct {
	Entry []byte           `json:"entry"`
	Index int64            `json:"index"`
	Proof tlog.RecordProof `json:"proof,omitempty"`
}

// Export verifies the log through view, which is new, and writes it, or, if run is
// not "", that run's entries and the contract version that it carries out, each
// with a proof. For a run the log is read and hashed, and neither folded nor its
// signatures checked: what is exported is what the log has of the run, none left out,
// and Auditor.AuditRun judges it.
func Export(ctx context.Context, w io.Writer, log Source, view *View, run string) error {
	signed, err := log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	head, out := ExportHead{Type: exportType, Ledger: view.key, Checkpoint: string(signed), Run: run}, json.NewEncoder(w)
	if run != "" {
		return exportRun(ctx, out, log, view, head)
	}
	if err := out.Encode(head); err != nil {
		return err
	}
	var failed error
	err = view.Advance(ctx, log, signed, func(s Seen) {
		failed = errors.Join(failed, out.Encode(ExportedEntry{Entry: s.Entry, Index: s.Index}))
	})
	return errors.Join(err, failed)
}

func exportRun(ctx context.Context, out *json.Encoder, log Source, view *View, head ExportHead) error {
	at, err := OpenCheckpoint([]byte(head.Checkpoint), view.key)
	if err != nil {
		return err
	}
	if _, err := view.witnesses.Cosigned([]byte(head.Checkpoint)); err != nil {
		return err
	}
	if at.Size < view.remembered.Size {
		return view.breaks("the ledger shows a log of %d entries, there were %d before: it was rolled back", at.Size, view.remembered.Size)
	}
	picked := picker{run: head.Run}
	if err := picked.read(ctx, log, at.Size); err != nil {
		return err
	}
	root, err := tlog.TreeHash(at.Size, &picked)
	if err != nil || root != at.Root {
		return errors.Join(err, view.breaks("the ledger's %d entries do not have the root of its checkpoint: an entry was changed, moved, dropped or put in", at.Size))
	}
	if was := view.remembered; was.Size > 0 {
		if root, err := tlog.TreeHash(was.Size, &picked); err != nil || root != was.Root {
			return errors.Join(err, view.breaks("the ledger's first %d entries are not the ones that were there before", was.Size))
		}
	}
	return picked.write(out, head, at.Size)
}

// picker keeps what a run's export needs: the tree's hashes (64 bytes an entry)
// and the entries themselves.
type picker struct {
	run      string
	hashes   []tlog.Hash
	versions map[string][]ExportedEntry // that bring a contract version, by digest; rotations first
	rotated  []ExportedEntry            // parties' keys, until now
	entries  []ExportedEntry
	err      error
}

// ReadHashes implements tlog.HashReader.
func (p *picker) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, p.hashes[i])
	}
	return list, nil
}

func (p *picker) read(ctx context.Context, log Source, size int64) error {
	batches, stop := readAhead(ctx, log, 0, size)
	defer stop()
	next := int64(0)
	for b := range batches {
		if b.err != nil {
			return fmt.Errorf("reading entries from %d on: %w", next, b.err)
		}
		for i, e := range b.opened {
			p.see(next+int64(i), b.entries[i], e)
		}
		next += int64(len(b.opened))
	}
	if p.err == nil && next != size {
		p.err = errors.Join(ctx.Err(), fault.Errorf(fault.Refused, "keep the ledger's files and its checkpoint: they are the evidence", "the ledger shows %d entries, its checkpoint is of %d", next, size))
	}
	return p.err
}

func (p *picker) see(index int64, entry []byte, o opened) {
	more, err := tlog.StoredHashesForRecordHash(index, o.leaf, p)
	p.hashes, p.err = append(p.hashes, more...), errors.Join(p.err, err)
	if o.err != nil {
		return
	}
	e := ExportedEntry{Entry: entry, Index: index}
	if contract, ok := contractOf(o.Body); ok {
		p.seeVersion(contract, e)
	}
	if o.Body.Type() == statement.TypeRotate {
		p.rotated = append(p.rotated, e)
	}
	body, ok := o.Body.(statement.RunBody)
	if !ok || body.Header().ID != p.run {
		return
	}
	if begin, ok := body.(*statement.RunBegin); ok {
		p.entries = append(p.entries, p.versions[begin.ContractDigest]...)
	}
	p.entries = append(p.entries, e)
}

// seeVersion keeps a contract version as the log first brings it.
func (p *picker) seeVersion(contract statement.Contract, e ExportedEntry) {
	digest, err := contract.Digest()
	if p.err = errors.Join(p.err, err); p.versions == nil {
		p.versions = map[string][]ExportedEntry{}
	}
	if p.versions[digest] == nil {
		p.versions[digest] = append(slices.Clone(p.rotated), e)
	}
}

// contractOf returns the contract version that a statement brings.
func contractOf(body statement.Body) (statement.Contract, bool) {
	switch b := body.(type) {
	case *statement.Propose:
		return b.Contract, true
	case *statement.Amend:
		return b.Contract, true
	default:
		return statement.Contract{}, false
	}
}

func (p *picker) write(out *json.Encoder, head ExportHead, size int64) error {
	if p.err != nil {
		return p.err
	}
	if len(p.entries) == 0 {
		return fault.Errorf(fault.NotFound, "see cloister audit list", "the log has no run %s", p.run)
	}
	if err := out.Encode(head); err != nil {
		return err
	}
	for _, e := range p.entries {
		var err error
		if e.Proof, err = tlog.ProveRecord(size, e.Index, p); err != nil {
			return err
		}
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// Exported reads an export. It implements Source for one of a whole log, read
// once from its beginning.
type Exported struct {
	Head  ExportHead
	lines *bufio.Scanner
	next  int64
}

// OpenExport reads an export's first line.
func OpenExport(r io.Reader) (*Exported, error) {
	x := &Exported{lines: bufio.NewScanner(r)}
	x.lines.Buffer(nil, maxExportLine)
	if err := x.read(&x.Head); err != nil || x.Head.Type != exportType {
		return nil, fault.Errorf(fault.Refused, "it is what cloister audit export writes", "this is no export of type %s", exportType)
	}
	return x, nil
}

func (x *Exported) read(v any) error {
	if !x.lines.Scan() {
		if err := x.lines.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return json.Unmarshal(x.lines.Bytes(), v)
}

// Checkpoint implements Source.
func (x *Exported) Checkpoint(context.Context) ([]byte, error) { return []byte(x.Head.Checkpoint), nil }

// Entries implements Source.
func (x *Exported) Entries(_ context.Context, from, to int64) ([][]byte, error) {
	if from != x.next {
		return nil, fault.Errorf(fault.Internal, "report it: this is a defect", "entry %d of an export that is read up to %d", from, x.next)
	}
	var list [][]byte
	for ; x.next < min(to, from+exportBatch); x.next++ {
		var e ExportedEntry
		if err := x.read(&e); err != nil || e.Index != x.next {
			return nil, fault.Errorf(fault.Refused, "export again", "the export breaks off at entry %d of %d: %w", x.next, to, orWrongIndex(err))
		}
		list = append(list, e.Entry)
	}
	return list, nil
}

const exportBatch = 1024 // entries: as many as two processors need not wait for each other

func orWrongIndex(err error) error {
	if err == nil {
		return fmt.Errorf("another entry follows")
	}
	return err
}
