package main

import (
	"strings"

	"cloister/governance/statement"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func specSetCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "set",
		Usage:       "set a part of a specification; comments and layout stay",
		Subcommands: []*urfave.Command{setKindCommand(), setCloudCommand(), setGovernanceCommand(), setAttestationCommand(), setModelCommand(), setNetworkCommand(), setRuntimeCommand(), setDeploymentCommand(), setJobsCommand()},
	}
}

func setKindCommand() *urfave.Command {
	return &urfave.Command{
		Name: "kind", Usage: "where the clean room runs: aci, aks, cvm or simulated", ArgsUsage: "FILE KIND",
		Flags: []urfave.Flag{text("runtime-binary", "kind simulated: the cloisterd `FILE` that may hold the keys, or its sha256:…")},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE", "KIND")
			if err != nil {
				return err
			}
			binary, err := binaryDigest(c.String("runtime-binary"))
			if err != nil {
				return err
			}
			return editSpecAbout(c, args[0], []string{"kind", "runtime"}, func(d *yaml.Document) (*yaml.Document, error) {
				return setKind(d, spec.Kind(args[1]), binary)
			})
		},
	}
}

func setKind(d *yaml.Document, kind spec.Kind, binary string) (*yaml.Document, error) {
	d, err := d.Set("", "kind", string(kind), func(s *spec.Specification) { s.Kind = kind })
	switch {
	case err != nil:
		return nil, err
	case binary != "":
		return d.Set("runtime", "binary", binary, func(s *spec.Specification) { s.Runtime = &spec.Runtime{Binary: binary} })
	case kind != spec.Simulated:
		return d.Remove("", "runtime", func(s *spec.Specification) { s.Runtime = nil })
	default:
		return d, nil
	}
}

func setGovernanceCommand() *urfave.Command {
	return &urfave.Command{
		Name: "governance", Usage: "whose record of consent and use is believed", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("ledger", "where a run finds the ledger, `URL[,ca=FILE]`; FILE is the root of its certificate, else the system's are taken. What makes it believed is its key"),
			text("ledger-key", "public `KEY` of the ledger, NAME+HASH+BASE64 as cloister-ledger init prints it"),
			text("ledger-policy", "the container policy under which the ledger must prove to run, `FILE` or its digest sha256:…; cloister ledger key checks it"),
			&urfave.StringSliceFlag{Name: "witness", Usage: "public `KEY[@URL]` of a witness that must cosign, as cloister witness init or serve prints it; may be repeated"},
			&urfave.Uint64Flag{Name: "threshold", Usage: "`HOW MANY` of the witnesses must; all when not given"},
			text("refused", "`WHAT` becomes of statements that the ledger refuses: kept"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			g := spec.Governance{Refused: c.String("refused")}
			for _, w := range c.StringSlice("witness") {
				key, _, hasAddress := strings.Cut(w, "@")
				if g.Witnesses = append(g.Witnesses, key); hasAddress {
					g.WitnessAddresses = append(g.WitnessAddresses, w)
				}
			}
			var ca string
			if g.Ledger, ca, _ = strings.Cut(c.String("ledger"), ",ca="); ca != "" {
				if g.LedgerCA, err = certificate("the ledger", ca); err != nil {
					return err
				}
			}
			if g.LedgerKey, err = publicKey(c.String("ledger-key"), signingKey); err != nil {
				return err
			}
			if g.LedgerPolicy, err = policyDigest(c, "ledger-policy"); err != nil {
				return err
			}
			if g.Threshold, err = number(c, "threshold"); err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) { return setGovernance(d, g) })
		},
	}
}

func setGovernance(d *yaml.Document, g spec.Governance) (*yaml.Document, error) {
	e := edits{d: d}
	set := func(given bool, field string, value any, change func(*spec.Governance)) {
		e.set(given, "governance", field, value, func(s *spec.Specification) { change(&s.Governance) })
	}
	set(g.Ledger != "", "ledger", g.Ledger, func(to *spec.Governance) { to.Ledger = g.Ledger })
	if g.Ledger != "" { // another address does not keep the certificate
		e.put(g.LedgerCA != "", "governance", "ledgerCA", g.LedgerCA, func(s *spec.Specification) { s.Governance.LedgerCA = g.LedgerCA })
	}
	set(g.LedgerKey != "", "ledgerKey", g.LedgerKey, func(to *spec.Governance) { to.LedgerKey = g.LedgerKey })
	set(g.LedgerPolicy != "", "ledgerPolicy", g.LedgerPolicy, func(to *spec.Governance) { to.LedgerPolicy = g.LedgerPolicy })
	set(len(g.Witnesses) > 0, "witnesses", g.Witnesses, func(to *spec.Governance) { to.Witnesses = g.Witnesses })
	if len(g.Witnesses) > 0 { // others do not keep the addresses
		e.put(len(g.WitnessAddresses) > 0, "governance", "witnessAddresses", g.WitnessAddresses, func(s *spec.Specification) { s.Governance.WitnessAddresses = g.WitnessAddresses })
	}
	set(g.Threshold > 0, "threshold", g.Threshold, func(to *spec.Governance) { to.Threshold = g.Threshold })
	set(g.Refused != "", "refused", g.Refused, func(to *spec.Governance) { to.Refused = g.Refused })
	return e.d, e.err
}

func setAttestationCommand() *urfave.Command {
	return &urfave.Command{
		Name: "attestation", Usage: "whose word about the platform is believed", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("authority", "`URL` of the attestation service"),
			&urfave.Uint64Flag{Name: "min-svn", Usage: "lowest security version of the utility VM that is accepted"},
			&urfave.StringSliceFlag{Name: "transparency-key", Usage: "of a service that holds the utility VM's endorsement, `KEY` or FILE with one; may be repeated"},
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			svn, err := number(c, "min-svn")
			if err != nil {
				return err
			}
			keys, err := transparencyKeys(c.StringSlice("transparency-key"))
			if err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return setAttestation(d, c.String("authority"), svn, c.IsSet("min-svn"), keys)
			})
		},
	}
}

func transparencyKeys(args []string) (keys []string, err error) {
	for _, arg := range args {
		key, err := publicKey(arg, func(statement.Party) []byte { return nil })
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func setAttestation(d *yaml.Document, authority string, svn uint32, svnGiven bool, keys []string) (*yaml.Document, error) {
	var err error
	if authority != "" {
		d, err = d.Set("attestation", "authority", authority, func(s *spec.Specification) { s.Attestation.Authority = authority })
	}
	if err == nil && svnGiven {
		d, err = d.Set("attestation", "minSVN", svn, func(s *spec.Specification) { s.Attestation.MinSVN = svn })
	}
	if err == nil && len(keys) > 0 {
		d, err = d.Set("attestation", "transparencyKeys", keys, func(s *spec.Specification) { s.Attestation.TransparencyKeys = keys })
	}
	return d, err
}
