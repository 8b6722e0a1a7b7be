package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/infra"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// policyIndexCommand is "cloister policy index": the infrastructure details, for
// whoever builds the runtime's images and for who relies on them.
func policyIndexCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "index",
		Usage:       "sign the infrastructure details: which images hold the runtime, and which still deserve trust",
		Subcommands: []*urfave.Command{indexSignCommand(), indexVerifyCommand()},
	}
}

func indexSignCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "sign",
		Usage:     "sign the infrastructure details in FILE, JSON of the form that package policy/infra documents",
		ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "party", Usage: "who signs: the `PARTYFILE` of cloister party keygen"},
			&urfave.StringFlag{Name: "out", Usage: "the new `FILE` to write"},
		},
		Action: action(func(c *urfave.Context, args []string) error {
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return tree.Explain("reading", args[0], err)
			}
			var x infra.Index
			dec := json.NewDecoder(bytes.NewReader(raw))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&x); err != nil {
				return fault.Errorf(fault.Usage, "see `cloister policy index verify --json` of one that is signed", "%s: %w", args[0], err)
			}
			_, key, err := readParty(c, c.String("party"))
			if err != nil {
				return fmt.Errorf("--party: %w", err)
			}
			defer key.Destroy()
			signed, err := infra.Sign(c.Context, x, key, key.Public().SPKI())
			if err != nil {
				return err
			}
			return createFile(c.String("out"), signed, 0o644)
		}, "--party", "--out", "FILE"),
	}
}

func indexVerifyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "verify",
		Usage:     "check the signature of infrastructure details, and show them",
		ArgsUsage: "FILE",
		Flags:     []urfave.Flag{&urfave.StringFlag{Name: "infrastructure-key", Usage: "`KEY` of who signed them: a party's document, PEM, or base64"}, jsonFlag()},
		Action: action(func(c *urfave.Context, args []string) error {
			signed, err := os.ReadFile(args[0])
			if err != nil {
				return tree.Explain("reading", args[0], err)
			}
			spki, err := infrastructureKey(c)
			if err != nil {
				return err
			}
			x, err := infra.Open(c.Context, signed, spki)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return printResult(c, x, func(stdout, _ io.Writer) {
				fmt.Fprintf(stdout, "sequence %d, security version %d or higher\n", x.Sequence, x.MinSVN)
				for _, r := range x.Runtimes {
					note := ""
					if r.SVN < x.MinSVN {
						note = "  no longer accepted"
					}
					fmt.Fprintf(stdout, "%s  version %d, layers %s%s\n", r.Reference, r.SVN, strings.Join(r.Layers, " "), note)
				}
			})
		}, "--infrastructure-key", "FILE"),
	}
}
