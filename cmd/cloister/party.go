package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// partyCommand is "cloister party": who signs.
func partyCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "party",
		Usage:       "the keys by which parties are known to each other",
		Subcommands: []*urfave.Command{partyKeygenCommand(), partyShowCommand()},
	}
}

func partyKeygenCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "keygen",
		Usage:       "make a party's signing key in PARTYFILE, and in PARTYFILE.pub its public half",
		ArgsUsage:   "PARTYFILE",
		Description: "JSON: name, fingerprint.",
		Flags:       []urfave.Flag{&urfave.StringFlag{Name: "name", Usage: "the party's `NAME`"}, jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			key, err := statement.GenerateKey(statement.P256)
			if err != nil {
				return err
			}
			defer key.Destroy()
			if err := statement.CheckName(c.String("name")); err != nil {
				return fault.Errorf(fault.Usage, "use letters, digits, dot and dash", "--name: %w", err)
			}
			if err := writePartyFiles(args[0], c.String("name"), key); err != nil {
				return err
			}
			shown := partyKey{c.String("name"), key.Public().Fingerprint()}
			return printResult(c, shown, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, shown.Fingerprint) })
		}, "--name", "PARTYFILE"),
	}
}

// partyKey is what is shown of a party's key.
type partyKey struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
}

// writePartyFiles writes the public half first: a private key without one is
// never left behind.
func writePartyFiles(path, name string, key *statement.PrivateKey) error {
	pkcs8, err := key.PKCS8()
	if err != nil {
		return err
	}
	defer clear(pkcs8)
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"Party": name}, Bytes: pkcs8})
	defer clear(private)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key.Public().SPKI()})
	if err := createFile(path+".pub", public, 0o644); err != nil {
		return err
	}
	if err := createFile(path, private, 0o600); err != nil {
		return errors.Join(err, os.Remove(path+".pub"))
	}
	return nil
}

func partyShowCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "show",
		Usage:       "print the fingerprint of a party's key, to compare over another way",
		ArgsUsage:   "PARTYFILE",
		Description: "JSON: name, fingerprint.",
		Flags:       []urfave.Flag{jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			name, key, err := readParty(args[0])
			if err != nil {
				return err
			}
			defer key.Destroy()
			shown := partyKey{name, key.Public().Fingerprint()}
			return printResult(c, shown, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, shown.Name, shown.Fingerprint) })
		}, "PARTYFILE"),
	}
}

// readParty reads a party's name and signing key. The caller destroys the key.
func readParty(path string) (string, *statement.PrivateKey, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fault.Errorf(fault.NotFound, "`cloister party keygen` makes one", "there is no party's key %s", path)
	}
	if err != nil {
		return "", nil, tree.Explain("reading the party's key", path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", nil, fault.Errorf(fault.Refused, "chmod 600 "+path, "%s can be read by others", path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", nil, tree.Explain("reading the party's key", path, err)
	}
	defer clear(raw)
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || block.Headers["Party"] == "" {
		return "", nil, fault.Errorf(fault.Usage, "give the file that `cloister party keygen` made", "%s is not a party's key", path)
	}
	defer clear(block.Bytes)
	key, err := statement.ParsePrivateKey(block.Bytes)
	if err != nil {
		return "", nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return block.Headers["Party"], key, nil
}
