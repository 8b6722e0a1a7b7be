package keyfile

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep/tree"
)

// maxFile is more than any key file takes, in bytes: what is larger is none.
const maxFile = 64 << 10

// Ask returns the passphrase of a key file that has one. Read destroys it.
type Ask func() (*Passphrase, error)

// Read returns the root secret in a key file, the caller's to destroy. ask is
// called only for a file under a passphrase; nil refuses such a file. Errors
// are of kind NotFound, Denied, or Refused where others may read the file, it
// is not a key file, or the passphrase is wrong.
func Read(path string, ask Ask) (*format.RootSecret, error) {
	data, err := readPrivate("key file", path)
	defer clear(data)
	if err != nil {
		return nil, err
	}
	secret, err := Parse(data, ask)
	if errors.Is(err, errPassphrase) || isClassified(err) {
		return nil, fmt.Errorf("opening key file %s: %w", path, err)
	}
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "name the file that `cloister prep keygen` made",
			"%s is not a Cloister key file: %w", path, err)
	}
	return secret, nil
}

func isClassified(err error) bool { return err != nil && fault.KindOf(err) != fault.Internal }

// Parse reads the content of a key file: a comment line and then exactly what
// Write writes. It does not keep data.
func Parse(data []byte, ask Ask) (*format.RootSecret, error) {
	comment, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok || !bytes.HasPrefix(comment, []byte("# ")) {
		return nil, fmt.Errorf("it does not begin with a comment line")
	}
	if !bytes.HasPrefix(rest, []byte(armorHeader)) {
		return parseLine(rest)
	}
	if ask == nil {
		return nil, fault.Errorf(fault.Usage, "run the command at a terminal, which asks for it", "it is under a passphrase, and there is nobody here to ask")
	}
	p, err := ask()
	if err != nil {
		return nil, err
	}
	defer p.Destroy()
	return unlock(rest, p)
}

// ReadPassphrase reads a passphrase from a file of the owner's alone, or a pipe.
func ReadPassphrase(path string) (*Passphrase, error) {
	data, err := readPrivate("passphrase file", path)
	if err != nil {
		clear(data)
		return nil, err
	}
	return NewPassphrase(data)
}

// ReadAES256 reads a key that other software uses, 32 bytes or their base64, the
// caller's to wipe.
func ReadAES256(path string) ([]byte, error) {
	data, err := readPrivate("key file", path)
	if err != nil || len(data) == 32 {
		return data, err
	}
	defer clear(data)
	key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(data)))
	if err != nil || len(key) != 32 {
		clear(key)
		return nil, fault.Errorf(fault.Usage, "name a file of 32 bytes, or of their base64", "%s does not hold an AES-256 key", path)
	}
	return key, nil
}

// readPrivate reads a file of the owner's alone. A pipe will do: nobody else
// reads it either. The caller wipes what it returns, error or not.
func readPrivate(what, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, explain("opening "+what, path, "check the path; `cloister prep keygen` makes a key file", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, explain("opening "+what, path, "", err)
	}
	if m := info.Mode(); !m.IsRegular() && m&os.ModeNamedPipe == 0 {
		return nil, fault.Errorf(fault.Refused, "name the file that `cloister prep keygen` made", "%s %s is not a file", what, path)
	}
	if err := checkPrivate(what, path, info); err != nil {
		return nil, err
	}
	data := make([]byte, maxFile+1)
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return data[:n], nil
	}
	if err == nil {
		err = fault.Errorf(fault.Refused, "name the right file", "%s is too long for a %s", path, what)
	}
	return data, err
}

// explain is tree's, with the remedy for a file that is not there.
func explain(doing, path, missing string, err error) error {
	var p *os.PathError
	if missing != "" && errors.Is(err, os.ErrNotExist) && errors.As(err, &p) {
		return fault.Errorf(fault.NotFound, missing, "%s %s: %w", doing, path, p.Err)
	}
	return tree.Explain(doing, path, err)
}
