package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

func partyRotateCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "rotate",
		Usage: "put a new signing key in the place of the party's old one, which then says nothing more",
		Description: "It is signed with the old key, the new one, and either the recovery key or the key\n" +
			"of another party, who signs the file of --out with `cloister party cosign`. What\n" +
			"the party approved and consented to stays. The party's key of before stays the\n" +
			"one that contract and specification name.",
		Flags: append(partyFlags(), specificationFlag(),
			text("new", "the `PARTYFILE` with the new signing key"),
			text("recovery", "the party's recovery key, `FILE`"),
			text("new-recovery", "a new recovery key to take the old one's place, `FILE`"),
			text("with", "the `NAME` of another party that will sign instead of the recovery key"),
			text("out", "with --with: the `FILE` for that party to sign"),
			jsonFlag()),
		Action: action(rotate, saysTakes("--new")...),
	}
}

// rotating is what a rotation takes: the ledger as it stands, and the keys.
type rotating struct {
	ledger          governance.Log
	state           *governance.State
	name            string
	old, next       signingParty
	recovery        signingParty // nil where another party signs
	voucher         string       // fingerprint of who signs third
	replaceRecovery []byte       // SPKI, or nil
}

func rotate(c *urfave.Context, _ []string) error {
	if (c.String("recovery") == "") == (c.String("with") == "") || (c.String("with") == "") != (c.String("out") == "") {
		return fault.Errorf(fault.Usage, "give --recovery FILE, or --with NAME --out FILE", "a rotation is signed with the recovery key or by another party")
	}
	l, view, done, err := openView(c)
	defer done()
	if err != nil {
		return err
	}
	r := &rotating{ledger: l, state: view.State()}
	if _, _, err := newest(c, r.state); err != nil {
		return err
	}
	defer r.destroy()
	if err := r.read(c); err != nil {
		return err
	}
	p, err := r.sign()
	if err != nil {
		return err
	}
	if r.recovery != nil {
		return appendPartial(c, l, p, r.name)
	}
	return writePartial(c, p, r.name)
}

func (r *rotating) destroy() {
	for _, key := range []signingParty{r.old, r.next, r.recovery} {
		if key != nil {
			key.Destroy()
		}
	}
}

func (r *rotating) read(c *urfave.Context) (err error) {
	if r.name, r.old, err = readParty(c, c.String("party")); err != nil {
		return err
	}
	if _, r.next, err = readParty(c, c.String("new")); err != nil {
		return fmt.Errorf("--new: %w", err)
	}
	if path := c.String("new-recovery"); path != "" {
		_, key, err := readParty(c, path)
		if err != nil {
			return fmt.Errorf("--new-recovery: %w", err)
		}
		r.replaceRecovery = key.Public().SPKI()
		key.Destroy()
	}
	if path := c.String("recovery"); path != "" {
		if _, r.recovery, err = readParty(c, path); err != nil {
			return fmt.Errorf("--recovery: %w", err)
		}
		r.voucher = r.recovery.Public().Fingerprint()
		return nil
	}
	key, ok := r.state.Key(c.String("with"))
	if !ok {
		return fault.Errorf(fault.NotFound, "see cloister contract status", "--with: the contract has no party %q", c.String("with"))
	}
	r.voucher = key.Fingerprint()
	return nil
}

func (r *rotating) sign() (*statement.Partial, error) {
	k, _ := r.state.Contract()
	now := time.Now()
	s := statement.Statement{Contract: k.ID, Time: now, Version: k.Version,
		Body: &statement.Rotate{Key: r.next.Public().SPKI(), Party: r.name, Recovery: r.replaceRecovery}}
	for _, fingerprint := range []string{r.old.Public().Fingerprint(), r.next.Public().Fingerprint(), r.voucher} {
		s.Signers = append(s.Signers, statement.SignerID{Counter: r.state.NextCounter(fingerprint, now), Key: fingerprint})
	}
	p, err := statement.NewPartial(s)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give three different keys", "rotating the key of %s: %w", r.name, err)
	}
	for _, key := range []signingParty{r.old, r.next, r.recovery} {
		if key == nil {
			continue
		}
		if err := p.Sign(key); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func appendPartial(c *urfave.Context, l governance.Log, p *statement.Partial, by string) error {
	entry, err := p.Entry()
	if err != nil {
		return err
	}
	receipt, err := l.Append(c.Context, entry)
	if err != nil {
		return fmt.Errorf("%s by %s: %w", p.Body.Type(), by, err)
	}
	done := said{p.Body.Type(), by, receipt.Index, p.Contract, p.Version}
	return printResult(c, done, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, done) })
}

func writePartial(c *urfave.Context, p *statement.Partial, by string) error {
	raw, err := p.Entry()
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	key := statement.Digest(p.Body.(*statement.Rotate).Key)
	return printResult(c, map[string]string{"file": c.String("out"), "key": key}, func(stdout, stderr io.Writer) {
		fmt.Fprintln(stdout, key)
		fmt.Fprintf(stderr, "nothing has changed yet: %s signs %s with cloister party cosign, and is told this key of %s over another way\n", c.String("with"), c.String("out"), by)
	})
}

func partyCosignCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "cosign",
		Usage:     "sign another party's rotation, and append it",
		ArgsUsage: "FILE",
		Description: "Ask the party itself, not the sender of FILE, for its new key: whoever stole the\n" +
			"old one wants this signature too.",
		Flags:  append(partyFlags(), specificationFlag(), text("key", "the new key, as the other party told it over another way, `sha256:…`"), jsonFlag()),
		Action: action(cosign, saysTakes("--key", "FILE")...),
	}
}

func cosign(c *urfave.Context, args []string) error {
	p, body, err := readRotation(args[0])
	if err != nil {
		return err
	}
	if made := statement.Digest(body.Key); made != c.String("key") {
		return fault.Errorf(fault.Refused, "do not sign it", "%s rotates the key of %s to %s, not to %.80q", args[0], body.Party, made, c.String("key"))
	}
	l, _, done, err := findLog(c)
	defer done()
	if err != nil {
		return err
	}
	name, key, err := readParty(c, c.String("party"))
	if err != nil {
		return err
	}
	defer key.Destroy()
	if err := p.Sign(key); err != nil {
		return fault.Errorf(fault.Refused, "ask the party to rotate --with the one who signs", "%s: %w", args[0], err)
	}
	return appendPartial(c, l, p, name)
}

func readRotation(path string) (*statement.Partial, *statement.Rotate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, tree.Explain("reading", path, err)
	}
	p, err := statement.ParsePartial(bytes.TrimSuffix(raw, []byte("\n")))
	if err != nil {
		return nil, nil, fault.Errorf(fault.Usage, "give the file that cloister party rotate wrote", "%s is no rotation: %w", path, err)
	}
	body, ok := p.Body.(*statement.Rotate)
	if !ok {
		return nil, nil, fault.Errorf(fault.Refused, "do not sign it", "%s says %q, it is no rotation", path, p.Body.Type())
	}
	return p, body, nil
}
