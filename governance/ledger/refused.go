package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
)

// What was refused is in two files, the newer of which takes the older one's place
// when it is full: the newest 1 to 2 MiB, however much is refused.
const (
	refusedFile  = "refused"
	refusedOlder = "refused.older"
	maxRefused   = 1 << 20
)

// keepRefused keeps an entry that was refused, where the contract says so and a
// party or a run of it signed it: nobody else can have anything kept. Whoever
// calls it holds the ledger's lock.
func (l *Ledger) keepRefused(entry []byte, refusal error) error {
	state := l.view.State()
	if governance.ReasonOf(refusal) == "" || !state.Signed(entry) || !state.KeepsRefused() {
		return nil
	}
	line, err := json.Marshal(governance.Refused{Time: time.Now().UTC(), Reason: governance.ReasonOf(refusal), Detail: statement.Text(refusal.Error()), Statement: entry})
	if err != nil {
		return err
	}
	path := filepath.Join(string(l.dir), refusedFile)
	if info, err := os.Stat(path); err == nil && info.Size()+int64(len(line)) >= maxRefused {
		if err := os.Rename(path, filepath.Join(string(l.dir), refusedOlder)); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// Refused returns what is kept of refused statements, the oldest first. What a kill
// left half written is passed over.
func (l *Ledger) Refused(ctx context.Context) ([]governance.Refused, error) {
	unlock, err := l.lockFiles(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list := []governance.Refused{}
	for _, name := range []string{refusedOlder, refusedFile} {
		raw, err := os.ReadFile(filepath.Join(string(l.dir), name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading what was refused: %w", err)
		}
		for line := range bytes.Lines(raw) {
			var r governance.Refused
			if json.Unmarshal(line, &r) == nil {
				list = append(list, r)
			}
		}
	}
	return list, nil
}
