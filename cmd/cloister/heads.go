package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func headsFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "heads", Usage: "where it is remembered how far each ledger had come, `DIR`; by default with the user's configuration"}
}

// watched is a log's view that refuses a log that does not go on from what was seen
// of it before, by whichever command.
type watched struct {
	*governance.View
	head head
	was  []byte // the remembered checkpoint, nil for none
}

// newWatched returns a new view of the ledger with key.
func newWatched(c *urfave.Context, key string, w governance.Witnesses) (*watched, error) {
	v := &watched{View: governance.NewCosignedView(key, w)}
	var err error
	if v.head, v.was, err = recall(c, key); err == nil && v.was != nil {
		err = v.Remember(v.was)
	}
	return v, err
}

// watchedLog returns the log that is audited, with the trust that the flags put in it,
// and what lets go of the key of who reads.
func watchedLog(c *urfave.Context) (log governance.Source, v *watched, done func(), err error) {
	log, key, witnesses, done, err := auditLog(c)
	if err != nil {
		return nil, nil, done, err
	}
	v, err = newWatched(c, key, witnesses)
	return log, v, done, err
}

// watchedLogOf returns the log of a specification, with the trust that this puts in
// it, and what lets go of the key of who reads.
func watchedLogOf(c *urfave.Context, s spec.Specification) (log governance.Log, v *watched, done func(), err error) {
	found, _, done, err := findLogOf(c, &s)
	if err != nil {
		return nil, nil, done, err
	}
	g := s.Governance
	v, err = newWatched(c, g.LedgerKey, governance.Witnesses{Keys: g.Witnesses, Threshold: g.Threshold})
	return found, v, done, err
}

// follow verifies the log up to its newest checkpoint, hands each entry to visit, and
// remembers where it is then.
func (v *watched) follow(ctx context.Context, log governance.Source, visit func(governance.Seen)) error {
	if err := v.AdvanceToNewest(ctx, log, visit); err != nil {
		return err
	}
	return v.remember()
}

func (v *watched) remember() error {
	_, signed := v.Checkpoint()
	if bytes.Equal(signed, v.was) {
		return nil
	}
	v.was = signed
	return v.head.remember(signed)
}

// head is the file that remembers a ledger's head; "" for none.
type head string

// recall returns the head that was seen last of the ledger with this key, nil
// the first time. A head that cannot be read is an error: it may be the one that
// would have shown a rollback.
func recall(c *urfave.Context, key string) (head, []byte, error) {
	dir := c.String("heads")
	if dir == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return "", nil, fault.Errorf(fault.Usage, "name a directory with --heads", "remembering the ledger's head: %w", err)
		}
		dir = filepath.Join(config, "cloister", "heads")
	}
	path := filepath.Join(dir, strings.TrimPrefix(statement.Digest([]byte(key)), "sha256:"))
	signed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return head(path), nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading the remembered head: %w", err)
	}
	return head(path), signed, nil
}

func (h head) remember(signed []byte) error {
	if h == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(string(h)), 0o700); err != nil {
		return fault.Errorf(fault.Usage, "name a directory with --heads", "remembering the ledger's head: %w", err)
	}
	return replaceFile(string(h), signed)
}
