package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// publicKey returns a key as the specification has it: the argument itself, or
// what is in the file that it names, the inside of PEM or of a party's document
// what pick takes.
func publicKey(arg string, pick func(statement.Party) []byte) (string, error) {
	data, err := os.ReadFile(arg)
	if arg == "" || errors.Is(err, fs.ErrNotExist) {
		return arg, nil
	}
	if err != nil {
		// Base64 may be longer than any file's name.
		if len(arg) > 255 {
			return arg, nil
		}
		return "", fmt.Errorf("reading public key: %w", err)
	}
	if p, err := statement.ParseDocument(data); err == nil {
		key := pick(p)
		if key == nil {
			return "", fault.Errorf(fault.Usage, "make the party's keys with cloister party keygen, which makes both", "the document %s of %s has no key of this kind", arg, p.Name)
		}
		return base64.StdEncoding.EncodeToString(key), nil
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return "", fault.Errorf(fault.Usage, "give the public half: only that belongs in a specification", "%s is not a PEM file with a PUBLIC KEY, and no party's document", arg)
	}
	return base64.StdEncoding.EncodeToString(block.Bytes), nil
}

func signingKey(p statement.Party) []byte   { return p.Key }
func recipientKey(p statement.Party) []byte { return p.Recipient }

// binaryDigest returns a digest as it is, and otherwise that of the named file.
func binaryDigest(arg string) (string, error) {
	if arg == "" || strings.HasPrefix(arg, "sha256:") {
		return arg, nil
	}
	return fileDigest("runtime binary", arg, "give the cloisterd file, or its sha256:…")
}

// fileDigest returns "sha256:" and the hash of a file.
func fileDigest(what, path, hint string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.Errorf(fault.NotFound, hint, "%s %s is not there", what, path)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
