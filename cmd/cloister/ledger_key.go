package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"regexp"

	"cloister/governance/remote"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func ledgerKeyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "key", Usage: "print the verifier key of a ledger that proves to be in a container under a policy, for the specification",
		Description: "The evidence is judged here: that a genuine processor vouches for a container under\n" +
			"this policy, and that the ledger's key and its TLS key were made in it. What the\n" +
			"policy lets that container do is yours to read: it should admit the ledger's image\n" +
			"with its command line, and no mount, as whoever sees the log's folder can end it.\n" +
			"JSON: key, policy.",
		Flags: []urfave.Flag{ledgerFlag(), jsonFlag(),
			text("policy", "the container policy, `FILE` or its digest sha256:…"),
			&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of the utility VM that is good enough", Value: minimumUVMSVN}},
		Action: action(printLedgerKey, "--ledger", "--policy"),
	}
}

func printLedgerKey(c *urfave.Context, _ []string) error {
	policy, err := policyDigest(c, "policy")
	if err != nil {
		return err
	}
	log, err := remote.Open(c.String("ledger"), nil)
	if err != nil {
		return err
	}
	judge, err := ledgerJudge(log.Platform, spec.Specification{Attestation: spec.Attestation{MinSVN: uint32(c.Uint64("min-svn"))}})
	if err != nil {
		return err
	}
	var shown string
	log.Demand(func(a remote.Attestation) error {
		shown = a.Key
		return judge.Ledger(a.Evidence, a.TLSKey, a.Key, policy)
	})
	key, err := log.Key(c.Context)
	if err != nil {
		return err
	}
	if key != shown {
		return fault.Errorf(fault.Refused, "keep both answers: it is not the ledger's program that gave them", "the ledger says its key is %.200q, its evidence is about %.200q", key, shown)
	}
	result := map[string]string{"key": key, "policy": policy}
	return printResult(c, result, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, key) })
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// policyDigest is the digest of the container policy that a flag names; "" where it
// is not given.
func policyDigest(c *urfave.Context, flag string) (string, error) {
	given := c.String(flag)
	if given == "" || digestForm.MatchString(given) {
		return given, nil
	}
	if _, err := os.Stat(given); err != nil {
		return "", fault.Errorf(fault.Usage, "give a file, or sha256: and 64 hexadecimal digits", "--%s: %w", flag, err)
	}
	text, err := readEvidenceFile(flag, given)
	return fmt.Sprintf("sha256:%x", sha256.Sum256(text)), err
}
