package main

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"cloister/governance"
	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func approveCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "approve",
		Usage: "approve the newest version, after it was made again here from the specification",
		Description: "What is approved is the digests of specification, container policy and key release\n" +
			"policy, the parties and every volume's reference. All of it is made again here and\n" +
			"compared, and the party's own volumes with --volume.",
		Flags: append(append(partyFlags(), imageFlags()...), specificationFlag(), versionFlag(),
			volumeFlag("`NAME=REFERENCE` of a volume of the party's own, to be compared"), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			s, t, err := translate(c)
			if err != nil {
				return err
			}
			own, err := referencesGiven(c)
			if err != nil {
				return err
			}
			return say(c, func(state *governance.State, name string) (statement.Body, string, uint64, error) {
				k, digest, err := newest(c, state)
				if err != nil {
					return nil, "", 0, err
				}
				if err := t.verify(k, s); err != nil {
					return nil, "", 0, err
				}
				if err := verifyOwn(c, state, name, own); err != nil {
					return nil, "", 0, err
				}
				return &statement.Approve{Digest: digest}, k.ID, k.Version, nil
			})
		}, saysTakes("--specification")...),
	}
}

// verify refuses a contract that is not what the specification comes to, and
// says all that differs.
func (d digests) verify(k statement.Contract, s spec.Specification) error {
	var differ []string
	for _, x := range []struct{ what, pinned, made string }{
		{"name", k.ID, s.Name},
		{"specification", k.Specification, d.specification},
		{"container policy", k.ContainerPolicy, d.containerPolicy},
		{"key release policy", k.KeyReleasePolicy, d.keyReleasePolicy},
	} {
		if x.pinned != x.made {
			differ = append(differ, fmt.Sprintf("%s %s, here %s", x.what, x.pinned, x.made))
		}
	}
	if differ == nil {
		made, err := makeContract(s, d, pinned(k))
		if err != nil {
			return fault.Errorf(fault.Refused, "do not approve", "the contract's volumes are not the specification's: %w", err)
		}
		differ = append(differParties(k, made), differVolumes(k, made)...)
	}
	if differ == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "do not approve; ask the proposer which specification is meant",
		"the contract pins what this specification does not give: %s", strings.Join(differ, "; "))
}

func differParties(k, made statement.Contract) (differ []string) {
	for _, name := range names(k.Parties, made.Parties, func(p statement.Party) string { return p.Name }) {
		is, _ := k.Party(name)
		want, _ := made.Party(name)
		if !bytes.Equal(is.Key, want.Key) || !bytes.Equal(is.Recipient, want.Recipient) {
			differ = append(differ, fmt.Sprintf("party %q", name))
		}
	}
	return differ
}

func differVolumes(k, made statement.Contract) (differ []string) {
	for _, name := range names(k.Volumes, made.Volumes, func(v statement.Volume) string { return v.Name }) {
		is, _ := k.Volume(name)
		want, _ := made.Volume(name)
		if !reflect.DeepEqual(is, want) {
			differ = append(differ, fmt.Sprintf("volume %q", name))
		}
	}
	return differ
}

func names[T any](a, b []T, name func(T) string) (all []string) {
	for _, x := range slices.Concat(a, b) {
		all = append(all, name(x))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// verifyOwn compares what is the speaker's alone to know: its recovery key, as it is
// now, and the references of its volumes.
func verifyOwn(c *urfave.Context, state *governance.State, name string, own map[string]string) error {
	k, _ := state.Contract()
	p, _ := k.Party(name)
	if p.Recovery != nil {
		document, errDocument := partyfile.ReadDocument(c.String("party"))
		now, err := state.Replaced(p.Recovery)
		if err != nil || errDocument != nil || !bytes.Equal(document.Recovery, now.SPKI()) {
			return fault.Errorf(fault.Refused, "do not approve unless it is yours; the document must be beside the party's file",
				"the contract names recovery key %s for %s, which is not in its document", now.Fingerprint(), name)
		}
	}
	is := pinned(k)
	for _, volume := range slices.Sorted(maps.Keys(own)) {
		if is[volume] != own[volume] {
			return fault.Errorf(fault.Refused, "do not approve; ask the proposer to amend", "the contract pins volume %q to %s, not to %.200q", volume, is[volume], own[volume])
		}
	}
	for _, v := range k.Volumes {
		if _, given := own[v.Name]; v.Owner == name && !given {
			fmt.Fprintf(c.App.ErrWriter, "not compared with a --volume of yours: %s=%s\n", v.Name, is[v.Name])
		}
	}
	return nil
}

func reasonFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "reason", Usage: "why: `WORDS` for the record"}
}

func rejectCommand() *urfave.Command {
	return &urfave.Command{
		Name: "reject", Usage: "veto the newest version",
		Flags: append(partyFlags(), specificationFlag(), reasonFlag(), versionFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, digest, err := newest(c, s)
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
		Flags: append(partyFlags(), specificationFlag(), reasonFlag(), versionFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(c, s)
				if err != nil {
					return nil, "", 0, err
				}
				return &statement.Withdraw{Reason: c.String("reason")}, k.ID, k.Version, nil
			})
		}, saysTakes()...),
	}
}
