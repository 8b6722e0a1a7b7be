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
		Name:        "provision",
		Usage:       "put a volume's keys where only the agreed clean room gets them",
		Subcommands: []*urfave.Command{provisionApplyCommand(), provisionRequestCommand(), provisionDeclineCommand()},
	}
}

func provisionApplyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "apply",
		Usage:     "see to it that the KEK exists under the key release policy, and that the wrapped DEK is stored",
		ArgsUsage: "VOLUME...",
		Description: "VOLUME is the name of a code volume, data source or data sink of the\n" +
			"specification. Applying again changes nothing; what is there and otherwise is\n" +
			"refused with the difference. Sign in as for the Azure SDKs (azidentity).\n" +
			"At a key broker both keys are made anew each time, as an owner can write there\n" +
			"and not read; that the agreed container gets them, and nobody else, is what its\n" +
			"resource policy must say, for the host data that policy generate prints.",
		Flags: append(append(keyFlags(), imageFlags()...),
			specificationFlag(),
			&urfave.StringFlag{Name: "key-release-policy", Usage: "keys in a vault: the policy to keep the KEK under, `FILE` of policy generate"},
			&urfave.StringFlag{Name: "broker-token", Usage: "keys at a key broker: its administrator's bearer token, in `FILE`"},
			keyVersionFlag(),
			text("ledger", "also say in the ledger `DIR` that the keys are in place; first its contract must be accepted, and this specification's"),
			text("party", "with --ledger: the signing key of the volumes' owner, `PARTYFILE`"),
			jsonFlag(),
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
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	var done []provisioned
	for _, v := range volumes {
		p, err := owner.apply(c.Context, v, root)
		if err != nil {
			return fmt.Errorf("provisioning %s: %w", v.Name, err)
		}
		done = append(done, p)
	}
	entry, err := sayProvisioned(c, done)
	if err != nil {
		return err
	}
	return printResult(c, done, func(stdout, _ io.Writer) {
		for _, p := range done {
			fmt.Fprintf(stdout, "%s\n  KEK    %s %s\n  secret %s %s\n", p.Volume, p.KEK, made(p.KEKChanged), p.Secret, made(p.SecretChanged))
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
		if o.vaults, err = provisionClient(s); err != nil {
			return o, err
		}
	}
	if slices.ContainsFunc(volumes, atBroker) {
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
func provisionClient(s spec.Specification) (*provision.Client, error) {
	cred, err := signIn(s)
	if err != nil {
		return nil, err
	}
	return provision.New(provision.Options{Credential: cred, PrivateCloud: s.Kind == spec.Simulated}), nil
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

func (o *owner) apply(ctx context.Context, v spec.Source, root *format.RootSecret) (provisioned, error) {
	id, err := format.ParseVolumeID(v.Volume)
	if err != nil {
		return provisioned{}, err
	}
	derived := root.DeriveDEK(id, o.keyVersion)
	defer derived.Destroy()
	dek, err := envelope.NewDEK(derived.Expose())
	if err != nil {
		return provisioned{}, err
	}
	defer dek.Destroy()
	if v.Key.Broker != nil {
		return o.applyBroker(ctx, v, id, dek)
	}
	return o.applyVault(ctx, v, id, dek)
}

func (o *owner) applyVault(ctx context.Context, v spec.Source, id format.VolumeID, dek *envelope.DEK) (provisioned, error) {
	vault, secret, ok := strings.Cut(v.Key.Secret, "/secrets/")
	if !ok {
		return provisioned{}, fault.Errorf(fault.Usage, "write it as https://VAULT/secrets/NAME", "%q is not a secret's address", v.Key.Secret)
	}
	kek, err := o.vaults.ApplyKEK(ctx, provision.KEK{Vault: v.Key.Vault, Name: v.Key.KEK, Policy: o.policy})
	if err != nil {
		return provisioned{}, err
	}
	stored, err := o.vaults.ApplyDEK(ctx, provision.WrappedDEK{Vault: vault, Name: secret, VolumeID: id, KeyVersion: o.keyVersion, DEK: dek}, kek)
	if err != nil {
		return provisioned{}, err
	}
	return provisioned{Volume: v.Name, KEK: kek.ID, KEKChanged: kek.Changed, Secret: stored.ID, SecretChanged: stored.Changed}, nil
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
