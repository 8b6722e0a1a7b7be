package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"cloister/governance"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
)

const (
	keyFile       = "witness.key"
	publicFile    = "witness.pub"
	ledgersDir    = "ledgers"
	withdrawnFile = "withdrawn"
	lockFile      = "lock"
)

// followed is a ledger, and the checkpoint of it that was cosigned last.
type followed struct {
	key    string
	name   string
	signed []byte // nil before the first
	head   governance.Checkpoint
}

func ledgerFile(dir, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(dir, ledgersDir, hex.EncodeToString(sum[:]))
}

// readLedger reads what is known of the ledger of that name. A head that its
// ledger has not signed is refused: somebody wrote into the directory.
func readLedger(dir, name string) (followed, error) {
	raw, err := os.ReadFile(ledgerFile(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return followed{}, fault.Errorf(fault.NotFound, "cloister witness init --ledger-key makes a witness of it", "this witness follows no ledger %.100q", name)
	}
	if err != nil {
		return followed{}, err
	}
	key, signed, ok := bytes.Cut(raw, []byte("\n\n"))
	f := followed{key: string(key), name: name}
	if !ok {
		return f, fault.Errorf(fault.Refused, "make a new witness", "what is remembered of ledger %s is damaged", name)
	}
	if len(signed) == 0 {
		return f, nil
	}
	f.signed = signed
	if f.head, err = governance.OpenCheckpoint(signed, f.key); err != nil {
		return f, fault.Errorf(fault.Refused, "make a new witness", "what is remembered of ledger %s is damaged: %v", name, err)
	}
	return f, nil
}

func (f followed) bytes() []byte { return append([]byte(f.key+"\n\n"), f.signed...) }

// writeFile returns when the file is durable: old or new, never half. The
// caller holds the lock, so nobody else writes the temporary file.
func (w *Witness) writeFile(path string, data []byte) error {
	temporary := path + ".new"
	w.before("write")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeNew(temporary, data, 0o644); err != nil {
		return err
	}
	w.before("rename")
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	w.before("sync directory")
	return syncDir(filepath.Dir(path))
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncDir makes a rename durable. Windows has no such call and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readKeys returns the private key's text and the verifier key, and refuses a
// private key that others can read. Windows has no mode bits.
func readKeys(dir string) (secret, public string, err error) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", "", fault.Errorf(fault.NotFound, "make one with cloister witness init", "there is no witness in %s", dir)
	}
	if err != nil {
		return "", "", err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", "", fault.Errorf(fault.Refused, "chmod 600 "+path, "witness key %s is readable by others (mode %o)", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("reading the witness's key: %w", err)
	}
	pub, err := os.ReadFile(filepath.Join(dir, publicFile))
	if err != nil {
		return "", "", fmt.Errorf("reading the witness's verifier key: %w", err)
	}
	return strings.TrimSpace(string(raw)), strings.TrimSpace(string(pub)), nil
}

// checkLedgerKey returns the name of the ledger whose verifier key it is.
func checkLedgerKey(key string) (string, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return "", fault.Errorf(fault.Usage, "it is the line that cloister ledger init prints", "ledger key %.120q: %w", key, err)
	}
	return v.Name(), nil
}
