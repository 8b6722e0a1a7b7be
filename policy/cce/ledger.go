package cce

import (
	"fmt"
	"slices"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// LedgerName is the container's of an attested ledger.
const LedgerName = "cloister-ledger"

// Ledger returns the policy of a container group that is an attested ledger, of kind
// aci or aks: one container, of an image with this command line, as root, for the
// device that attests, and without privilege. It may mount nothing beyond what the
// platform mounts everywhere, so that its log is on the container's own scratch,
// which the platform encrypts with a key of this start. What it prints stays inside.
func Ledger(kind spec.Kind, reference string, in Image, command []string, infrastructure Infrastructure) ([]byte, error) {
	if kind != spec.ACI && kind != spec.AKS {
		return nil, fault.Errorf(fault.Usage, "give aci or aks", "no container policy is made for a ledger of kind %s", kind)
	}
	if !slices.Contains(command, "serve") || !slices.Contains(command, "--attest") {
		return nil, fault.Errorf(fault.Usage, "give the whole command line, such as /cloister-ledger serve --attest --party /hospital.party.pub --listen 0.0.0.0:8446 /ledger",
			"the command %q starts no attested ledger", command)
	}
	rules, err := environmentRules(spec.Specification{Kind: kind}, in)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", reference, err)
	}
	c := container(Container{
		Command: command, EnvRules: rules, ID: reference, Layers: in.Layers, Mounts: platformMounts(kind), Name: LedgerName, NoNewPrivileges: true,
		Signals: []int{sigterm}, User: User{Groups: anyone, Umask: umask, User: IDName{"0", matchID}}, WorkingDir: in.WorkingDir,
	})
	return write([]Container{c, infrastructure.pauseContainer()}, infrastructure), nil
}
