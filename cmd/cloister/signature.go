package main

import (
	"context"
	"encoding/base64"
	"fmt"

	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func signFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "sign", Usage: "put beside the volume that the party of `PARTYFILE` wrote it, for --writer"}
}

// readSigner returns the signing key that --sign names, the caller's to
// destroy, or nil.
func readSigner(c *urfave.Context) (signingParty, error) {
	if !c.IsSet("sign") {
		return nil, nil
	}
	_, key, err := readParty(c, c.String("sign"))
	if err != nil {
		return nil, fmt.Errorf("--sign: %w", err)
	}
	return key, nil
}

// sign signs what was written, if there is a signer.
func sign(ctx context.Context, s prep.Store, ref format.Reference, signer statement.Signer) error {
	if signer == nil {
		return nil
	}
	if err := prep.Sign(ctx, s, ref, signer); err != nil {
		return fmt.Errorf("the volume is written, its reference is printed; signing it: %w", err)
	}
	return nil
}

// checkWriter returns the reference of what the party that --writer names has
// signed: want, or for nil the newest epoch. Without --writer it returns want.
func checkWriter(c *urfave.Context, s prep.Store, want *format.Reference) (*format.Reference, error) {
	if !c.IsSet("writer") {
		return want, nil
	}
	key, err := writerKey(c.String("writer"))
	if err != nil {
		return nil, err
	}
	return prep.Signed(c.Context, s, want, key)
}

func writerKey(arg string) (key statement.PublicKey, err error) {
	text, err := publicKey(arg, signingKey)
	if err != nil {
		return key, fmt.Errorf("--writer: %w", err)
	}
	spki, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		key, err = statement.ParsePublicKey(spki)
	}
	if err != nil {
		return key, fault.Errorf(fault.Usage, "name the writer's document, or give its public key in base64", "--writer %.80q: %w", arg, err)
	}
	return key, nil
}
