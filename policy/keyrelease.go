package policy

import (
	"cloister/internal/fault"
	"cloister/policy/release"
	"cloister/policy/spec"
)

// minGuestSVN is the GUEST_SVN that reports of Azure's utility VMs carry.
const minGuestSVN = 2

// KeyRelease makes the key release policy of a specification whose container
// policy has the digest hostData. Owner and runtime both call it, so that they
// mean the same policy. Errors are of kind fault.Usage.
func KeyRelease(s spec.Specification, hostData [32]byte) (release.Policy, error) {
	if s.Kind == spec.CVM {
		// See release.AnyAzureCVM: such a policy would pin no runtime.
		return release.Policy{}, fault.Errorf(fault.Usage, "set kind aci or aks, where the host data of the report pins it",
			"no key release policy of kind cvm tells one confidential VM from another: the attestation service's tokens do not say what a VM runs")
	}
	platform := release.AzureSNP
	if s.Kind == spec.Simulated {
		platform = release.SimulatedSNP
	}
	return release.New(release.Requirements{Authority: s.Attestation.Authority, Platform: platform, HostData: hostData, MinGuestSVN: minGuestSVN})
}
