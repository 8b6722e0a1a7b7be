package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"cloister/enclave/azure"
	"cloister/enclave/vault"
	"cloister/governance"
	"cloister/governance/cosign"
	"cloister/governance/remote"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/memory"
	"cloister/policy/spec"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	urfave "github.com/urfave/cli/v2"
)

func doctorCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "doctor",
		Usage: "try everything that a run depends on, in order, and say what to change",
		Description: "No key is fetched or released, and nothing is written into the ledger: those\n" +
			"steps are the gate's, and recorded. The exit code is that of the first failure.",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "specification", Usage: "the specification in its canonical form, `FILE` (default: the runtime's variable)"},
			ledgerFlag(), platformFlag(), machinePolicyFlag(),
			memory.AllowSwapFlag(),
		},
		Action: runDoctor,
	}
}

// visit is one run of the doctor: what later steps need is found by earlier.
type visit struct {
	c        *urfave.Context
	spec     spec.Specification
	platform platform
	cloud    *cloud
}

func runDoctor(c *urfave.Context) error {
	v, check := &visit{c: c}, cli.NewCheckup(c.App.Writer)
	try := func(name string, do func(context.Context) (string, error)) bool {
		return check.Try(c.Context, name, do)
	}
	// Without this there is nothing to ask the others about.
	if !try("the specification", v.readSpecification) {
		return check.Err()
	}
	try("the memory of this machine", v.memory)
	known := try("the platform", v.choosePlatform)
	located := try("the cloud", v.chooseCloud)
	if known && located && slices.ContainsFunc(volumesOf(v.spec), func(s spec.Source) bool { return s.Key.Broker == nil }) {
		try("attestation by "+v.spec.Attestation.Authority, v.attest)
	}
	try("mounts", v.fuse)
	try("the ledger "+cmp.Or(c.String("ledger"), v.spec.Governance.Ledger), v.ledger(known))
	if log, err := openLedger(v.c.String("ledger"), v.spec, v.platform); err == nil {
		for _, w := range cosign.Ask(v.spec.Governance.Witnesses, v.spec.Governance.WitnessAddresses, log) {
			try("the witness "+w.Name, w.Ask)
		}
	}
	if !located {
		return check.Err()
	}
	for _, s := range volumesOf(v.spec) {
		// A broker knows no identity, and a directory neither.
		identified := true
		if s.Key.Broker == nil || !strings.HasPrefix(s.Store, "/") {
			identified = try("the identity of "+s.Name, v.identity(s))
		}
		if b := s.Key.Broker; b != nil {
			if known {
				try("attestation by the key broker "+b.URL+" of "+s.Name, v.broker(*b))
			}
			continue
		}
		try("the vault "+s.Key.Vault+" of "+s.Name, v.vault(s.Key.Vault))
		secrets := vaultOfSecret(s.Key.Secret)
		if try("the vault "+secrets+" of "+s.Name, v.vault(secrets)) && identified {
			try("the wrapped DEK of "+s.Name, v.wrappedDEK(s))
		}
	}
	return check.Err()
}

func (v *visit) readSpecification(context.Context) (string, error) {
	raw, err := specificationBytes(v.c.String("specification"))
	if err != nil {
		return "", err
	}
	if v.spec, err = spec.ParseCanonical(raw); err != nil {
		return "", err
	}
	replica, err := replicaOf(v.spec)
	if err != nil {
		return "", err
	}
	if replica != nil {
		v.spec = v.spec.Replica(replica.Index)
	}
	return fmt.Sprintf("%s, of kind %s, %s", v.spec.Name, v.spec.Kind, spec.DigestOf(raw)), nil
}

func (v *visit) memory(context.Context) (string, error) {
	return "keys stay in it", memory.Protect(slog.New(slog.DiscardHandler), v.c.Bool("allow-swap"))
}

func (v *visit) choosePlatform(context.Context) (string, error) {
	p, err := choosePlatform(v.c.String("platform"), v.c.String("machine-policy"))
	if err != nil {
		return "", err
	}
	if err := p.fits(v.spec.Kind, v.c.String("platform")); err != nil {
		return "", err
	}
	v.platform = p
	secctx, err := p.SecurityContext()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; the container policy is sha256:%x", p.name, secctx.HostData()), nil
}

func (v *visit) chooseCloud(context.Context) (_ string, err error) {
	if v.cloud, err = newCloud(v.spec); err != nil {
		return "", err
	}
	v.cloud.retry.MaxRetries = -1 // a doctor says what is, and does not wait until it is better
	if v.cloud.azure.Name == "" {
		return "SIMULATED, on this machine", nil
	}
	return v.cloud.azure.Name + ", whose authority is " + v.cloud.azure.Authority, nil
}

// attest goes as far as the token, with a release key that is then destroyed.
func (v *visit) attest(ctx context.Context) (string, error) {
	keys, err := v.cloud.vaultKeys(v.platform)
	if err != nil {
		return "", err
	}
	defer keys.Close()
	if err := keys.Attest(ctx); err != nil {
		return "", err
	}
	r := keys.Evidence()
	return fmt.Sprintf("a token for a report of version %d, utility VM %d, firmware %s", r.Report.Version, r.UVMSVN, r.Report.Reported), nil
}

// broker goes as far as the session, and asks for no resource.
func (v *visit) broker(b spec.Broker) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		client, err := v.cloud.broker(v.platform, b)
		if err != nil {
			return "", err
		}
		defer client.Close()
		return "it takes this machine's evidence", client.Attest(ctx)
	}
}

func (v *visit) fuse(context.Context) (string, error) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return "", fault.Errorf(fault.Unavailable, "give the container /dev/fuse and the right to mount", "%w", err)
	}
	return "/dev/fuse opens", f.Close()
}

// ledger reads the record as a run does, by this machine's evidence, and says
// nothing there. Without a platform there is no more to see than a checkpoint.
func (v *visit) ledger(attested bool) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		log, err := openLedger(v.c.String("ledger"), v.spec, v.platform)
		if err != nil {
			return "", err
		}
		g := v.spec.Governance
		witnesses := governance.Witnesses{Keys: g.Witnesses, Threshold: g.Threshold}
		if !attested {
			return remote.ProbeCheckpoint(ctx, log, g.LedgerKey, witnesses)
		}
		run, err := governance.Introduce(ctx, log, (&room{spec: v.spec, platform: v.platform}).attestRun)
		if err != nil {
			return "", err
		}
		defer run.Destroy()
		return remote.Probe(ctx, log, governance.NewCosignedView(g.LedgerKey, witnesses))
	}
}

func (v *visit) identity(s spec.Source) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := azure.Bound(ctx, 0)
		defer cancel()
		cred, err := v.cloud.credential(s.Name)
		if err != nil {
			return "", err
		}
		token, err := cred.GetToken(ctx, azpolicy.TokenRequestOptions{Scopes: []string{v.cloud.azure.VaultScope()}})
		if err != nil {
			return "", fault.Errorf(fault.Denied, azure.ReachHint(err), "%w", err)
		}
		return "a token until " + token.ExpiresOn.UTC().Format("15:04:05"), nil
	}
}

func (v *visit) vault(address string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) { return vault.Probe(ctx, v.cloud.transport, address) }
}

func (v *visit) wrappedDEK(s spec.Source) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		client, err := v.cloud.vault(s.Name)
		if err != nil {
			return "", err
		}
		return client.Find(ctx, s.Key.Secret)
	}
}

func volumesOf(s spec.Specification) []spec.Source {
	all := append(append([]spec.Source{}, s.Code...), s.DataSources...)
	for _, sink := range s.DataSinks {
		all = append(all, sink.Source())
	}
	return all
}

func vaultOfSecret(address string) string {
	vault, _, _ := strings.Cut(address, "/secrets/")
	return vault
}
