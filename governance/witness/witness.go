package witness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloister/governance"
	"cloister/internal/fault"

	"github.com/rogpeppe/go-internal/lockedfile"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Witness is an open witness. It is safe for concurrent use, also by several
// processes.
type Witness struct {
	dir    string
	key    string // verifier key
	signer note.Signer
	lock   *lockedfile.Mutex
	// before is called before each step of a cosignature, by name. Tests kill the
	// process there.
	before func(step string)
}

// Open opens the witness in dir.
func Open(dir string) (*Witness, error) {
	secret, public, err := readKeys(dir)
	if err != nil {
		return nil, err
	}
	signer, err := fnote.NewSignerForCosignatureV1(secret)
	if err != nil {
		// The error of a malformed key must not carry the key.
		return nil, fault.Errorf(fault.Refused, "make a new witness", "%s is not a witness's key", filepath.Join(dir, keyFile))
	}
	verifier, err := governance.ParseWitnessKey(public)
	if err != nil || verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, fault.Errorf(fault.Refused, "make a new witness", "%s is not the key that %s names", filepath.Join(dir, keyFile), publicFile)
	}
	return &Witness{dir: dir, key: public, signer: signer, lock: lockedfile.MutexAt(filepath.Join(dir, lockFile)), before: func(string) {}}, nil
}

// Key returns the witness's verifier key.
func (w *Witness) Key() string { return w.key }

// Cosign returns a witness's signature line for a signed checkpoint, having
// remembered it. old is the size that the ledger believes was cosigned last, and
// proof leads from there to the checkpoint. Errors of a size that is another are
// of type *SizeError.
func (w *Witness) Cosign(signed []byte, old int64, proof tlog.TreeProof) (line []byte, err error) {
	name, _, _ := strings.Cut(string(signed), "\n")
	f, err := readLedger(w.dir, name)
	if err != nil {
		return nil, err
	}
	next, err := governance.OpenCheckpoint(signed, f.key)
	if err != nil {
		return nil, &badRequest{err}
	}
	err = w.locked(func() error {
		line, err = w.cosign(name, signed, next, old, proof)
		return err
	})
	return line, err
}

func (w *Witness) cosign(name string, signed []byte, next governance.Checkpoint, old int64, proof tlog.TreeProof) ([]byte, error) {
	if err := w.consents(); err != nil {
		return nil, err
	}
	f, err := readLedger(w.dir, name)
	if err != nil {
		return nil, err
	}
	if err := f.goesOn(next, old, proof); err != nil {
		return nil, err
	}
	f.signed = signed
	if err := w.writeFile(ledgerFile(w.dir, name), f.bytes()); err != nil {
		return nil, fmt.Errorf("remembering the checkpoint: %w", err)
	}
	w.before("sign")
	return w.sign(signed)
}

// SizeError says that the ledger did not start from what was cosigned last.
type SizeError struct{ Size int64 } // cosigned last

func (e *SizeError) Error() string {
	return fmt.Sprintf("the newest checkpoint that this witness cosigned has %d entries", e.Size)
}

// errProof and errSize are what a ledger is told that its request is not.
var (
	errProof = errors.New("the proof does not lead from the log that this witness cosigned to this one")
	errSize  = errors.New("the old size is larger than the checkpoint's")

	errWithdrawn = fault.Sentinel(fault.Refused, "the party of this witness has withdrawn")
)

// goesOn refuses a checkpoint of a log that does not go on from the head.
func (f followed) goesOn(next governance.Checkpoint, old int64, proof tlog.TreeProof) error {
	switch {
	case old < 0 || old > next.Size:
		return errSize
	case old != f.head.Size:
		return &SizeError{f.head.Size}
	case old == next.Size && f.signed != nil && next.Root != f.head.Root:
		return &SizeError{f.head.Size} // C2SP tlog-witness: 409, as above
	case old == 0 || old == next.Size:
		if len(proof) > 0 {
			return errProof
		}
		return nil
	}
	if tlog.CheckTree(proof, next.Size, next.Root, old, f.head.Root) != nil {
		return errProof
	}
	return nil
}

// sign returns the signature line alone.
func (w *Witness) sign(signed []byte) ([]byte, error) {
	text := signed[:bytes.LastIndex(signed, []byte("\n\n"))+1]
	cosigned, err := note.Sign(&note.Note{Text: string(text)}, w.signer)
	if err != nil {
		return nil, err
	}
	return cosigned[len(text)+1:], nil
}

// consents refuses while the party's consent is withdrawn.
func (w *Witness) consents() error {
	why, err := os.ReadFile(filepath.Join(w.dir, withdrawnFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errWithdrawn, bytes.TrimSpace(why))
}

// Withdraw ends the cosigning. When it returns, nothing more is cosigned, also
// not what is being asked for meanwhile.
func (w *Witness) Withdraw(reason string) error {
	return w.locked(func() error {
		said := time.Now().UTC().Format(time.RFC3339) + " " + reason
		return w.writeFile(filepath.Join(w.dir, withdrawnFile), []byte(strings.TrimSpace(said)+"\n"))
	})
}

// Resume ends a withdrawal.
func (w *Witness) Resume() error {
	return w.locked(func() error {
		err := os.Remove(filepath.Join(w.dir, withdrawnFile))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return errors.Join(err, syncDir(w.dir))
	})
}

func (w *Witness) locked(do func() error) error {
	unlock, err := w.lock.Lock()
	if err != nil {
		return fmt.Errorf("locking the witness: %w", err)
	}
	defer unlock()
	return do()
}

// Status is what a witness stands for.
type Status struct {
	Key       string   `json:"key"`
	Withdrawn string   `json:"withdrawn,omitempty"` // since when and why; "" where it cosigns
	Ledgers   []Ledger `json:"ledgers"`
}

// Ledger is a ledger that a witness follows.
type Ledger struct {
	Key  string `json:"key"`
	Size int64  `json:"size"` // of the checkpoint cosigned last, in entries; 0 where there was none
	Root string `json:"root,omitempty"`
}

// Status reads what the witness stands for.
func (w *Witness) Status() (Status, error) {
	s := Status{Key: w.key}
	if why, err := os.ReadFile(filepath.Join(w.dir, withdrawnFile)); err == nil {
		s.Withdrawn = strings.TrimSpace(string(why))
	} else if !errors.Is(err, os.ErrNotExist) {
		return s, err
	}
	names, err := w.followed()
	for _, name := range names {
		f, err := readLedger(w.dir, name)
		if err != nil {
			return s, err
		}
		l := Ledger{Key: f.key, Size: f.head.Size}
		if f.signed != nil {
			l.Root = f.head.Root.String()
		}
		s.Ledgers = append(s.Ledgers, l)
	}
	return s, err
}

// followed returns the names of the ledgers.
func (w *Witness) followed() (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(w.dir, ledgersDir, strings.Repeat("[0-9a-f]", 64)))
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(string(raw), "+")
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}
