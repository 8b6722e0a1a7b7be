package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"filippo.io/age"
	"filippo.io/age/armor"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// Passphrase protects a key file. It prints as [secret].
type Passphrase struct{ b []byte }

// NewPassphrase takes b over; Destroy wipes it. A passphrase is one line: a new
// line at its end is dropped, an empty one refused.
func NewPassphrase(b []byte) (*Passphrase, error) {
	line := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(line) == 0 || bytes.ContainsAny(line, "\n\r\x00") {
		clear(b)
		return nil, fault.Errorf(fault.Usage, "give one line that is not empty", "the passphrase is empty or of several lines")
	}
	return &Passphrase{line}, nil
}

func (*Passphrase) String() string             { return "[secret]" }
func (*Passphrase) GoString() string           { return "[secret]" }
func (*Passphrase) Format(w fmt.State, _ rune) { io.WriteString(w, "[secret]") }
func (*Passphrase) LogValue() slog.Value       { return slog.StringValue("[secret]") }

// Destroy overwrites the passphrase. The copies that age takes as strings
// cannot be; they live until the process ends, which for the owner's commands
// is soon.
func (p *Passphrase) Destroy() { clear(p.b) }

// Equal reports whether two passphrases are the same; for typing one twice.
func (p *Passphrase) Equal(q *Passphrase) bool { return bytes.Equal(p.b, q.b) }

// The cost of one guess, as the logarithm of scrypt's N: 18 takes about a
// second and 256 MiB (age's default). A file that asks for more than 20 is not
// one of ours, and would occupy a gigabyte and more.
const (
	workFactor    = 18
	maxWorkFactor = 20
)

const armorHeader = armor.Header

func lock(line []byte, p *Passphrase, workFactor int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(string(p.b))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(line); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

var errPassphrase = fault.Sentinel(fault.Refused, "the passphrase is not this key file's")

// unlock opens an armored age file that holds a key line.
func unlock(armored []byte, p *Passphrase) (*format.RootSecret, error) {
	identity, err := age.NewScryptIdentity(string(p.b))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(armored)), identity)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, errPassphrase
	}
	if err != nil {
		return nil, err
	}
	line := make([]byte, lineLen+1)
	defer clear(line)
	n, err := io.ReadFull(r, line)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("what the passphrase opens is not one key line")
	}
	return parseLine(line[:n])
}
