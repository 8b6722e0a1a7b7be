package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloister/fs/format"
	"cloister/governance"
	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

// contractCommand is "cloister contract": what the parties agree on.
func contractCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "contract",
		Usage: "agree on a specification, its policies and the volumes",
		Subcommands: []*urfave.Command{
			proposeCommand("propose", "open the contract with its first version"),
			proposeCommand("amend", "put a new version in the place of the newest; approvals lapse"),
			reviewCommand(), approveCommand(), rejectCommand(), withdrawCommand(),
			contractStatusCommand(), contractLogCommand(), contractExportCommand(),
		},
	}
}

func specificationFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "specification", Usage: "the specification, `FILE`"}
}

func versionFlag() urfave.Flag {
	return &urfave.Uint64Flag{Name: "version", Usage: "the version `N` that is meant: refused where it is not the newest", DefaultText: "the newest"}
}

func volumeFlag(usage string) urfave.Flag {
	return &urfave.StringSliceFlag{Name: "volume", Usage: usage}
}

func proposeCommand(name, usage string) *urfave.Command {
	return &urfave.Command{
		Name: name, Usage: usage,
		Description: "The digests of the specification and of both policies are computed here, from\n" +
			"the specification. A data source's REFERENCE is what `cloister prep encrypt`\n" +
			"printed; a data sink's what `cloister prep sink` printed. An amendment keeps the\n" +
			"references of the version before that are not given.",
		Flags: append(append(partyFlags(), imageFlags()...), specificationFlag(), versionFlag(),
			volumeFlag("`NAME=REFERENCE` of a volume of the specification; once for each"),
			&urfave.StringSliceFlag{Name: "recovery-of", Usage: "the document `PARTYFILE.pub` of a party whose recovery key the contract holds; once for each", Hidden: name == "amend"},
			jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				now, _ := s.Contract()
				if err := meant(c, now); err != nil {
					return nil, "", 0, err
				}
				k, canonical, err := contractOf(c, now)
				if err != nil {
					return nil, "", 0, err
				}
				if name == "amend" {
					warnKEKs(c.App.ErrWriter, now, k, s.Specification(), canonical)
				}
				b, err := proposal(c, name, k, canonical)
				return b, k.ID, k.Version, err
			})
		}, saysTakes("--specification")...),
	}
}

// contractOf makes the next version of a specification and the references given,
// and the canonical specification.
func contractOf(c *urfave.Context, now statement.Contract) (statement.Contract, []byte, error) {
	s, t, err := translate(c)
	if err != nil {
		return statement.Contract{}, nil, err
	}
	references, err := referencesGiven(c)
	if err != nil {
		return statement.Contract{}, nil, err
	}
	for name, ref := range pinned(now) {
		if _, given := references[name]; !given && hasVolume(s, name) {
			references[name] = ref
		}
	}
	k, err := makeContract(s, t, references)
	if err != nil {
		return k, nil, err
	}
	k.Version = now.Version + 1
	if err := addRecoveries(&k, now, c.StringSlice("recovery-of")); err != nil {
		return k, nil, err
	}
	canonical, err := s.Canonical()
	return k, canonical, err
}

// makeContract is the contract that a specification, its policies and the
// references of its volumes come to. Version and recovery keys are not of it.
func makeContract(s spec.Specification, t digests, references map[string]string) (k statement.Contract, err error) {
	k = statement.Contract{ID: s.Name, Specification: t.specification, ContainerPolicy: t.containerPolicy, KeyReleasePolicy: t.keyReleasePolicy}
	if n := s.Replicas(); n > 1 {
		k.Replicas = uint64(n)
	}
	for _, p := range s.Parties {
		key, err := base64.StdEncoding.DecodeString(p.SigningKey)
		if err != nil {
			return k, err
		}
		party := statement.Party{Name: p.Name, Key: key}
		if p.RecipientKey != "" {
			if party.Recipient, err = base64.StdEncoding.DecodeString(p.RecipientKey); err != nil {
				return k, err
			}
		}
		k.Parties = append(k.Parties, party)
	}
	if k.Volumes, err = volumesOf(s, references); err != nil {
		return k, err
	}
	slices.SortFunc(k.Parties, func(a, b statement.Party) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(k.Volumes, func(a, b statement.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return k, nil
}

// addRecoveries takes recovery keys from the version before, and from documents.
func addRecoveries(k *statement.Contract, now statement.Contract, documents []string) error {
	for i := range k.Parties {
		was, _ := now.Party(k.Parties[i].Name)
		k.Parties[i].Recovery = was.Recovery
	}
	for _, path := range documents {
		p, err := partyfile.ReadDocument(path)
		if err != nil {
			return fmt.Errorf("--recovery-of: %w", err)
		}
		i := slices.IndexFunc(k.Parties, func(q statement.Party) bool { return q.Name == p.Name && bytes.Equal(q.Key, p.Key) })
		if i < 0 || p.Recovery == nil {
			return fault.Errorf(fault.Usage, "give the document of a party of the specification that has a recovery key", "--recovery-of %s", path)
		}
		k.Parties[i].Recovery = p.Recovery
	}
	return nil
}

// digests are what a contract pins of a specification.
type digests struct{ specification, containerPolicy, keyReleasePolicy string }

// translate reads a specification and makes its policies here, on this
// machine: a party believes nobody about them.
func translate(c *urfave.Context) (spec.Specification, digests, error) {
	s, err := loadSpec(c.String("specification"))
	if err != nil {
		return s, digests{}, err
	}
	d, err := digestsFor(c, s)
	return s, d, err
}

func digestsFor(c *urfave.Context, s spec.Specification) (digests, error) {
	in, err := inputsOf(c, s)
	if err != nil {
		return digests{}, err
	}
	t, err := policy.Translate(s, in)
	if err != nil {
		return digests{}, err
	}
	return digestsOf(t), nil
}

func digestsOf(t policy.Translation) digests {
	return digests{t.Specification, statement.Digest(t.ContainerPolicy), t.KeyRelease.Digest()}
}

// newest returns the newest version of the contract and its digest, and refuses
// one that --version does not mean.
func newest(c *urfave.Context, s *governance.State) (statement.Contract, string, error) {
	k, digest := s.Contract()
	if k.Version == 0 {
		return k, "", fault.Errorf(fault.NotFound, "`cloister contract propose` makes the first version", "nothing has been proposed in this ledger yet")
	}
	return k, digest, meant(c, k)
}

func meant(c *urfave.Context, k statement.Contract) error {
	if want := c.Uint64("version"); want != 0 && want != k.Version {
		return governance.Refuse(governance.StaleVersion, "look at the newest version and decide again", "version %d is meant, the newest is %d", want, k.Version)
	}
	return nil
}

// referencesGiven returns what --volume says, by name.
func referencesGiven(c *urfave.Context) (map[string]string, error) {
	references := map[string]string{}
	for _, g := range c.StringSlice("volume") {
		name, ref, ok := strings.Cut(g, "=")
		if _, twice := references[name]; !ok || twice {
			return nil, fault.Errorf(fault.Usage, "write --volume NAME=REFERENCE, each name once", "--volume %.80q", g)
		}
		references[name] = ref
	}
	return references, nil
}

// pinned returns a contract's references in the form that --volume takes.
func pinned(k statement.Contract) map[string]string {
	references := map[string]string{}
	for _, v := range k.Volumes {
		references[v.Name] = v.Reference
		if v.Reference == "" {
			references[v.Name] = fmt.Sprintf("%s:%d:%s", v.ID, v.KeyVersion, v.Check)
		}
	}
	return references
}

func hasVolume(s spec.Specification, name string) bool {
	_, ok := volumeOf(s, name)
	return ok
}

// volumesOf pairs the specification's volumes with references: each has one, of
// the volume that the specification names, and there is none more.
func volumesOf(s spec.Specification, references map[string]string) ([]statement.Volume, error) {
	references = maps.Clone(references)
	var volumes []statement.Volume
	add := func(of spec.Source, kind string, pin func(*statement.Volume, string) (format.VolumeID, error)) error {
		ref, ok := references[of.Name]
		if !ok {
			return fault.Errorf(fault.Usage, "give --volume "+of.Name+"=REFERENCE", "volume %q of the specification has no reference", of.Name)
		}
		delete(references, of.Name)
		v := statement.Volume{Name: of.Name, Owner: of.Party, Kind: kind}
		id, err := pin(&v, ref)
		if err != nil {
			return fmt.Errorf("volume %q: %w", of.Name, err)
		}
		if id.String() != of.Volume {
			return fault.Errorf(fault.Usage, "give the reference of the volume that is meant", "volume %q of the specification is %s, the reference is of %s", of.Name, of.Volume, id)
		}
		volumes = append(volumes, v)
		return nil
	}
	for _, v := range s.Code {
		if err := add(v, statement.CodeVolume, pinReference); err != nil {
			return nil, err
		}
	}
	for _, v := range s.DataSources {
		if err := add(v, statement.SourceVolume, pinReference); err != nil {
			return nil, err
		}
	}
	for _, v := range s.Sinks() {
		if err := add(v.Source(), statement.SinkVolume, pinSink); err != nil {
			return nil, err
		}
		recipients, err := recipientIDs(s, v)
		if err != nil {
			return nil, err
		}
		volumes[len(volumes)-1].Recipients = recipients
	}
	for name := range references {
		return nil, fault.Errorf(fault.Usage, "see cloister spec show", "the specification has no volume %q", name)
	}
	return volumes, nil
}

// recipientIDs are the fingerprints of the keys that a sink is sealed for.
func recipientIDs(s spec.Specification, sink spec.Sink) (ids []string, err error) {
	for _, name := range sink.Recipients {
		party, _ := s.Party(name)
		spki, err := base64.StdEncoding.DecodeString(party.RecipientKey)
		if err != nil {
			return nil, err
		}
		ids = append(ids, statement.Digest(spki))
	}
	slices.Sort(ids)
	return ids, nil
}

func pinReference(v *statement.Volume, text string) (format.VolumeID, error) {
	ref, err := format.ParseReference(text)
	v.Reference = ref.String()
	return ref.Volume, err
}

// pinSink reads what `cloister prep sink` prints, or the reference of an epoch
// to go on from.
func pinSink(v *statement.Volume, text string) (id format.VolumeID, err error) {
	if ref, err := format.ParseReference(text); err == nil {
		v.Reference, v.ID, v.KeyVersion, v.Check = ref.String(), ref.Volume.String(), uint64(ref.KeyVersion), ref.Check.String()
		return ref.Volume, nil
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return id, fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "%.80q is not VOLUME_ID:KEY_VERSION:CHECK_VALUE", text)
	}
	if id, err = format.ParseVolumeID(parts[0]); err != nil {
		return id, fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "%w", err)
	}
	version, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || version == 0 {
		return id, fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "key version %q is not a number from 1", parts[1])
	}
	check, err := format.ParseCheckValue(parts[2])
	if err != nil {
		return id, fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "%w", err)
	}
	v.ID, v.KeyVersion, v.Check = id.String(), version, check.String()
	return id, nil
}
