package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"cloister/fs/format"
	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// partyCommand is "cloister party": who signs, and whom outputs are sealed for.
func partyCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "party",
		Usage: "the keys by which parties are known to each other",
		Subcommands: []*urfave.Command{partyKeygenCommand(), partyShowCommand(), partyFingerprintCommand(), partyVerifyCommand(),
			partyRotateCommand(), partyCosignCommand()},
	}
}

func partyKeygenCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "keygen",
		Usage:     "make a party's keys in PARTYFILE, of mode 0600, and in PARTYFILE.pub its document",
		ArgsUsage: "PARTYFILE",
		Description: "A party has a key that it signs with, and one that outputs are sealed for. The\n" +
			"document holds their public halves, and is for the other parties; they compare\n" +
			"its fingerprints with `cloister party show` over another way.\n\n" +
			"JSON: name, fingerprint.",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "name", Usage: "the party's `NAME`"},
			&urfave.StringFlag{Name: "algorithm", Usage: "the signing key: p256 or ed25519", Value: string(statement.P256)},
			&urfave.StringFlag{Name: "recipient-type", Usage: "what outputs are sealed for: a key of `TYPE` x25519, rsa3072 or none", Value: "x25519"},
			&urfave.StringFlag{Name: "recovery", Usage: "also make a recovery key in `FILE`, to be kept elsewhere: with it the signing key can be replaced"},
			&urfave.StringFlag{Name: "token", Usage: "make the signing key in the hardware token of this `LABEL`, which it never leaves; p256"},
			&urfave.StringFlag{Name: "token-key", Usage: "the key's `LABEL` in the token", DefaultText: "the party's name"},
			&urfave.StringFlag{Name: "module", Usage: "the PKCS #11 library that speaks to the token, `FILE`"},
			jsonFlag(),
		},
		Action: action(func(c *urfave.Context, args []string) error {
			if err := statement.CheckName(c.String("name")); err != nil {
				return fault.Errorf(fault.Usage, "use letters, digits, dot and dash", "--name: %w", err)
			}
			fingerprint, err := makeParty(c, args[0])
			if err != nil {
				return err
			}
			shown := partyKey{Name: c.String("name"), Fingerprint: fingerprint}
			return printResult(c, shown, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, fingerprint) })
		}, "--name", "PARTYFILE"),
	}
}

// partyKey is what is shown of a party's keys.
type partyKey struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Recipient   string `json:"recipient,omitempty"` // fingerprint
	Recovery    string `json:"recovery,omitempty"`  // fingerprint
}

// makeParty writes a party's files and returns its signing key's fingerprint.
func makeParty(c *urfave.Context, path string) (fingerprint string, err error) {
	n := partyfile.New{Name: c.String("name")}
	if n.Recipient, err = newRecipientKey(c.String("recipient-type")); err != nil {
		return "", err
	}
	defer clear(n.Recipient.Private)
	// Before a token is asked for a key that would then have no file.
	if _, err := os.Lstat(path); err == nil {
		return "", fault.Errorf(fault.Conflict, "choose another name; a key that is lost cannot be made again", "%s is already there", path)
	}
	if err := makeSigningKey(c, &n); err != nil {
		return "", err
	}
	fingerprint = statement.Digest(publicHalf(n))
	if n.Key != nil {
		defer n.Key.Destroy()
	}
	if n.Recovery, err = makeRecovery(c, n.Name); err != nil {
		return "", err
	}
	if err := partyfile.Create(path, n); err != nil {
		if n.Recovery != nil {
			err = errors.Join(err, os.Remove(c.String("recovery")))
		}
		return "", err
	}
	return fingerprint, nil
}

func publicHalf(n partyfile.New) []byte {
	if n.Token != nil {
		return n.Token.PublicKey
	}
	return n.Key.Public().SPKI()
}

func makeSigningKey(c *urfave.Context, n *partyfile.New) (err error) {
	if !c.IsSet("token") {
		if c.IsSet("module") || c.IsSet("token-key") {
			return fault.Errorf(fault.Usage, "name the token", "--module and --token-key are for a key in a --token")
		}
		if n.Key, err = statement.GenerateKey(statement.Algorithm(c.String("algorithm"))); err != nil {
			return fault.Errorf(fault.Usage, "", "--algorithm: %w", err)
		}
		return nil
	}
	if err := cli.Required(c, "module"); err != nil {
		return err
	}
	if c.String("algorithm") != string(statement.P256) {
		return fault.Errorf(fault.Usage, "leave --algorithm out", "a key in a token is p256, not %q", c.String("algorithm"))
	}
	n.Token, err = generateHardware(c, partyfile.Token{Key: cmp.Or(c.String("token-key"), n.Name), Label: c.String("token"), Module: c.String("module")})
	return err
}

// makeRecovery returns the public half of a new recovery key, nil where none is
// wanted.
func makeRecovery(c *urfave.Context, name string) ([]byte, error) {
	path := c.String("recovery")
	if path == "" {
		return nil, nil
	}
	key, err := statement.GenerateKey(statement.P256)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	return key.Public().SPKI(), partyfile.CreateRecovery(path, name, key)
}

// recipientBits are the types of recipient keys, with their size in bits where
// they are RSA's: 3072 is what NIST SP 800-57 has for the strength of X25519.
var recipientBits = map[string]int{"x25519": 0, "rsa3072": 3072}

func newRecipientKey(kind string) (pair partyfile.RecipientKey, err error) {
	bits, ok := recipientBits[kind]
	switch {
	case kind == "none":
		return pair, nil
	case !ok:
		return pair, fault.Errorf(fault.Usage, "give x25519, rsa3072 or none", "--recipient-type %q is not known", kind)
	}
	key, err := format.NewRecipientKey(bits)
	if err != nil {
		return pair, err
	}
	defer key.Destroy()
	pair.Public = key.Recipient().SPKI()
	pair.Private, err = key.PKCS8()
	return pair, err
}

func partyShowCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "show",
		Usage:     "print the fingerprints of a party's keys, to compare over another way",
		ArgsUsage: "PARTYFILE",
		Description: "PARTYFILE is the party's own file or its document. The second line, where there\n" +
			"is one, is of the key that outputs are sealed for: what `cloister prep inspect`\n" +
			"shows of who can open a volume.\n\nJSON: name, fingerprint, recipient, recovery.",
		Flags: []urfave.Flag{jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			p, err := partyfile.ReadDocument(args[0])
			if err != nil {
				return err
			}
			shown := partyKey{Name: p.Name, Fingerprint: p.Fingerprint()}
			if p.Recipient != nil {
				shown.Recipient = statement.Digest(p.Recipient)
			}
			if p.Recovery != nil {
				shown.Recovery = statement.Digest(p.Recovery)
			}
			return printResult(c, shown, func(stdout, _ io.Writer) { printParty(stdout, shown) })
		}, "PARTYFILE"),
	}
}

func printParty(w io.Writer, p partyKey) {
	fmt.Fprintln(w, p.Name, p.Fingerprint)
	if p.Recipient != "" {
		fmt.Fprintln(w, "recipient", p.Recipient)
	}
	if p.Recovery != "" {
		fmt.Fprintln(w, "recovery", p.Recovery)
	}
}

func partyFingerprintCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "fingerprint",
		Usage:     "print one fingerprint of a party's whole document: its name and all of its keys",
		ArgsUsage: "PARTYFILE",
		Flags:     []urfave.Flag{jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			p, fingerprint, err := fingerprintOf(args[0])
			if err != nil {
				return err
			}
			return printResult(c, map[string]string{"name": p.Name, "document": fingerprint}, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, fingerprint) })
		}, "PARTYFILE"),
	}
}

func fingerprintOf(path string) (statement.Party, string, error) {
	p, err := partyfile.ReadDocument(path)
	if err != nil {
		return p, "", err
	}
	fingerprint, err := p.DocumentFingerprint()
	return p, fingerprint, err
}

func partyVerifyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "verify",
		Usage:     "compare a party's document with the fingerprint that the party told over another way",
		ArgsUsage: "PARTYFILE",
		Flags:     []urfave.Flag{text("fingerprint", "what the party's `cloister party fingerprint` printed, `sha256:…`"), jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			p, fingerprint, err := fingerprintOf(args[0])
			if err != nil {
				return err
			}
			if c.String("fingerprint") != fingerprint {
				return fault.Errorf(fault.Refused, "do not use this document; ask the party for it again", "the document %s of %q has fingerprint %s, not %.80q", args[0], p.Name, fingerprint, c.String("fingerprint"))
			}
			return printResult(c, map[string]string{"name": p.Name, "document": fingerprint}, func(stdout, _ io.Writer) {
				fmt.Fprintf(stdout, "it is the document of %s\n", p.Name)
			})
		}, "--fingerprint", "PARTYFILE"),
	}
}

// readParty reads a party's name and signing key. The caller destroys the key.
func readParty(c *urfave.Context, path string) (string, signingParty, error) {
	p, err := partyfile.Read(path)
	if err != nil {
		return "", nil, err
	}
	clear(p.Recipient)
	if p.Token == nil {
		return p.Name, p.Key, nil
	}
	key, err := openHardware(c, *p.Token)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return p.Name, key, nil
}
