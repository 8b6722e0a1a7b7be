package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"cloister/enclave/kbs"
	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/policy"
	"cloister/policy/release"
	"cloister/policy/spec"
	"cloister/prep/provision"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// ownerFlags are those of every command about a party's resources in vaults.
func ownerFlags() []urfave.Flag {
	return append(append(append(append(keyFlags(), imageFlags()...), accessFlags()...), vaultFlags()...), specificationFlag(), releasePolicyFlag(), keyVersionFlag(), jsonFlag())
}

func releasePolicyFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "key-release-policy", Usage: "keys in a vault: the policy to keep the KEK under, `FILE` of policy generate"}
}

// plan is what apply would do, and what that was decided on. Apply with --plan
// refuses where any of it but the items has changed.
type plan struct {
	Specification    string           `json:"specification"`    // digest
	KeyReleasePolicy string           `json:"keyReleasePolicy"` // digest
	Contract         string           `json:"contract,omitempty"`
	Volumes          []plannedVolume  `json:"volumes"`
	Items            []provision.Item `json:"items"`
}

type plannedVolume struct {
	Name       string `json:"name"`
	KEK        string `json:"kek"`
	Secret     string `json:"secret"`
	KeyVersion uint32 `json:"keyVersion"`
	Principal  string `json:"principal,omitempty"`
	Container  string `json:"container,omitempty"`
	Writes     bool   `json:"writes,omitempty"`
}

func provisionPlanCommand() *urfave.Command {
	return &urfave.Command{
		Name: "plan", Usage: "show what apply would do, and do none of it", ArgsUsage: "VOLUME...",
		Description: "Each resource is kept, made, or differs from what is wanted; apply is refused where\n" +
			"one differs. Without --key a wrapped DEK that is there is only told by its volume\n" +
			"and version.\n" + accessHelp + "\nJSON: the plan, as --out writes it.",
		Flags:  append(ownerFlags(), ledgerFlag(), text("party", "with --ledger: who reads, `PARTYFILE`"), text("out", "also write the plan to `FILE`, for apply --plan")),
		Action: action(provisionPlan, "--specification", "VOLUME..."),
	}
}

func provisionPlan(c *urfave.Context, names []string) error {
	w, err := readWanted(c, names)
	if err != nil {
		return err
	}
	defer w.destroy()
	p, err := w.plan(c)
	if err != nil {
		return err
	}
	if p.Items, err = w.status(c); err != nil {
		return err
	}
	if path := c.String("out"); path != "" {
		data, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		if err := replaceFile(path, append(data, '\n')); err != nil {
			return err
		}
	}
	return printResult(c, p, func(stdout, _ io.Writer) {
		printItems(stdout, p.Items, map[string]string{provision.There: "keep", provision.Missing: "make", provision.Differs: "refuse", provision.Unknown: "cannot tell"})
	})
}

func printItems(w io.Writer, items []provision.Item, words map[string]string) {
	for i, item := range items {
		if i == 0 || items[i-1].Volume != item.Volume {
			fmt.Fprintln(w, item.Volume)
		}
		fmt.Fprintf(w, "  %-11s %-14s %s\n", words[item.State], item.Kind, item.Resource)
		if item.Detail != "" {
			fmt.Fprintf(w, "              %s\n", item.Detail)
		}
	}
}

func provisionStatusCommand() *urfave.Command {
	return &urfave.Command{
		Name: "status", Usage: "compare what a party's volumes need in the cloud with what is there", ArgsUsage: "VOLUME...",
		Description: "Exit code 0 where everything is there as wanted, 8 where something is missing or\n" +
			"could not be looked at, 6 where something differs.\n" + accessHelp + "\nJSON: a list of volume, kind, resource, state (there, missing, differs, unknown), detail.",
		Flags: ownerFlags(),
		Action: action(func(c *urfave.Context, names []string) error {
			w, err := readWanted(c, names)
			if err != nil {
				return err
			}
			defer w.destroy()
			items, err := w.status(c)
			if err != nil {
				return err
			}
			if err := printResult(c, items, func(stdout, _ io.Writer) {
				printItems(stdout, items, map[string]string{provision.There: "there", provision.Missing: "missing", provision.Differs: "differs", provision.Unknown: "unknown"})
			}); err != nil {
				return err
			}
			return verdict(items)
		}, "--specification", "VOLUME..."),
	}
}

// verdict is a status as an exit code.
func verdict(items []provision.Item) error {
	count := map[string]int{}
	for _, i := range items {
		count[i.State]++
	}
	switch {
	case count[provision.Differs] > 0:
		return fault.Errorf(fault.Conflict, "choose other names, or agree on what is there", "%d of %d resources differ from what is wanted", count[provision.Differs], len(items))
	case count[provision.There] < len(items):
		return fault.Errorf(fault.Incomplete, "cloister provision apply makes what is missing", "%d of %d resources are there", count[provision.There], len(items))
	}
	return nil
}

// wanted is what a command's volumes need in vaults, and by whom it is asked.
type wanted struct {
	spec    spec.Specification
	owner   owner
	volumes []provision.Volume
	sources []spec.Source
	release func() // what volumes hold of keys
}

func (w *wanted) destroy() { w.release() }

func readWanted(c *urfave.Context, names []string) (*wanted, error) {
	s, err := loadSpec(c.String("specification"))
	if err != nil {
		return nil, err
	}
	sources, err := volumesNamed(s, names)
	if err != nil {
		return nil, err
	}
	shows := c.Command.Name == "plan" || c.Command.Name == "status" || c.Command.Name == "apply"
	if i := slices.IndexFunc(sources, func(v spec.Source) bool { return v.Key.Broker != nil }); i >= 0 && !shows {
		return nil, fault.Errorf(fault.Usage, "its operator takes keys from a broker, and its policy says who has them", "the keys of volume %q are at a key broker", sources[i].Name)
	}
	o, err := newOwner(c, s, sources)
	if err != nil {
		return nil, err
	}
	w := &wanted{spec: s, owner: o, sources: sources, release: func() {}}
	var root *format.RootSecret
	if c.String("key") != "" {
		if root, err = readKey(c); err != nil {
			return nil, err
		}
		w.release = root.Destroy
	}
	for _, v := range sources {
		if v.Key.Broker != nil {
			w.volumes = append(w.volumes, provision.Volume{Name: v.Name})
			continue
		}
		want, release, err := o.volume(c.Context, c, s, v, root)
		if err != nil {
			w.destroy()
			return nil, err
		}
		before := w.release
		w.release = func() { release(); before() }
		w.volumes = append(w.volumes, want)
	}
	return w, nil
}

func (w *wanted) status(c *urfave.Context) (items []provision.Item, err error) {
	lists := make([][]provision.Item, len(w.volumes))
	err = eachVolume(len(w.volumes), func(i int) (err error) {
		if w.sources[i].Key.Broker != nil {
			lists[i] = brokerItems(w.sources[i])
			return nil
		}
		lists[i], err = w.owner.vaults.Status(c.Context, w.volumes[i])
		return err
	})
	return slices.Concat(lists...), err
}

// plan is what is decided on: of the contract, where --ledger is given.
func (w *wanted) plan(c *urfave.Context) (plan, error) {
	digest, err := w.spec.Digest()
	p := plan{Specification: digest, KeyReleasePolicy: w.owner.policy.Digest()}
	for i, v := range w.volumes {
		if b := w.sources[i].Key.Broker; b != nil {
			p.Volumes = append(p.Volumes, plannedVolume{Name: v.Name, KEK: kbs.Address(b.URL, b.KEK), Secret: kbs.Address(b.URL, b.Resource), KeyVersion: w.owner.keyVersion})
			continue
		}
		p.Volumes = append(p.Volumes, plannedVolume{v.Name, v.KEK.Vault + "/keys/" + v.KEK.Name, w.sources[i].Key.Secret, v.DEK.KeyVersion, v.Principal, v.Container, v.Writes})
	}
	if err != nil || !c.IsSet("ledger") {
		return p, err
	}
	_, view, done, err := openView(c)
	defer done()
	if err != nil {
		return p, err
	}
	k, digest, err := newest(c, view.State())
	p.Contract = fmt.Sprintf("%s version %d %s (%s)", k.ID, k.Version, digest, view.State().Status())
	return p, err
}

// checkPlan refuses what is no longer what the plan was made for.
func checkPlan(path string, now plan) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return tree.Explain("reading the plan", path, err)
	}
	var planned plan
	if err := json.Unmarshal(raw, &planned); err != nil {
		return fault.Errorf(fault.Usage, "give a file of cloister provision plan --out", "reading the plan %s: %w", path, err)
	}
	if planned.Contract == "" {
		now.Contract = ""
	}
	var differ []string
	for _, x := range []struct{ what, planned, now string }{
		{"specification", planned.Specification, now.Specification},
		{"key release policy", planned.KeyReleasePolicy, now.KeyReleasePolicy},
		{"contract", planned.Contract, now.Contract},
	} {
		if x.planned != x.now {
			differ = append(differ, fmt.Sprintf("%s %s, now %s", x.what, x.planned, x.now))
		}
	}
	differ = append(differ, differPlanned(planned.Volumes, now.Volumes)...)
	if differ == nil {
		return nil
	}
	return fault.Errorf(fault.Conflict, "look at it, and make a new plan", "what was planned in %s has changed: %s", path, strings.Join(differ, "; "))
}

func differPlanned(planned, now []plannedVolume) (differ []string) {
	name := func(v plannedVolume) string { return v.Name }
	find := func(list []plannedVolume, n string) plannedVolume {
		i := slices.IndexFunc(list, func(v plannedVolume) bool { return v.Name == n })
		if i < 0 {
			return plannedVolume{}
		}
		return list[i]
	}
	for _, n := range names(planned, now, name) {
		was, is := reflect.ValueOf(find(planned, n)), reflect.ValueOf(find(now, n))
		for f := range was.NumField() {
			if !was.Field(f).Equal(is.Field(f)) {
				differ = append(differ, fmt.Sprintf("volume %s: %s %v, now %v", n, was.Type().Field(f).Name, was.Field(f), is.Field(f)))
			}
		}
	}
	return differ
}

// checkReleasePolicy makes the policies again here, and refuses one that is not
// what this specification gives: under it the keys would go to other code.
func checkReleasePolicy(c *urfave.Context, s spec.Specification, given release.Policy) error {
	in, err := inputsOf(c, s)
	if err != nil {
		return err
	}
	t, err := policy.Translate(s, in)
	if err != nil {
		return err
	}
	if release.Equal(t.KeyRelease, given) {
		return nil
	}
	list, err := release.Diff(given, t.KeyRelease)
	if err != nil {
		return err
	}
	var differ []string
	for _, d := range list {
		differ = append(differ, map[string]string{"first": "it has ", "second": "it lacks "}[d.OnlyIn]+d.What)
	}
	return fault.Errorf(fault.Refused, "make it again: cloister policy generate", "the key release policy is not what the specification gives: %s", strings.Join(differ, "; "))
}
