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
// with a proof.
func Export(ctx context.Context, w io.Writer, log Source, view *View, run string) error {
	picked := picker{run: run}
	out := json.NewEncoder(w)
	signed, err := log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	head := ExportHead{Type: exportType, Ledger: view.key, Checkpoint: string(signed), Run: run}
	if run == "" {
		if err := out.Encode(head); err != nil {
			return err
		}
		var failed error
		err := view.Advance(ctx, log, signed, func(s Seen) {
			failed = errors.Join(failed, out.Encode(ExportedEntry{Entry: s.Entry, Index: s.Index}))
		})
		return errors.Join(err, failed)
	}
	if err := view.Advance(ctx, log, signed, picked.see); err != nil {
		return err
	}
	return picked.write(out, head, view.Tree().Size())
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

func (p *picker) see(s Seen) {
	more, err := tlog.StoredHashes(s.Index, s.Entry, p)
	p.hashes, p.err = append(p.hashes, more...), errors.Join(p.err, err)
	if s.Statement == nil {
		return
	}
	e := ExportedEntry{Entry: s.Entry, Index: s.Index}
	if contract, ok := contractOf(s.Statement.Body); ok {
		digest, err := contract.Digest()
		if p.versions == nil {
			p.versions = map[string][]ExportedEntry{}
		}
		p.versions[digest], p.err = append(slices.Clone(p.rotated), e), errors.Join(p.err, err)
	}
	if s.Statement.Body.Type() == statement.TypeRotate {
		p.rotated = append(p.rotated, e)
	}
	body, ok := s.Statement.Body.(statement.RunBody)
	if !ok || body.Header().ID != p.run {
		return
	}
	if begin, ok := body.(*statement.RunBegin); ok {
		p.entries = append(p.entries, p.versions[begin.ContractDigest]...)
	}
	p.entries = append(p.entries, e)
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
