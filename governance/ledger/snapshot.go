package ledger

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cloister/governance"
)

const (
	snapshotFile = "snapshot"
	// snapshotEvery is after how many entries the fold is saved: a start reads as
	// many in about a second and a half, and to save one of a million entries takes
	// some tenths of a second, in which appends wait.
	snapshotEvery = 1 << 15
)

// sealKey is what a snapshot is authenticated with: a key that only who holds the
// ledger's can make, over the program too that folded. Another one's fold may come
// to something else, so after an upgrade the log is read once. It is HMAC-SHA256
// with the key's own text as its key, for nothing else: notes are signed with
// Ed25519.
type sealKey [sha256.Size]byte

func newSealKey(secret []byte) (s sealKey, err error) {
	program, err := digestOfProgram()
	if err != nil {
		return s, err
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "cloister ledger snapshot v1\n%x\n", program)
	return sealKey(mac.Sum(nil)), nil
}

func digestOfProgram() ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

func (s sealKey) over(saved []byte) []byte {
	mac := hmac.New(sha256.New, s[:])
	mac.Write(saved)
	return mac.Sum(nil)
}

// WithoutSnapshot has the log verified from its first entry, whatever is saved.
func WithoutSnapshot() Option { return func(l *Ledger) { l.distrust = true } }

// begin follows the log from where the fold was saved, or from its first entry
// where nothing is saved that holds: a snapshot is only ever a shorter way to what
// the log says.
func (l *Ledger) begin(follow func() error) error {
	if view, err := l.restore(); err == nil {
		l.view, l.saved = view, view.Tree().Size()
		if follow() == nil {
			return nil
		}
		l.view, l.saved, l.foreign = governance.NewView(l.key), 0, nil
	}
	return follow()
}

var errNoSnapshot = errors.New("there is no snapshot that holds")

func (l *Ledger) restore() (*governance.View, error) {
	raw, err := os.ReadFile(filepath.Join(string(l.dir), snapshotFile))
	if err != nil || l.distrust || len(raw) < sha256.Size {
		return nil, errNoSnapshot
	}
	mac, saved := raw[:sha256.Size], raw[sha256.Size:]
	if !hmac.Equal(mac, l.seal.over(saved)) {
		return nil, errNoSnapshot
	}
	return governance.RestoreView(l.key, governance.Witnesses{}, saved)
}

// saveSometimes saves the fold once the log has grown enough. That it could not be
// costs the next start its time and nothing else, so it fails no append.
func (l *Ledger) saveSometimes() {
	if l.view.Tree().Size()-l.saved >= l.saveEvery {
		_ = l.save()
	}
}

// save is called by whoever has the turn and holds the ledger's lock. What is in
// place is the old snapshot or the new one, or, should a disk lose a part of it,
// none that holds.
func (l *Ledger) save() error {
	saved, err := l.view.Save()
	if err != nil || l.foreign != nil {
		return errors.Join(err, l.foreign)
	}
	if err := replace(string(l.dir), snapshotFile, bytes.Join([][]byte{l.seal.over(saved), saved}, nil), 0o600); err != nil {
		return fmt.Errorf("saving the fold: %w", err)
	}
	l.saved = l.view.Tree().Size()
	return nil
}
