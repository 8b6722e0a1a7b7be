package release

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"cloister/internal/fault"
)

// Platform is where a container must run to be given the key.
type Platform int

const (
	// AzureSNP is a confidential container of Azure on AMD SEV-SNP: container
	// instances, and virtual nodes of AKS, which attest alike.
	AzureSNP Platform = iota + 1
	// SimulatedSNP is the software platform for development. It protects nothing.
	SimulatedSNP
)

// SimulatedClaim is "true" in every token of the simulated platform.
const SimulatedClaim = "x-cloister-simulated"

// Claims of Microsoft Azure Attestation that a policy made here asks for.
const (
	claimType       = "x-ms-attestation-type"
	claimCompliance = "x-ms-compliance-status"
	claimHostData   = "x-ms-sevsnpvm-hostdata"
	claimDebuggable = "x-ms-sevsnpvm-is-debuggable"
	claimVMPL       = "x-ms-sevsnpvm-vmpl"
	claimGuestSVN   = "x-ms-sevsnpvm-guestsvn"
)

// Requirements say which container may have a key. All fields are required:
// New refuses the zero Requirements and any that lacks one.
type Requirements struct {
	// Authority is the attestation service's https address.
	Authority string
	Platform  Platform
	// HostData is the SHA-256 of the container policy's text.
	HostData [32]byte
	// MinGuestSVN is the lowest GUEST_SVN of the attestation report accepted.
	// It is not the version in the utility VM's endorsement: of two genuine
	// reports of Azure's, both say 2 and their endorsements 22 and 103. That
	// floor is the specification's, and the runtime holds itself to it.
	MinGuestSVN uint32
}

// New makes the policy that admits exactly the containers the requirements
// describe. Errors are of kind fault.Usage.
//
// A simulated token never meets a policy for Azure: the policy's authority is
// then never on loopback, the only place where the simulated platform's own
// attestation service runs, and the simulated policy asks for a claim that no
// other service issues. The policy for Azure cannot ask that the claim be
// absent, because the services document an absent claim as a condition not met.
func New(r Requirements) (Policy, error) {
	if err := r.check(); err != nil {
		return Policy{}, fault.Errorf(fault.Usage, "the specification's kind and attestation decide them",
			"key release policy: %w", err)
	}
	conditions := []Condition{
		{Claim: claimType, Operator: Equals, Value: String("sevsnpvm")},
		{Claim: claimCompliance, Operator: Equals, Value: String("azure-compliant-uvm")},
		{Claim: claimHostData, Operator: Equals, Value: String(hex.EncodeToString(r.HostData[:]))},
		{Claim: claimDebuggable, Operator: Equals, Value: String("false")},
		{Claim: claimVMPL, Operator: Equals, Value: String("0")},
		{Claim: claimGuestSVN, Operator: GreaterOrEquals, Value: String(strconv.FormatUint(uint64(r.MinGuestSVN), 10))},
	}
	if r.Platform == SimulatedSNP {
		conditions = append(conditions, Condition{Claim: SimulatedClaim, Operator: Equals, Value: String("true")})
	}
	return Policy{Authorities: []Authority{{URL: r.Authority, AllOf: conditions}}}, nil
}

func (r Requirements) check() error {
	if r.Platform != AzureSNP && r.Platform != SimulatedSNP {
		return fmt.Errorf("no platform is required")
	}
	if _, err := normalAuthority(r.Authority); err != nil {
		return err
	}
	if onLoopback(r.Authority) != (r.Platform == SimulatedSNP) {
		return fmt.Errorf("authority %q: the simulated platform's is on loopback and Azure's never is", r.Authority)
	}
	if r.HostData == [32]byte{} {
		return fmt.Errorf("no host data is required")
	}
	if r.MinGuestSVN == 0 {
		return fmt.Errorf("no floor for the guest's security version is required")
	}
	return nil
}

func onLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
