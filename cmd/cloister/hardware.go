package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"

	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/internal/hsm"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// signingParty is a party's signing key, in memory or in hardware. Whoever has
// one calls Destroy.
type signingParty interface {
	statement.Signer
	Destroy()
}

func pinFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "pin-file", Usage: "the PIN of a hardware key is the first line of `FILE`, which may be a pipe; asked for at the terminal where not given"}
}

// hardwareKey signs in a token, through the helper.
type hardwareKey struct {
	ctx    context.Context
	helper string
	token  partyfile.Token
	pin    hsm.PIN
	public statement.PublicKey
}

func openHardware(c *urfave.Context, token partyfile.Token) (*hardwareKey, error) {
	public, err := statement.ParsePublicKey(token.PublicKey)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give the file that cloister party keygen made", "the party's file: %w", err)
	}
	helper, err := hsm.Find()
	if err != nil {
		return nil, err
	}
	pin, err := readPIN(c, token.Label)
	if err != nil {
		return nil, err
	}
	return &hardwareKey{c.Context, helper, token, pin, public}, nil
}

// Public implements statement.Signer.
func (k *hardwareKey) Public() statement.PublicKey { return k.public }

// Destroy forgets the PIN; the key stays where it is.
func (k *hardwareKey) Destroy() { k.pin = "" }

// SignMessage implements statement.Signer. That the token has the key that the
// party's document names shows when the statement is checked.
func (k *hardwareKey) SignMessage(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	r, err := hsm.Call(k.ctx, k.helper, hsm.Request{Do: hsm.Sign, Module: k.token.Module, Token: k.token.Label, Key: k.token.Key, PIN: k.pin, Digest: sum[:]})
	if err != nil {
		return nil, err
	}
	if len(r.Signature) != 64 {
		return nil, fmt.Errorf("token %q made a signature of %d bytes, want 64", k.token.Label, len(r.Signature))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r.Signature[:32]), new(big.Int).SetBytes(r.Signature[32:])})
}

// generateHardware makes a key in a token.
func generateHardware(c *urfave.Context, token partyfile.Token) (*partyfile.Token, error) {
	helper, err := hsm.Find()
	if err != nil {
		return nil, err
	}
	pin, err := readPIN(c, token.Label)
	if err != nil {
		return nil, err
	}
	r, err := hsm.Call(c.Context, helper, hsm.Request{Do: hsm.Generate, Module: token.Module, Token: token.Label, Key: token.Key, PIN: pin})
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), r.Point)
	if err != nil {
		return nil, fmt.Errorf("token %q made a key that is none: %w", token.Label, err)
	}
	token.PublicKey, err = x509.MarshalPKIXPublicKey(key)
	return &token, err
}

// readPIN reads a PIN from where nobody else sees it: never from an argument or
// the environment.
func readPIN(c *urfave.Context, token string) (hsm.PIN, error) {
	if path := c.String("pin-file"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return "", tree.Explain("reading the PIN", path, err)
		}
		defer f.Close()
		line, err := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", tree.Explain("reading the PIN", path, err)
		}
		return hsm.PIN(strings.TrimRight(line, "\r\n")), nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fault.Errorf(fault.Usage, "give cloister --pin-file FILE before the command", "there is no terminal to ask for the PIN of token %q", token)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "PIN of token %s: ", token)
	pin, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return "", fmt.Errorf("reading the PIN of token %q: %w", token, err)
	}
	defer clear(pin)
	return hsm.PIN(pin), nil
}
