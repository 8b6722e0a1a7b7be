package governance

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Source is what a log can be read from. Nothing it returns is believed before
// a View has checked it.
type Source interface {
	// Checkpoint returns the newest signed checkpoint.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Entries returns entries from index from on: at least one and as many as
	// suit the ledger, but none at or after to.
	Entries(ctx context.Context, from, to int64) ([][]byte, error)
}

// Log is a ledger as its clients see it. It is safe for concurrent use.
type Log interface {
	Source
	// Append adds entries, one after the other and nobody's between them, and
	// returns when they are durable and covered by the one checkpoint in the
	// receipt. More than one must be statements of one run, and at most MaxAppend.
	// The first that may not be the next stops it: ReasonOf finds the reason in
	// the error, the receipt is of those before it, and nothing else was appended.
	// After any other error some of the entries may be there, the first ones.
	Append(ctx context.Context, entries ...[]byte) (Receipt, error)
}

// MaxAppend is how many entries one append takes: more than a stage of a start
// has, and few enough that what a kill leaves of them is read at once (4 MiB).
const MaxAppend = 64

// Receipt is the ledger's word that entries are in the log.
type Receipt struct {
	Index      int64  // of the first
	Count      int    // 0 where the first was refused already
	Checkpoint []byte // signed, covers them; nil where there are none
}

// Checkpoint is a verified state of a log: size and RFC 6962 root hash.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// NewCheckpoint returns the text of a checkpoint in the form of C2SP
// tlog-checkpoint, ready to be signed as a note.
func NewCheckpoint(origin string, size int64, root tlog.Hash) string {
	return origin + "\n" + strconv.FormatInt(size, 10) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}

// maxCheckpoint bounds a signed checkpoint: three short lines and one line for
// each of some dozens of witnesses.
const maxCheckpoint = 16 << 10

// OpenCheckpoint verifies a checkpoint's signature with the ledger's key, in
// the verifier form of signed notes, and parses it. Signatures by others, as
// witnesses leave them, are passed over, and so are extension lines.
func OpenCheckpoint(signed []byte, key string) (Checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, refuseCheckpoint(errors.New("it is too long"))
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return Checkpoint{}, fault.Errorf(fault.Usage, "it is the line that cloister ledger init prints", "ledger key %q: %w", key, err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, refuseCheckpoint(err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, refuseCheckpoint(err)
	}
	if c.Origin != verifier.Name() {
		return Checkpoint{}, refuseCheckpoint(errors.New("it is of log " + strconv.Quote(c.Origin)))
	}
	return c, nil
}

func refuseCheckpoint(err error) error {
	return fault.Errorf(fault.Refused, "this is not the ledger that was agreed on, or it was tampered with", "the ledger's checkpoint: %w", err)
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		return Checkpoint{}, errors.New("it has fewer than three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, errors.New("its second line is no size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	// The decoder passes over carriage returns; a checkpoint has one form.
	if err != nil || len(root) != tlog.HashSize || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return Checkpoint{}, errors.New("its third line is no root hash")
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: tlog.Hash(root)}, nil
}
