package main

import (
	"fmt"
	"io"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func ledgerPolicyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "policy", Usage: "write the container policy of an attested ledger: its image, by digest, with this command line", ArgsUsage: "IMAGE COMMAND [ARG...]",
		Description: "The policy admits one container: no other command line, no mount, no privilege. It\n" +
			"goes into a deployment of the operator's in base64, as ccePolicy; each party makes it\n" +
			"again, reads it with cloister policy explain, and gives it to cloister ledger key.\n" +
			"JSON: policy (digest).",
		Flags: append(imageFlags(), jsonFlag(),
			text("kind", "aci, which is the default, or aks: `WHERE` it runs"),
			text("out", "the new `FILE`")),
		Action: func(c *urfave.Context) error {
			if c.NArg() < 2 || c.String("out") == "" {
				return fault.Errorf(fault.Usage, "cloister ledger policy --out ledger.rego IMAGE@sha256:... /cloister-ledger serve --attest ...", "ledger policy takes --out, an image and a command line")
			}
			return writeLedgerPolicy(c, c.Args().First(), c.Args().Tail())
		},
	}
}

func writeLedgerPolicy(c *urfave.Context, reference string, command []string) error {
	kind := spec.Kind(c.String("kind"))
	if kind == "" {
		kind = spec.ACI
	}
	index, err := readInfrastructure(c)
	if err != nil {
		return err
	}
	sources, err := imageSources(c)
	if err != nil {
		return err
	}
	image, err := measure(c, reference, sources)
	if err != nil {
		return err
	}
	policy, err := cce.Ledger(kind, reference, image, command, index.Platform())
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), policy, 0o644); err != nil {
		return err
	}
	digest := cce.Digest(policy)
	return printResult(c, map[string]string{"policy": digest}, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, digest) })
}
