package main

import (
	"fmt"
	"io"

	"cloister/fs/format"
	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// partyCommand is "cloister party": who signs, and whom outputs are sealed for.
func partyCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "party",
		Usage:       "the keys by which parties are known to each other",
		Subcommands: []*urfave.Command{partyKeygenCommand(), partyShowCommand()},
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
			&urfave.StringFlag{Name: "recipient-type", Usage: "what outputs are sealed for: a key of `TYPE` x25519, rsa3072 or none", Value: "x25519"},
			jsonFlag(),
		},
		Action: action(func(c *urfave.Context, args []string) error {
			if err := statement.CheckName(c.String("name")); err != nil {
				return fault.Errorf(fault.Usage, "use letters, digits, dot and dash", "--name: %w", err)
			}
			fingerprint, err := makeParty(args[0], c.String("name"), c.String("recipient-type"))
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
}

// makeParty writes a party's files and returns its signing key's fingerprint.
func makeParty(path, name, recipientType string) (fingerprint string, err error) {
	key, err := statement.GenerateKey(statement.P256)
	if err != nil {
		return "", err
	}
	defer key.Destroy()
	recipient, err := newRecipientKey(recipientType)
	if err != nil {
		return "", err
	}
	defer clear(recipient.Private)
	return key.Public().Fingerprint(), partyfile.Create(path, name, key, recipient)
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
			"shows of who can open a volume.\n\nJSON: name, fingerprint, recipient.",
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
			return printResult(c, shown, func(stdout, _ io.Writer) { printParty(stdout, shown) })
		}, "PARTYFILE"),
	}
}

func printParty(w io.Writer, p partyKey) {
	fmt.Fprintln(w, p.Name, p.Fingerprint)
	if p.Recipient != "" {
		fmt.Fprintln(w, "recipient", p.Recipient)
	}
}

// readParty reads a party's name and signing key. The caller destroys the key.
func readParty(path string) (string, *statement.PrivateKey, error) {
	p, err := partyfile.Read(path)
	if err != nil {
		return "", nil, err
	}
	clear(p.Recipient)
	return p.Name, p.Key, nil
}
