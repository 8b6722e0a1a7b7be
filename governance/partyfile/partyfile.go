// Package partyfile keeps a party's private keys on its own disk: the one it
// signs with, and the one that outputs are sealed for.
//
// Life of the keys: Create writes the private halves to a new file that nobody
// else can read, and beside it, with ".pub" at its end, the document that the
// party hands to the others. A command that signs, or opens an output, reads the
// private file with Read and destroys the keys when it is done.
package partyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

const (
	kind    = "cloister-party-key/v1"
	maxSize = 16 << 10 // far above what a file with one key takes
)

// PublicSuffix is what the name of a key's document ends with.
const PublicSuffix = ".pub"

// file is a private file. It has PrivateKey or Token.
type file struct {
	Name       string `json:"name"`
	PrivateKey []byte `json:"privateKey,omitempty"` // PKCS #8 in DER
	// RecipientKey is PKCS #8 in DER as well; a party may have none.
	RecipientKey []byte `json:"recipientKey,omitempty"`
	Token        *Token `json:"token,omitempty"`
	Type         string `json:"type"`
}

// Token says where a signing key is that never leaves its hardware.
type Token struct {
	Key       string `json:"key"`       // the key's label
	Label     string `json:"label"`     // the token's
	Module    string `json:"module"`    // path of the PKCS #11 module that speaks to it
	PublicKey []byte `json:"publicKey"` // SPKI in DER
}

// Party is a party with its private keys. Whoever has one calls Destroy.
type Party struct {
	Name string
	Key  *statement.PrivateKey // nil where Token is set
	// Token says where the signing key is, if it is not in the file.
	Token *Token
	// Recipient is the key that outputs are sealed for, PKCS #8 in DER, or nil:
	// what it means is the volume format's to say.
	Recipient []byte
}

// Destroy makes the keys unusable.
func (p *Party) Destroy() {
	if p.Key != nil {
		p.Key.Destroy()
	}
	clear(p.Recipient)
	p.Recipient = nil
}

// RecipientKey is a new recipient key pair: SubjectPublicKeyInfo and PKCS #8,
// both in DER.
type RecipientKey struct{ Public, Private []byte }

// New is a party to be written to files.
type New struct {
	Name string
	// Key signs; where it is nil the key is in Token.
	Key       *statement.PrivateKey
	Token     *Token
	Recipient RecipientKey // the zero RecipientKey is none
	Recovery  []byte       // public half of the recovery key, SPKI in DER, or nil
}

// Create writes a new party's two files, or neither, and refuses to overwrite.
func Create(path string, n New) error {
	public, private, err := n.halves()
	if err != nil {
		return err
	}
	defer clear(private)
	document, err := statement.EncodeDocument(statement.Party{Key: public, Name: n.Name, Recipient: n.Recipient.Public, Recovery: n.Recovery})
	if err != nil {
		return fault.Errorf(fault.Usage, "give another --name", "%w", err)
	}
	if err := writePrivate(path, file{Name: n.Name, PrivateKey: private, RecipientKey: n.Recipient.Private, Token: n.Token, Type: kind}); err != nil {
		return err
	}
	if err := writeNew(path+PublicSuffix, document, 0o644); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (n New) halves() (public, private []byte, err error) {
	if n.Key == nil {
		return n.Token.PublicKey, nil, nil
	}
	private, err = n.Key.PKCS8()
	return n.Key.Public().SPKI(), private, err
}

// CreateRecovery writes a recovery key to a private file of its own, and refuses
// to overwrite. Its public half is in the party's document.
func CreateRecovery(path, name string, key *statement.PrivateKey) error {
	pkcs8, err := key.PKCS8()
	if err != nil {
		return err
	}
	defer clear(pkcs8)
	return writePrivate(path, file{Name: name, PrivateKey: pkcs8, Type: kind})
}

func writePrivate(path string, f file) error {
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	defer clear(raw)
	return writeNew(path, raw, 0o600)
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fault.Errorf(fault.Conflict, "choose another name; a key that is lost cannot be made again", "%s is already there", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// Read reads a private file. It refuses one that others can read.
func Read(path string) (*Party, error) {
	raw, err := read(path)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fault.Errorf(fault.Refused, "chmod 600 "+path, "party key %s is accessible to others (mode %o)", path, info.Mode().Perm())
	}
	f, err := parse(raw)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give the file that cloister party keygen made", "%s is not a party's key: %w", path, err)
	}
	if f.Token != nil {
		return &Party{Name: f.Name, Token: f.Token, Recipient: f.RecipientKey}, nil
	}
	defer clear(f.PrivateKey)
	key, err := statement.ParsePrivateKey(f.PrivateKey)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give the file that cloister party keygen made", "%s is not a party's key: %w", path, err)
	}
	return &Party{Name: f.Name, Key: key, Recipient: f.RecipientKey}, nil
}

// parse says nothing of the content in its errors: it is secret.
func parse(raw []byte) (file, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var f file
	if err := dec.Decode(&f); err != nil || dec.More() {
		return file{}, errors.New("it is not of the form")
	}
	if f.Type != kind {
		return file{}, errors.New("it is of another type")
	}
	if (f.Token == nil) == (f.PrivateKey == nil) {
		return file{}, errors.New("it has not exactly one signing key")
	}
	return f, statement.CheckName(f.Name)
}

// ReadDocument reads a party's document: of a private file, the one beside it.
func ReadDocument(path string) (statement.Party, error) {
	raw, err := read(path)
	if err != nil {
		return statement.Party{}, err
	}
	defer clear(raw)
	if _, err := parse(raw); err == nil {
		return ReadDocument(path + PublicSuffix)
	}
	p, err := statement.ParseDocument(raw)
	if err != nil {
		return statement.Party{}, fault.Errorf(fault.Usage, "give the .pub file that cloister party keygen made", "%s is not a party's key or document: %w", path, err)
	}
	return p, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "make a party's key with cloister party keygen", "there is no party file %s", path)
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSize {
		return nil, fault.Errorf(fault.Usage, "give the file that `cloister party keygen` wrote", "%s has %d bytes: it is no party file", path, info.Size())
	}
	return os.ReadFile(path)
}
