package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
)

// Init makes a ledger in dir, which must be empty or not there, and returns its
// verifier key. parties are the fingerprints of the keys of which one may propose
// the contract, and may read before there is one. An empty name takes a random one.
func Init(dir, name string, parties ...string) (string, error) {
	secret, public, err := generate(dir, name, parties)
	if err != nil {
		return "", err
	}
	return public, create(dir, secret, public, parties, writeNew)
}

// Create makes a ledger as Init does, and opens it. Its key is in this process alone
// and ends with it: nobody, whoever has the directory, signs in its place, and what is
// in there can be read from then on, and not be continued.
func Create(ctx context.Context, dir string, parties []string, options ...Option) (*Ledger, error) {
	secret, public, err := generate(dir, "", parties)
	if err != nil {
		return nil, err
	}
	butTheKey := func(path string, data []byte, mode os.FileMode) error {
		if filepath.Base(path) == keyFile {
			return nil
		}
		return writeNew(path, data, mode)
	}
	if err := create(dir, secret, public, parties, butTheKey); err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	seal, err := newSealKey([]byte(secret))
	if err != nil {
		return nil, err
	}
	return openWith(ctx, dir, public, signer, seal, options)
}

// generate makes the key of a ledger that is to be in dir.
func generate(dir, name string, parties []string) (secret, public string, err error) {
	if len(parties) == 0 {
		return "", "", fault.Errorf(fault.Usage, "name the party that is to propose the contract", "nobody could propose a contract in ledger %s", dir)
	}
	if err := emptyDir(dir); err != nil {
		return "", "", err
	}
	if name == "" {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", "", err
		}
		name = "cloister-ledger-" + hex.EncodeToString(id[:])
	}
	if err := statement.CheckName(name); err != nil {
		return "", "", fault.Errorf(fault.Usage, "give a name of lower-case letters, digits, dots and dashes", "the ledger's %w", err)
	}
	return note.GenerateKey(rand.Reader, name)
}

// create writes the checkpoint last: with it, the directory is a ledger.
func create(dir, secret, public string, parties []string, write func(path string, data []byte, mode os.FileMode) error) error {
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
	}{{keyFile, 0o600, secret + "\n"}, {tiles.KeyFile, 0o644, public + "\n"},
		{partiesFile, 0o644, strings.Join(parties, "\n") + "\n"}, {lockFile, 0o644, ""}} {
		if err := write(filepath.Join(dir, f.name), []byte(f.data), f.mode); err != nil {
			return err
		}
	}
	return putCheckpoint(tiles.Dir(dir), signed)
}

// mayPropose says whether the operator made the ledger for the party of a key.
func (l *Ledger) mayPropose(fingerprint string) (bool, error) {
	raw, err := os.ReadFile(filepath.Join(string(l.dir), partiesFile))
	if err != nil {
		return false, fmt.Errorf("reading who may propose a contract: %w", err)
	}
	return slices.Contains(strings.Fields(string(raw)), fingerprint), nil
}

func readSigner(path, public string) (signer note.Signer, made sealKey, err error) {
	if err := checkPrivate(path); err != nil {
		return nil, made, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, made, fmt.Errorf("reading the ledger's key: %w", err)
	}
	defer clear(raw)
	secret := bytes.TrimSpace(raw)
	if signer, err = note.NewSigner(string(secret)); err != nil {
		// The error of a malformed key must not carry the key.
		return nil, made, fault.Errorf(fault.Refused, "restore it from a backup", "%s is not a ledger's key", path)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil || verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, made, fault.Errorf(fault.Refused, "restore both from one backup", "%s is not the key that %s names", path, tiles.KeyFile)
	}
	made, err = newSealKey(secret)
	return signer, made, err
}

// checkPrivate refuses a key that others can read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fault.Errorf(fault.NotFound, "restore it from a backup", "there is no ledger key %s", path)
	}
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fault.Errorf(fault.Refused, "chmod 600 "+path, "ledger key %s is readable by others (mode %o)", path, info.Mode().Perm())
	}
	return nil
}
