package main

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloister/fs/format"
	"cloister/governance"
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
			approveCommand(), rejectCommand(), withdrawCommand(), contractStatusCommand(),
		},
	}
}

func specificationFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "specification", Usage: "the specification, `FILE`"}
}

func proposeCommand(name, usage string) *urfave.Command {
	return &urfave.Command{
		Name: name, Usage: usage,
		Description: "The digests of the specification and of both policies are computed here, from\n" +
			"the specification. A data source's REFERENCE is what `cloister prep encrypt`\n" +
			"printed; a data sink's what `cloister prep sink` printed.",
		Flags: append(partyFlags(), specificationFlag(),
			&urfave.StringSliceFlag{Name: "volume", Usage: "`NAME=REFERENCE` of a volume of the specification; once for each"},
			jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				now, _ := s.Contract()
				k, err := contractOf(c)
				if err != nil {
					return nil, "", 0, err
				}
				k.Version = now.Version + 1
				if name == "propose" {
					return &statement.Propose{Contract: k}, k.ID, k.Version, nil
				}
				return &statement.Amend{Contract: k}, k.ID, k.Version, nil
			})
		}, saysTakes("--specification")...),
	}
}

// contractOf makes the contract of a specification and the references given.
func contractOf(c *urfave.Context) (statement.Contract, error) {
	s, t, err := translate(c.String("specification"))
	if err != nil {
		return statement.Contract{}, err
	}
	k := statement.Contract{ID: s.Name, Specification: t.specification, ContainerPolicy: t.containerPolicy, KeyReleasePolicy: t.keyReleasePolicy}
	for _, p := range s.Parties {
		key, err := base64.StdEncoding.DecodeString(p.SigningKey)
		if err != nil {
			return k, err
		}
		recipient, err := base64.StdEncoding.DecodeString(p.RecipientKey)
		if err != nil {
			return k, err
		}
		k.Parties = append(k.Parties, statement.Party{Name: p.Name, Key: key, Recipient: recipient})
	}
	if k.Volumes, err = volumesOf(s, c.StringSlice("volume")); err != nil {
		return k, err
	}
	slices.SortFunc(k.Parties, func(a, b statement.Party) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(k.Volumes, func(a, b statement.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return k, nil
}

// digests are what a contract pins of a specification.
type digests struct{ specification, containerPolicy, keyReleasePolicy string }

// translate reads a specification and makes its policies here, on this
// machine: a party believes nobody about them.
func translate(path string) (spec.Specification, digests, error) {
	s, err := loadSpec(path)
	if err != nil {
		return s, digests{}, err
	}
	t, err := policy.Translate(s)
	if err != nil {
		return s, digests{}, err
	}
	return s, digests{t.Specification, statement.Digest(t.ContainerPolicy), t.KeyRelease.Digest()}, nil
}

// compare refuses a contract that pins other digests, and says which.
func (d digests) compare(k statement.Contract) error {
	var differ []string
	for _, x := range []struct{ what, pinned, made string }{
		{"specification", k.Specification, d.specification},
		{"container policy", k.ContainerPolicy, d.containerPolicy},
		{"key release policy", k.KeyReleasePolicy, d.keyReleasePolicy},
	} {
		if x.pinned != x.made {
			differ = append(differ, fmt.Sprintf("%s %s, here %s", x.what, x.pinned, x.made))
		}
	}
	if differ == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "do not approve; ask the proposer which specification is meant",
		"the contract pins what this specification does not give: %s", strings.Join(differ, "; "))
}

// newest returns the newest version of the contract and its digest.
func newest(s *governance.State) (statement.Contract, string, error) {
	k, digest := s.Contract()
	if k.Version == 0 {
		return k, "", fault.Errorf(fault.NotFound, "`cloister contract propose` makes the first version", "nothing has been proposed in this ledger yet")
	}
	return k, digest, nil
}

// volumesOf pairs the specification's volumes with the references given: each
// has one, and there is none more.
func volumesOf(s spec.Specification, given []string) ([]statement.Volume, error) {
	references := map[string]string{}
	for _, g := range given {
		name, ref, ok := strings.Cut(g, "=")
		if _, twice := references[name]; !ok || twice {
			return nil, fault.Errorf(fault.Usage, "write --volume NAME=REFERENCE, each name once", "--volume %.80q", g)
		}
		references[name] = ref
	}
	var volumes []statement.Volume
	add := func(name, owner, kind string, pin func(*statement.Volume, string) error) error {
		ref, ok := references[name]
		if !ok {
			return fault.Errorf(fault.Usage, "give --volume "+name+"=REFERENCE", "volume %q of the specification has no reference", name)
		}
		delete(references, name)
		v := statement.Volume{Name: name, Owner: owner, Kind: kind}
		if err := pin(&v, ref); err != nil {
			return fmt.Errorf("volume %q: %w", name, err)
		}
		volumes = append(volumes, v)
		return nil
	}
	for _, v := range s.Code {
		if err := add(v.Name, v.Party, statement.CodeVolume, pinReference); err != nil {
			return nil, err
		}
	}
	for _, v := range s.DataSources {
		if err := add(v.Name, v.Party, statement.SourceVolume, pinReference); err != nil {
			return nil, err
		}
	}
	for _, v := range s.DataSinks {
		if err := add(v.Name, v.Party, statement.SinkVolume, pinSink); err != nil {
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

func pinReference(v *statement.Volume, text string) error {
	ref, err := format.ParseReference(text)
	v.Reference = ref.String()
	return err
}

// pinSink reads what `cloister prep sink` prints, or the reference of an epoch
// to go on from.
func pinSink(v *statement.Volume, text string) error {
	if ref, err := format.ParseReference(text); err == nil {
		v.Reference, v.ID, v.KeyVersion, v.Check = ref.String(), ref.Volume.String(), uint64(ref.KeyVersion), ref.Check.String()
		return nil
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "%.80q is not VOLUME_ID:KEY_VERSION:CHECK_VALUE", text)
	}
	id, err := format.ParseVolumeID(parts[0])
	if err != nil {
		return fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "%w", err)
	}
	version, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || version == 0 {
		return fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "key version %q is not a number from 1", parts[1])
	}
	check, err := format.ParseCheckValue(parts[2])
	if err != nil {
		return fault.Errorf(fault.Usage, "give what `cloister prep sink` printed", "%w", err)
	}
	v.ID, v.KeyVersion, v.Check = id.String(), version, check.String()
	return nil
}

func approveCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "approve",
		Usage: "approve the newest version, after its policies were made again here from the specification",
		Flags: append(partyFlags(), specificationFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			_, want, err := translate(c.String("specification"))
			if err != nil {
				return err
			}
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, digest, err := newest(s)
				if err != nil {
					return nil, "", 0, err
				}
				if err := want.compare(k); err != nil {
					return nil, "", 0, err
				}
				return &statement.Approve{Digest: digest}, k.ID, k.Version, nil
			})
		}, saysTakes("--specification")...),
	}
}

func reasonFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "reason", Usage: "why: `WORDS` for the record"}
}

func rejectCommand() *urfave.Command {
	return &urfave.Command{
		Name: "reject", Usage: "veto the newest version",
		Flags: append(partyFlags(), specificationFlag(), reasonFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, digest, err := newest(s)
				if err != nil {
					return nil, "", 0, err
				}
				return &statement.Reject{Digest: digest, Reason: c.String("reason")}, k.ID, k.Version, nil
			})
		}, saysTakes()...),
	}
}

func withdrawCommand() *urfave.Command {
	return &urfave.Command{
		Name: "withdraw", Usage: "end the contract for all parties, for good",
		Flags: append(partyFlags(), specificationFlag(), reasonFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(s)
				if err != nil {
					return nil, "", 0, err
				}
				return &statement.Withdraw{Reason: c.String("reason")}, k.ID, k.Version, nil
			})
		}, saysTakes()...),
	}
}

// contractStatus is what status reports.
type contractStatus struct {
	Status   governance.Status      `json:"status"`
	Digest   string                 `json:"digest"`
	Approved []string               `json:"approved"`
	Consent  map[string]string      `json:"consent"` // by party: "granted", or why not
	Runs     []governance.RunStatus `json:"runs"`
	Contract statement.Contract     `json:"contract"`
}

func contractStatusCommand() *urfave.Command {
	return &urfave.Command{
		Name: "status", Usage: "where the contract stands",
		Flags: append(readerFlags(), specificationFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			_, view, err := openView(c)
			if err != nil {
				return err
			}
			s := view.State()
			k, digest := s.Contract()
			st := contractStatus{s.Status(), digest, s.Approved(), map[string]string{}, s.Runs(), k}
			for _, p := range k.Parties {
				st.Consent[p.Name] = "granted"
				if ok, why := s.Consent(p.Name, statement.ScopeExecution, time.Now()); !ok {
					st.Consent[p.Name] = why
				}
			}
			return printResult(c, st, func(stdout, _ io.Writer) { printStatus(stdout, st) })
		}, "--ledger"),
	}
}

func printStatus(w io.Writer, st contractStatus) {
	if st.Contract.Version == 0 {
		fmt.Fprintln(w, "nothing has been proposed yet")
		return
	}
	fmt.Fprintf(w, "contract %s version %d is %s\napproved by %s\n", st.Contract.ID, st.Contract.Version, st.Status, cmp.Or(strings.Join(st.Approved, ", "), "nobody"))
	for _, p := range st.Contract.Parties {
		fmt.Fprintf(w, "execution, %s: %s\n", p.Name, st.Consent[p.Name])
	}
}
