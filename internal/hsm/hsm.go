// Package hsm is what cloister and its helper for hardware keys say to each
// other, so that only the helper links C.
//
// Life of a signature: cloister starts the helper, writes one Request as a line
// of JSON to its standard input, and reads one Response from its standard output;
// the helper opens the PKCS #11 module, logs in, does the one thing asked, and
// exits. The PIN is in the request: never in arguments, environment or a file of
// ours.
package hsm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"cloister/internal/fault"
)

// Helper is the program's name. It stands beside cloister, or in PATH.
const Helper = "cloister-pkcs11"

// MaxMessage bounds both directions, in bytes: a statement of 64 KiB takes 88 KiB
// in base64.
const MaxMessage = 256 << 10

// What a helper is asked for.
const (
	Generate = "generate" // make a P-256 key pair under a label that is free
	Sign     = "sign"     // ECDSA over a digest
)

// PIN opens a token. It never shows in print or logs.
type PIN string

const redacted = "[PIN]"

func (PIN) String() string             { return redacted }
func (PIN) GoString() string           { return redacted }
func (PIN) LogValue() slog.Value       { return slog.StringValue(redacted) }
func (PIN) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// Request is one thing asked of a token.
type Request struct {
	Do     string `json:"do"`
	Module string `json:"module"` // path of the PKCS #11 module
	Token  string `json:"token"`  // its label
	Key    string `json:"key"`    // the key's label
	PIN    PIN    `json:"pin"`
	Digest []byte `json:"digest,omitempty"` // to sign, 32 bytes
}

// Response is what came of it.
type Response struct {
	// Point is the public key as an uncompressed point, 65 bytes (SEC 1, 2.3.3).
	Point []byte `json:"point,omitempty"`
	// Signature is r ‖ s, 64 bytes (PKCS #11 v2.40, 2.3.1).
	Signature []byte `json:"signature,omitempty"`
	// Kind and Error say what went wrong; Kind as fault.Kind is written.
	Kind  string `json:"kind,omitempty"`
	Hint  string `json:"hint,omitempty"`
	Error string `json:"error,omitempty"`
}

// Err returns the error in a response, or nil.
func (r Response) Err() error {
	if r.Error == "" {
		return nil
	}
	for _, k := range []fault.Kind{fault.Usage, fault.NotFound, fault.Denied, fault.Refused, fault.Conflict, fault.Unavailable} {
		if k.String() == r.Kind {
			return fault.Errorf(k, r.Hint, "%s", r.Error)
		}
	}
	return errors.New(r.Error)
}

// Find returns the helper's path.
func Find() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), Helper)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(Helper)
	if err != nil {
		return "", fault.Errorf(fault.NotFound, "make it with `make pkcs11`, and put it beside cloister", "%s, which speaks to hardware keys, is not there: %w", Helper, err)
	}
	return path, nil
}

// Call asks the helper for one thing.
func Call(ctx context.Context, helper string, q Request) (Response, error) {
	asked, err := json.Marshal(q)
	if err != nil {
		return Response{}, err
	}
	defer clear(asked)
	var out, said limited
	cmd := exec.CommandContext(ctx, helper)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(asked, '\n')), &out, &said
	if err := cmd.Run(); err != nil {
		return Response{}, fmt.Errorf("asking %s: %w: %.400q", helper, err, said.Bytes())
	}
	var r Response
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("reading the answer of %s: %w", helper, err)
	}
	return r, r.Err()
}

// limited keeps what a helper says within MaxMessage.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > MaxMessage {
		return 0, errors.New("it says too much")
	}
	return l.Buffer.Write(p)
}
