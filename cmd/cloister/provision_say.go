package main

import (
	"slices"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func provisionRequestCommand() *urfave.Command {
	return &urfave.Command{
		Name: "request", Usage: "ask the owners of volumes, through the ledger, to put their keys in place", ArgsUsage: "VOLUME...",
		Flags: append(partyFlags(), specificationFlag(), versionFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, volumes []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(c, s)
				return &statement.ProvisionRequest{Volumes: set(volumes)}, k.ID, k.Version, err
			})
		}, saysTakes("VOLUME...")...),
	}
}

func provisionDeclineCommand() *urfave.Command {
	return &urfave.Command{
		Name: "decline", Usage: "answer through the ledger that one's volumes will not be provisioned", ArgsUsage: "VOLUME...",
		Flags: append(partyFlags(), specificationFlag(), reasonFlag(), versionFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, volumes []string) error {
			return say(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
				k, _, err := newest(c, s)
				return &statement.ProvisionDecline{Reason: c.String("reason"), Volumes: set(volumes)}, k.ID, k.Version, err
			})
		}, saysTakes("VOLUME...")...),
	}
}

func set(words []string) []string { return slices.Compact(slices.Sorted(slices.Values(words))) }

// checkProvisioning refuses, before any key is placed, what could not be said in
// the ledger afterwards. Nobody was asked only where that is said.
func checkProvisioning(c *urfave.Context, s spec.Specification, names []string) error {
	if c.Bool("without-contract") {
		if c.IsSet("ledger") || c.IsSet("party") {
			return fault.Errorf(fault.Usage, "leave one out", "--without-contract and --ledger or --party are both given")
		}
		return nil
	}
	if err := cli.Required(c, "ledger", "party"); err != nil {
		return err
	}
	_, view, done, err := openView(c)
	defer done()
	if err != nil {
		return err
	}
	name, err := partyIn(view.State(), c.String("party"))
	if err != nil {
		return err
	}
	return allowsProvisioning(c, view.State(), s, name, names)
}

func allowsProvisioning(c *urfave.Context, state *governance.State, s spec.Specification, party string, names []string) error {
	k, _ := state.Contract()
	if state.Status() != governance.Accepted {
		return fault.Errorf(fault.Conflict, "see cloister contract status", "contract %s version %d is %s: keys are put in place for an accepted one", k.ID, k.Version, state.Status())
	}
	in, err := inputsOf(c, s)
	if err != nil {
		return err
	}
	t, err := policy.Translate(s, in)
	if err != nil {
		return err
	}
	if err := digestsOf(t).verify(k, s); err != nil {
		return err
	}
	for _, name := range names {
		if v, ok := k.Volume(name); ok && v.Owner != party {
			return governance.Refuse(governance.NotOwner, "let its owner provision it", "volume %q is of party %q, not of %q", name, v.Owner, party)
		}
	}
	return nil
}

// sayProvisioned tells the other parties what is in place, if --ledger is given.
func sayProvisioned(c *urfave.Context, done []provisioned) (*said, error) {
	if !c.IsSet("ledger") {
		return nil, nil
	}
	body := &statement.Provisioned{}
	for _, p := range done {
		body.Resources = append(body.Resources,
			statement.Resource{Kind: statement.ResourceKEK, Name: p.Volume, Reference: p.KEK},
			statement.Resource{Kind: statement.ResourceWrappedDEK, Name: p.Volume, Reference: p.Secret})
	}
	slices.SortFunc(body.Resources, func(a, b statement.Resource) int {
		return slices.Compare([]string{a.Name, a.Kind}, []string{b.Name, b.Kind})
	})
	s, err := speak(c, func(s *governance.State, _ string) (statement.Body, string, uint64, error) {
		k, _, err := newest(c, s)
		return body, k.ID, k.Version, err
	})
	if err != nil {
		return nil, fault.Errorf(fault.KindOf(err), "apply again, which changes no key", "the keys are in place, the ledger does not say so: %w", err)
	}
	return &s, nil
}
