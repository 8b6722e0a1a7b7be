package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"cloister/enclave/envelope"
	"cloister/enclave/kbs"
	"cloister/fs/format"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/release"
	"cloister/policy/spec"
	"cloister/prep/provision"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// provisionCommand is "cloister provision": an owner's keys in the cloud, where
// only the agreed container gets them.
func provisionCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "provision",
		Usage: "put a volume's keys where only the agreed clean room gets them",
		Subcommands: []*urfave.Command{
			provisionPlanCommand(), provisionApplyCommand(), provisionStatusCommand(), provisionDestroyCommand(),
			provisionRotateCommand(), provisionRevokeCommand(), provisionRequestCommand(), provisionDeclineCommand(),
		},
	}
}

func provisionApplyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "apply",
		Usage:     "see to it that KEK, wrapped DEK, container and roles are there, as the contract has it",
		ArgsUsage: "VOLUME...",
		Description: "VOLUME is the name of a code volume, data source or data sink of the\n" +
			"specification. Applying again changes nothing, and goes on where a run before was\n" +
			"interrupted; what is there and otherwise is refused with the difference. The key\n" +
			"release policy is made again here and compared, and the contract must be accepted\n" +
			"for this specification. Sign in as for the Azure SDKs (azidentity).\n" + accessHelp +
			"At a key broker both keys are made anew each time, as an owner can write there\n" +
			"and not read; that the agreed container gets them, and nobody else, is what its\n" +
			"resource policy must say, for the host data that policy generate prints.",
		Flags: append(ownerFlags(),
			text("plan", "refuse where anything has changed since `FILE` was made by plan --out"),
			&urfave.BoolFlag{Name: "without-contract", Usage: "there is no ledger: place keys that no other party was asked about"},
			&urfave.StringFlag{Name: "broker-token", Usage: "keys at a key broker: its administrator's bearer token, in `FILE`"},
			ledgerFlag(),
			text("party", "with --ledger: the signing key of the volumes' owner, `PARTYFILE`, who says there that the keys are in place"),
		),
		Action: action(provisionApply, "--specification", "VOLUME..."),
	}
}

// provisioned is what apply reports of a volume.
type provisioned struct {
	Volume        string `json:"volume"`
	KEK           string `json:"kek"`
	KEKChanged    bool   `json:"kek_changed"`
	Secret        string `json:"secret"`
	SecretChanged bool   `json:"secret_changed"`
	// Access is the container and the roles, where they are provisioned.
	Access []provision.Item `json:"access,omitempty"`
}

func provisionApply(c *urfave.Context, names []string) error {
	s, err := loadSpec(c.String("specification"))
	if err != nil {
		return err
	}
	volumes, err := volumesNamed(s, names)
	if err != nil {
		return err
	}
	if err := checkProvisioning(c, s, eachReplica(s, names)); err != nil {
		return err
	}
	owner, err := newOwner(c, s, volumes)
	if err != nil {
		return err
	}
	if err := owner.check(c, s, names); err != nil {
		return err
	}
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	done, err := owner.applyAll(c, s, volumes, root)
	if err != nil {
		return err
	}
	entry, err := sayProvisioned(c, done)
	if err != nil {
		return err
	}
	return printResult(c, done, func(stdout, _ io.Writer) {
		for _, p := range done {
			fmt.Fprintf(stdout, "%s\n  KEK    %s %s\n  secret %s %s\n", p.Volume, p.KEK, made(p.KEKChanged), p.Secret, made(p.SecretChanged))
			for _, i := range p.Access {
				fmt.Fprintf(stdout, "  %s: %s %s\n", i.Kind, i.Resource, made(i.Changed))
			}
		}
		if entry != nil {
			fmt.Fprintln(stdout, entry)
		}
	})
}

// owner is who provisions, and by what it is known where the keys go.
type owner struct {
	keyVersion uint32
	vaults     *provision.Client // and the KEKs' policy, where a volume's keys are in a vault
	policy     release.Policy
	token      provision.BrokerToken // where a volume's keys are at a broker
}

func newOwner(c *urfave.Context, s spec.Specification, volumes []spec.Source) (o owner, err error) {
	atBroker := func(v spec.Source) bool { return v.Key.Broker != nil }
	atVault := func(v spec.Source) bool { return v.Key.Broker == nil }
	if slices.ContainsFunc(volumes, atVault) {
		if err := cli.Required(c, "key-release-policy"); err != nil {
			return o, err
		}
		if o.policy, err = readReleasePolicy(c.String("key-release-policy")); err != nil {
			return o, err
		}
		if o.vaults, err = provisionClient(c, s); err != nil {
			return o, err
		}
	}
	if slices.ContainsFunc(volumes, atBroker) && c.Command.Name == "apply" {
		if err := cli.Required(c, "broker-token"); err != nil {
			return o, err
		}
		if o.token, err = readBrokerToken(c.String("broker-token")); err != nil {
			return o, err
		}
	}
	o.keyVersion, err = keyVersion(c)
	return o, err
}

func readBrokerToken(path string) (provision.BrokerToken, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return provision.BrokerToken{}, tree.Explain("reading the broker's token", path, err)
	}
	defer clear(text)
	return provision.NewBrokerToken(text)
}

func made(changed bool) string {
	if changed {
		return "(made)"
	}
	return "(there already)"
}

func readReleasePolicy(path string) (release.Policy, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return release.Policy{}, fault.Errorf(fault.NotFound, "make it with cloister policy generate", "there is no key release policy %s", path)
	}
	if err != nil {
		return release.Policy{}, tree.Explain("reading the key release policy", path, err)
	}
	p, err := release.Parse(raw)
	if err != nil {
		return p, fmt.Errorf("key release policy %s: %w", path, err)
	}
	return p, nil
}

// provisionClient signs in as the Azure SDKs do.
func provisionClient(c *urfave.Context, s spec.Specification) (*provision.Client, error) {
	cred, err := signIn(s)
	if err != nil {
		return nil, err
	}
	scope, err := hsmScope(s)
	if err != nil {
		return nil, err
	}
	return provision.New(provision.Options{Credential: cred, PrivateCloud: s.Kind == spec.Simulated,
		Manager: manager(s.Kind, s.Cloud, c.String("subscription")), Directory: directoryOf(s), HSMScope: scope}), nil
}

// check refuses, before any key is placed, a release policy that is not this
// specification's, and what has changed since it was planned.
func (o *owner) check(c *urfave.Context, s spec.Specification, names []string) error {
	if o.vaults != nil {
		if err := checkReleasePolicy(c, s, o.policy); err != nil {
			return err
		}
	}
	if !c.IsSet("plan") {
		return nil
	}
	w, err := readWanted(c, names)
	if err != nil {
		return err
	}
	defer w.destroy()
	now, err := w.plan(c)
	if err != nil {
		return err
	}
	return checkPlan(c.String("plan"), now)
}

func volumeOf(s spec.Specification, name string) (spec.Source, bool) {
	for _, list := range [][]spec.Source{s.Code, s.DataSources} {
		for _, v := range list {
			if v.Name == name {
				return v, true
			}
		}
	}
	for _, v := range s.Sinks() {
		if v.Name == name {
			return v.Source(), true
		}
	}
	return spec.Source{}, false
}

func (o *owner) dek(v spec.Source, root *format.RootSecret) (id format.VolumeID, dek *envelope.DEK, err error) {
	if id, err = format.ParseVolumeID(v.Volume); err != nil || root == nil {
		return id, nil, err
	}
	derived := root.DeriveDEK(id, o.keyVersion)
	defer derived.Destroy()
	dek, err = envelope.NewDEK(derived.Expose())
	return id, dek, err
}

// volume is what a volume shall have in the vaults. Without root there is no DEK
// in it. release ends what it holds.
func (o *owner) volume(ctx context.Context, c *urfave.Context, s spec.Specification, v spec.Source, root *format.RootSecret) (want provision.Volume, release func(), err error) {
	vault, secret, ok := strings.Cut(v.Key.Secret, "/secrets/")
	if !ok {
		return want, nil, fault.Errorf(fault.Usage, "write it as https://VAULT/secrets/NAME", "%q is not a secret's address", v.Key.Secret)
	}
	principal, err := o.principalOf(ctx, c, s, v)
	if err != nil {
		return want, nil, err
	}
	vaults, err := vaultsToMake(c)
	if err != nil {
		return want, nil, err
	}
	id, dek, err := o.dek(v, root)
	if err != nil {
		return want, nil, err
	}
	release = func() {
		if dek != nil {
			dek.Destroy()
		}
	}
	return provision.Volume{Name: v.Name, Principal: principal, Container: containerOf(v.Store), Writes: isSink(s, v.Name), Make: vaults,
		KEK: provision.KEK{Vault: v.Key.Vault, Name: v.Key.KEK, Policy: o.policy},
		DEK: provision.WrappedDEK{Vault: vault, Name: secret, VolumeID: id, KeyVersion: o.keyVersion, DEK: dek}}, release, nil
}

// applyBroker places the keys. Who gets them is the broker's policy to say.
func (o *owner) applyBroker(ctx context.Context, v spec.Source, id format.VolumeID, dek *envelope.DEK) (provisioned, error) {
	b := v.Key.Broker
	roots, err := b.Roots()
	if err != nil {
		return provisioned{}, err
	}
	err = provision.ApplyBroker(ctx, provision.BrokerKeys{URL: b.URL, Roots: roots, Token: o.token, KEK: b.KEK, Resource: b.Resource,
		VolumeID: id, KeyVersion: o.keyVersion, DEK: dek})
	if err != nil {
		return provisioned{}, err
	}
	return provisioned{Volume: v.Name, KEK: kbs.Address(b.URL, b.KEK), KEKChanged: true, Secret: kbs.Address(b.URL, b.Resource), SecretChanged: true}, nil
}
