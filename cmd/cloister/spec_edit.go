package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func specAddCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "add",
		Usage: "add to a specification; comments and layout stay",
		Subcommands: []*urfave.Command{
			addPartyCommand(), addIdentityCommand(), addApplicationCommand(),
			addSourceCommand("code", "a sealed volume of code or models, mounted first", func(s *spec.Specification) *[]spec.Source { return &s.Code }),
			addSourceCommand("datasource", "a sealed volume that the application reads", func(s *spec.Specification) *[]spec.Source { return &s.DataSources }),
			addSinkCommand(), addEndpointCommand(), addRegistryCommand(),
		},
	}
}

func text(name, usage string) *urfave.StringFlag { return &urfave.StringFlag{Name: name, Usage: usage} }

func addPartyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "party", Usage: "somebody whose agreement is needed", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("name", "the party's `NAME`"),
			text("signing-key", "public `KEY` that signs its statements: a party's document, a PEM file, or base64"),
			text("recipient-key", "public `KEY` that results are sealed for: a party's document, a PEM file, or base64"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"name", "signing-key"}, "FILE")
			if err != nil {
				return err
			}
			party := spec.Party{Name: c.String("name")}
			if party.SigningKey, err = publicKey(c.String("signing-key"), signingKey); err != nil {
				return err
			}
			if party.RecipientKey, err = publicKey(c.String("recipient-key"), recipientKey); err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("parties", party, func(s *spec.Specification) { s.Parties = append(s.Parties, party) })
			})
		},
	}
}

// publicKey returns a key as the specification has it: the argument itself, or
// what is in the file that it names, the inside of PEM or of a party's document
// what pick takes.
func publicKey(arg string, pick func(statement.Party) []byte) (string, error) {
	data, err := os.ReadFile(arg)
	if arg == "" || errors.Is(err, fs.ErrNotExist) {
		return arg, nil
	}
	if err != nil {
		// Base64 may be longer than any file's name.
		if len(arg) > 255 {
			return arg, nil
		}
		return "", fmt.Errorf("reading public key: %w", err)
	}
	if p, err := statement.ParseDocument(data); err == nil {
		key := pick(p)
		if key == nil {
			return "", fault.Errorf(fault.Usage, "make the party's keys with cloister party keygen, which makes both", "the document %s of %s has no key of this kind", arg, p.Name)
		}
		return base64.StdEncoding.EncodeToString(key), nil
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return "", fault.Errorf(fault.Usage, "give the public half: only that belongs in a specification", "%s is not a PEM file with a PUBLIC KEY, and no party's document", arg)
	}
	return base64.StdEncoding.EncodeToString(block.Bytes), nil
}

func signingKey(p statement.Party) []byte   { return p.Key }
func recipientKey(p statement.Party) []byte { return p.Recipient }

func addIdentityCommand() *urfave.Command {
	return &urfave.Command{
		Name: "identity", Usage: "a managed identity of the clean room", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("name", "the `NAME` that sources and sinks use"),
			text("client-id", "the identity's client `UUID`"),
			text("tenant-id", "the tenant's `UUID`, where it is not the resource's own"),
			text("resource-id", "the identity's Azure resource `ID`, which a template attaches to the container"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"name", "client-id"}, "FILE")
			if err != nil {
				return err
			}
			id := spec.Identity{Name: c.String("name"), ClientID: c.String("client-id"), TenantID: c.String("tenant-id"), ResourceID: c.String("resource-id")}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("identities", id, func(s *spec.Specification) { s.Identities = append(s.Identities, id) })
			})
		},
	}
}

func volumeFlags() []urfave.Flag {
	return []urfave.Flag{
		text("name", "the volume's `NAME` in the specification"),
		text("party", "the `PARTY` that owns it"),
		text("volume", "its volume `ID`, 32 hexadecimal digits"),
		text("store", "where it is: a blob `URL`, or for kind simulated a directory"),
		text("mount", "the `DIR` at which the application sees it"),
		text("kek", "`NAME` of the key that wraps its DEK"),
		text("vault", "`URL` of the vault or HSM that holds the key"),
		text("secret", "`URL` of the secret that holds the wrapped DEK"),
		text("broker", "instead of these three: the key broker that holds both, `URL[,resource=R][,kek=R][,ca=FILE]`; R is REPOSITORY/TYPE/TAG, else PARTY/wrapped-dek/NAME and PARTY/kek/NAME; FILE is the root of its certificate, else the system's are taken"),
		text("identity", "the identity `NAME` to use at the store and the vaults"),
	}
}

// newSource reads FILE and the flags, which must say where the keys are in one
// way or the other.
func newSource(c *urfave.Context) (file string, s spec.Source, err error) {
	args, err := anyOrder(c, nil, "FILE")
	if err != nil {
		return "", s, err
	}
	required := []string{"name", "party", "volume", "store", "mount"}
	if c.String("broker") == "" {
		required = append(required, "kek", "vault", "secret")
	}
	if err := cli.Required(c, required...); err != nil {
		return "", s, err
	}
	s = spec.Source{
		Name: c.String("name"), Party: c.String("party"), Volume: c.String("volume"), Store: c.String("store"), Mount: c.String("mount"),
		Key:      spec.Key{KEK: c.String("kek"), Vault: c.String("vault"), Secret: c.String("secret")},
		Identity: c.String("identity"), Fetch: c.String("fetch"),
	}
	if text := c.String("broker"); text != "" {
		s.Key.Broker, err = brokerOf(text, s)
	}
	return args[0], s, err
}

func addSourceCommand(name, usage string, list func(*spec.Specification) *[]spec.Source) *urfave.Command {
	field := map[string]string{"code": "code", "datasource": "datasources"}[name]
	return &urfave.Command{
		Name: name, Usage: usage, ArgsUsage: "FILE",
		Flags: append(volumeFlags(), text("fetch", "`WHEN` it is fetched: on-demand, or whole, all of it before the application starts; on-demand when not given")),
		Action: func(c *urfave.Context) error {
			file, source, err := newSource(c)
			if err != nil {
				return err
			}
			return editSpec(file, func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append(field, source, func(s *spec.Specification) { *list(s) = append(*list(s), source) })
			})
		},
	}
}

func addSinkCommand() *urfave.Command {
	return &urfave.Command{
		Name: "datasink", Usage: "a sealed volume that the application writes", ArgsUsage: "FILE",
		Flags: append(volumeFlags(), &urfave.StringSliceFlag{Name: "recipient", Usage: "a `PARTY`, beside the owner, who can open it; may be repeated"},
			text("publish", "`WHEN` it goes to the store: as-written, or \"at-end, padded\"; as-written when not given")),
		Action: func(c *urfave.Context) error {
			file, v, err := newSource(c)
			if err != nil {
				return err
			}
			sink := spec.Sink{Name: v.Name, Party: v.Party, Volume: v.Volume, Store: v.Store, Mount: v.Mount, Key: v.Key,
				Identity: v.Identity, Recipients: c.StringSlice("recipient"), Publish: c.String("publish")}
			return editSpec(file, func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("datasinks", sink, func(s *spec.Specification) { s.DataSinks = append(s.DataSinks, sink) })
			})
		},
	}
}

func addApplicationCommand() *urfave.Command {
	return &urfave.Command{
		Name: "application", Usage: "what runs: the program and its arguments, flags before FILE", ArgsUsage: "FILE PROGRAM [ARG...]",
		Flags: append([]urfave.Flag{
			text("name", "the application's `NAME`"),
			&urfave.StringSliceFlag{Name: "env", Usage: "a variable as `NAME=VALUE`; may be repeated"},
			text("workdir", "the `DIR` it starts in"),
			&urfave.Uint64Flag{Name: "uid", Usage: "the user it runs as, not 0"},
			&urfave.Uint64Flag{Name: "gid", Usage: "the group it runs as, not 0"},
			text("image", "the container image by digest, `REPOSITORY@sha256:…`"),
			&urfave.StringSliceFlag{Name: "layer", Usage: "a layer's dm-verity root `HASH`, lowest first; repeated"},
			&urfave.StringSliceFlag{Name: "port", Usage: "a TCP `PORT` that it listens on; may be repeated"},
			text("start", "`WHEN` it starts: auto, or manual, on a client's first call; auto when not given"),
			text("restart", "`WHETHER` it starts again when it has ended: never, on-failure or always; never when not given"),
		}, resourceFlags()...),
		Action: func(c *urfave.Context) error {
			args, err := cli.Args(c, "FILE", "PROGRAM", "[ARG...]")
			if err != nil {
				return err
			}
			app, err := applicationOf(c)
			if err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) { return addApplication(d, app) })
		},
	}
}

func applicationOf(c *urfave.Context) (spec.Application, error) {
	app := spec.Application{Name: c.String("name"), Command: c.Args().Tail(), WorkingDir: c.String("workdir"), Start: c.String("start"), Restart: c.String("restart")}
	if err := cli.Required(c, "name"); err != nil {
		return app, err
	}
	for _, given := range c.StringSlice("port") {
		port, err := portOf(given)
		if err != nil {
			return app, err
		}
		app.Ports = append(app.Ports, port)
	}
	for _, variable := range c.StringSlice("env") {
		name, value, ok := strings.Cut(variable, "=")
		if _, twice := app.Environment[name]; !ok || twice {
			return app, fault.Errorf(fault.Usage, "write --env NAME=VALUE, each name once", "--env %.80q is not a new variable", variable)
		}
		if app.Environment == nil {
			app.Environment = map[string]string{}
		}
		app.Environment[name] = value
	}
	if c.IsSet("uid") || c.IsSet("gid") {
		uid, err := number(c, "uid")
		if err != nil {
			return app, err
		}
		gid, err := number(c, "gid")
		if err != nil {
			return app, err
		}
		app.User = &spec.User{UID: uid, GID: gid}
	}
	if c.IsSet("image") || c.IsSet("layer") {
		app.Image = &spec.Image{Reference: c.String("image"), Layers: c.StringSlice("layer")}
	}
	var err error
	app.Resources, err = resourcesOf(c)
	return app, err
}

func addApplication(d *yaml.Document, app spec.Application) (*yaml.Document, error) {
	if d.Spec.Application.Name != "" || len(d.Spec.Application.Command) > 0 {
		return nil, fault.Errorf(fault.Conflict, "change it in the file, or take it out first", "there is already an application, %q", d.Spec.Application.Name)
	}
	e := edits{d: d}
	set := func(given bool, field string, value any, change func(*spec.Application)) {
		e.set(given, "application", field, value, func(s *spec.Specification) { change(&s.Application) })
	}
	set(true, "name", app.Name, func(a *spec.Application) { a.Name = app.Name })
	set(app.Image != nil, "image", app.Image, func(a *spec.Application) { a.Image = app.Image })
	set(true, "command", app.Command, func(a *spec.Application) { a.Command = app.Command })
	set(app.Environment != nil, "environment", app.Environment, func(a *spec.Application) { a.Environment = app.Environment })
	set(app.WorkingDir != "", "workingDir", app.WorkingDir, func(a *spec.Application) { a.WorkingDir = app.WorkingDir })
	set(app.User != nil, "user", app.User, func(a *spec.Application) { a.User = app.User })
	set(len(app.Ports) > 0, "ports", app.Ports, func(a *spec.Application) { a.Ports = app.Ports })
	set(app.Resources != nil, "resources", app.Resources, func(a *spec.Application) { a.Resources = app.Resources })
	set(app.Start != "", "start", app.Start, func(a *spec.Application) { a.Start = app.Start })
	set(app.Restart != "", "restart", app.Restart, func(a *spec.Application) { a.Restart = app.Restart })
	return e.d, e.err
}

func specSetCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "set",
		Usage:       "set a part of a specification; comments and layout stay",
		Subcommands: []*urfave.Command{setKindCommand(), setCloudCommand(), setGovernanceCommand(), setAttestationCommand(), setModelCommand(), setNetworkCommand(), setRuntimeCommand(), setDeploymentCommand()},
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

// binaryDigest returns a digest as it is, and otherwise that of the named file.
func binaryDigest(arg string) (string, error) {
	if arg == "" || strings.HasPrefix(arg, "sha256:") {
		return arg, nil
	}
	return fileDigest("runtime binary", arg, "give the cloisterd file, or its sha256:…")
}

// fileDigest returns "sha256:" and the hash of a file.
func fileDigest(what, path, hint string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.Errorf(fault.NotFound, hint, "%s %s is not there", what, path)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

func setGovernanceCommand() *urfave.Command {
	return &urfave.Command{
		Name: "governance", Usage: "whose record of consent and use is believed", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("ledger", "`URL` of the ledger"),
			text("ledger-key", "public `KEY` of the ledger: a PEM file, base64, or NAME+HASH+BASE64"),
			&urfave.StringSliceFlag{Name: "witness", Usage: "public `KEY` of a witness that must cosign; may be repeated"},
			&urfave.Uint64Flag{Name: "threshold", Usage: "`HOW MANY` of the witnesses must; all when not given"},
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			g := spec.Governance{Ledger: c.String("ledger"), Witnesses: c.StringSlice("witness")}
			if g.LedgerKey, err = publicKey(c.String("ledger-key"), signingKey); err != nil {
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
	set(g.LedgerKey != "", "ledgerKey", g.LedgerKey, func(to *spec.Governance) { to.LedgerKey = g.LedgerKey })
	set(len(g.Witnesses) > 0, "witnesses", g.Witnesses, func(to *spec.Governance) { to.Witnesses = g.Witnesses })
	set(g.Threshold > 0, "threshold", g.Threshold, func(to *spec.Governance) { to.Threshold = g.Threshold })
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
