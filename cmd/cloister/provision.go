package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"cloister/enclave/envelope"
	"cloister/fs/format"
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
		Subcommands: []*urfave.Command{provisionApplyCommand()},
	}
}

func provisionApplyCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "apply",
		Usage:     "see to it that the KEK exists under the key release policy, and that the wrapped DEK is stored",
		ArgsUsage: "VOLUME...",
		Description: "VOLUME is the name of a code volume, data source or data sink of the\n" +
			"specification. Applying again changes nothing; what is there and otherwise is\n" +
			"refused with the difference. Sign in as for the Azure SDKs (azidentity).",
		Flags: append(keyFlags(),
			specificationFlag(),
			&urfave.StringFlag{Name: "key-release-policy", Usage: "the policy to keep the KEK under, `FILE` of policy generate"},
			keyVersionFlag(),
			jsonFlag(),
		),
		Action: action(provisionApply, "--specification", "--key-release-policy", "VOLUME..."),
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
	policy, err := readReleasePolicy(c.String("key-release-policy"))
	if err != nil {
		return err
	}
	client, err := provisionClient(s)
	if err != nil {
		return err
	}
	version, err := keyVersion(c)
	if err != nil {
		return err
	}
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	var done []provisioned
	for _, name := range names {
		v, ok := volumeOf(s, name)
		if !ok {
			return fault.Errorf(fault.NotFound, "see cloister spec show", "the specification has no volume %q", name)
		}
		p, err := applyVolume(c.Context, client, v, policy, root, version)
		if err != nil {
			return fmt.Errorf("provisioning %s: %w", name, err)
		}
		done = append(done, p)
	}
	return printResult(c, done, func(stdout, _ io.Writer) {
		for _, p := range done {
			fmt.Fprintf(stdout, "%s\n  KEK    %s %s\n  secret %s %s\n", p.Volume, p.KEK, made(p.KEKChanged), p.Secret, made(p.SecretChanged))
		}
	})
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
	for _, v := range s.DataSinks {
		if v.Name == name {
			return v.Source(), true
		}
	}
	return spec.Source{}, false
}

func applyVolume(ctx context.Context, client *provision.Client, v spec.Source, policy release.Policy, root *format.RootSecret, keyVersion uint32) (provisioned, error) {
	id, err := format.ParseVolumeID(v.Volume)
	if err != nil {
		return provisioned{}, err
	}
	vault, secret, ok := strings.Cut(v.Key.Secret, "/secrets/")
	if !ok {
		return provisioned{}, fault.Errorf(fault.Usage, "write it as https://VAULT/secrets/NAME", "%q is not a secret's address", v.Key.Secret)
	}
	kek, err := client.ApplyKEK(ctx, provision.KEK{Vault: v.Key.Vault, Name: v.Key.KEK, Policy: policy})
	if err != nil {
		return provisioned{}, err
	}
	derived := root.DeriveDEK(id, keyVersion)
	defer derived.Destroy()
	dek, err := envelope.NewDEK(derived.Expose())
	if err != nil {
		return provisioned{}, err
	}
	defer dek.Destroy()
	stored, err := client.ApplyDEK(ctx, provision.WrappedDEK{Vault: vault, Name: secret, VolumeID: id, KeyVersion: keyVersion, DEK: dek}, kek)
	if err != nil {
		return provisioned{}, err
	}
	return provisioned{Volume: v.Name, KEK: kek.ID, KEKChanged: kek.Changed, Secret: stored.ID, SecretChanged: stored.Changed}, nil
}
