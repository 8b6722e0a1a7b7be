package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"cloister/governance/statement"
	"cloister/policy/spec"
)

// warnKEKs tells who amends which KEKs the new version names that were those of the
// version before, under another key release policy. A KEK that was made keeps its
// policy for ever, so that its owner could not provision the new version.
func warnKEKs(w io.Writer, before, now statement.Contract, was, is []byte) {
	if before.KeyReleasePolicy == now.KeyReleasePolicy || was == nil {
		return
	}
	old, err := spec.ParseCanonical(was)
	if err != nil {
		return // another program's; nothing is decided on this
	}
	next, err := spec.ParseCanonical(is)
	if err != nil {
		return
	}
	there := keksOf(old)
	var same []string
	for name, kek := range keksOf(next) {
		if slices.ContainsFunc(slices.Collect(maps.Values(there)), func(other string) bool { return strings.EqualFold(other, kek) }) {
			same = append(same, name)
		}
	}
	if same == nil {
		return
	}
	slices.Sort(same)
	fmt.Fprintf(w, "the key release policy is another than version %d's, and a KEK keeps for ever the one that it was made under: give the KEKs of %s other names (kek: in the specification) and amend again, unless their owners have not made them yet\n",
		before.Version, strings.Join(same, ", "))
}

// keksOf are the addresses of the KEKs in vaults, by volume.
func keksOf(s spec.Specification) map[string]string {
	keks := map[string]string{}
	add := func(name string, k spec.Key) {
		if k.Broker == nil {
			keks[name] = strings.TrimSuffix(k.Vault, "/") + "/keys/" + k.KEK
		}
	}
	for _, list := range [][]spec.Source{s.Code, s.DataSources} {
		for _, v := range list {
			add(v.Name, v.Key)
		}
	}
	for _, v := range s.DataSinks {
		add(v.Name, v.Key)
	}
	return keks
}
