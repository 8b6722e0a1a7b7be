package ledger

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
)

// Init makes a ledger in dir, which must be empty or not there, and returns its
// verifier key. An empty name takes a random one.
func Init(dir, name string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fault.Errorf(fault.Usage, "", "making the ledger's directory: %w", err)
	}
	if list, err := os.ReadDir(dir); err != nil {
		return "", err
	} else if len(list) > 0 {
		return "", fault.Errorf(fault.Conflict, "name a new directory", "%s is not empty", dir)
	}
	if name == "" {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", err
		}
		name = "cloister-ledger-" + hex.EncodeToString(id[:])
	}
	if err := statement.CheckName(name); err != nil {
		return "", fault.Errorf(fault.Usage, "", "the ledger's %w", err)
	}
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", err
	}
	return public, create(dir, secret, public)
}

// create writes the checkpoint last: with it, the directory is a ledger.
func create(dir, secret, public string) error {
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	signed, err := sign(signer, &governance.Frontier{})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
		data string
	}{{keyFile, 0o600, secret + "\n"}, {publicFile, 0o644, public + "\n"}, {entriesFile, 0o644, ""}, {lockFile, 0o644, ""}} {
		if err := writeNew(filepath.Join(dir, f.name), []byte(f.data), f.mode); err != nil {
			return err
		}
	}
	return newFiles(dir).putCheckpoint(signed)
}

// ReadKey returns the verifier key that the ledger in dir says it has. Whoever
// has a specification goes by the key in there instead.
func ReadKey(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, publicFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", fault.Errorf(fault.NotFound, "make one with cloister ledger init", "there is no ledger in %s", dir)
	}
	return strings.TrimSpace(string(raw)), err
}

func readSigner(path, public string) (note.Signer, error) {
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's key: %w", err)
	}
	defer clear(raw)
	signer, err := note.NewSigner(string(bytes.TrimSpace(raw)))
	if err != nil {
		// The error of a malformed key must not carry the key.
		return nil, fault.Errorf(fault.Refused, "restore it from a backup", "%s is not a ledger's key", path)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil || verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, fault.Errorf(fault.Refused, "restore both from one backup", "%s is not the key that %s names", path, publicFile)
	}
	return signer, nil
}
