package witness

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"cloister/governance/statement"
	"cloister/internal/fault"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Init makes a witness in dir, which must be empty or not there, that follows
// the ledgers with these verifier keys. It returns the witness's own. An empty
// name takes a random one.
func Init(dir, name string, ledgers ...string) (string, error) {
	if len(ledgers) == 0 {
		return "", fault.Errorf(fault.Usage, "give the key that cloister ledger init printed", "a witness follows at least one ledger")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fault.Errorf(fault.Usage, "name a directory that can be made", "making the witness's directory: %w", err)
	}
	if list, err := os.ReadDir(dir); err != nil {
		return "", err
	} else if len(list) > 0 {
		return "", fault.Errorf(fault.Conflict, "name a new directory", "%s is not empty", dir)
	}
	secret, public, err := generate(name)
	if err != nil {
		return "", err
	}
	heads, err := newHeads(dir, ledgers)
	if err != nil {
		return "", err
	}
	return public, create(dir, secret, public, heads)
}

func generate(name string) (secret, public string, err error) {
	if name == "" {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", "", err
		}
		name = "cloister-witness-" + hex.EncodeToString(id[:])
	}
	if err := statement.CheckName(name); err != nil {
		return "", "", fault.Errorf(fault.Usage, "give a --name of lower-case letters, digits, dots and dashes", "the witness's %w", err)
	}
	secret, public, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", err
	}
	public, err = fnote.VKeyToCosignatureV1(public)
	return secret, public, err
}

// newHeads are the files of ledgers of which nothing was cosigned yet, by path.
func newHeads(dir string, ledgers []string) (map[string][]byte, error) {
	heads := map[string][]byte{}
	for _, key := range ledgers {
		name, err := checkLedgerKey(key)
		if err != nil {
			return nil, err
		}
		path := ledgerFile(dir, name)
		if heads[path] != nil {
			return nil, fault.Errorf(fault.Usage, "name each ledger once", "two ledger keys are of %s", name)
		}
		heads[path] = followed{key: key}.bytes()
	}
	return heads, nil
}

// create writes the private key last: with it, the directory is a witness.
func create(dir, secret, public string, heads map[string][]byte) error {
	if err := os.Mkdir(filepath.Join(dir, ledgersDir), 0o755); err != nil {
		return err
	}
	for path, head := range heads {
		if err := writeNew(path, head, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		syncDir(filepath.Join(dir, ledgersDir)),
		writeNew(filepath.Join(dir, lockFile), nil, 0o644),
		writeNew(filepath.Join(dir, publicFile), []byte(public+"\n"), 0o644),
		writeNew(filepath.Join(dir, keyFile), []byte(secret+"\n"), 0o600),
		syncDir(dir))
}
