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
	// AnyAzureCVM is any confidential VM of Azure on AMD SEV-SNP with secure boot,
	// whatever it runs. No claim of its tokens names the system or the runtime in
	// it: HOST_DATA is zero, and of the PCRs only the indexes are stated. So such a
	// policy pins the hardware and Azure's paravisor; the rest is up to who may use
	// the vault's release role, and to whoever verifies the VM's quote.
	AnyAzureCVM
	// AnySimulatedCVM is its like for development. It protects nothing.
	AnySimulatedCVM
)

func (p Platform) simulated() bool { return p == SimulatedSNP || p == AnySimulatedCVM }
func (p Platform) vm() bool        { return p == AnyAzureCVM || p == AnySimulatedCVM }

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

	// On a confidential VM those about the hardware are within this one.
	claimTEE        = "x-ms-isolation-tee"
	claimSecureBoot = "secureboot"
)

// Requirements say which container may have a key. All fields are required:
// New refuses the zero Requirements and any that lacks one.
type Requirements struct {
	// Authority is the attestation service's https address.
	Authority string
	Platform  Platform
	// HostData is the SHA-256 of the container policy's text. It must be zero for a
	// confidential VM: a requirement that nothing there can meet is an error.
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
	conditions := r.container()
	if r.Platform.vm() {
		conditions = r.vm()
	}
	if r.Platform.simulated() {
		conditions = append(conditions, Condition{Claim: SimulatedClaim, Operator: Equals, Value: String("true")})
	}
	return Policy{Authorities: []Authority{{URL: r.Authority, AllOf: conditions}}}, nil
}

func (r Requirements) container() []Condition {
	return []Condition{
		{Claim: claimType, Operator: Equals, Value: String("sevsnpvm")},
		{Claim: claimCompliance, Operator: Equals, Value: String("azure-compliant-uvm")},
		{Claim: claimHostData, Operator: Equals, Value: String(hex.EncodeToString(r.HostData[:]))},
		{Claim: claimDebuggable, Operator: Equals, Value: String("false")},
		{Claim: claimVMPL, Operator: Equals, Value: String("0")},
		{Claim: claimGuestSVN, Operator: GreaterOrEquals, Value: String(strconv.FormatUint(uint64(r.MinGuestSVN), 10))},
	}
}

func (r Requirements) vm() []Condition {
	tee := func(claim string, o Operator, value string) Condition {
		return Condition{Claim: claimTEE + "." + claim, Operator: o, Value: String(value)}
	}
	return []Condition{
		{Claim: claimType, Operator: Equals, Value: String("azurevm")},
		{Claim: claimSecureBoot, Operator: Equals, Value: String("true")},
		tee(claimType, Equals, "sevsnpvm"),
		tee(claimCompliance, Equals, "azure-compliant-cvm"),
		tee(claimDebuggable, Equals, "false"),
		tee(claimVMPL, Equals, "0"),
		tee(claimGuestSVN, GreaterOrEquals, strconv.FormatUint(uint64(r.MinGuestSVN), 10)),
	}
}

func (r Requirements) check() error {
	if r.Platform < AzureSNP || r.Platform > AnySimulatedCVM {
		return fmt.Errorf("no platform is required")
	}
	if _, err := normalAuthority(r.Authority); err != nil {
		return err
	}
	if onLoopback(r.Authority) != r.Platform.simulated() {
		return fmt.Errorf("authority %q: the simulated platform's is on loopback and Azure's never is", r.Authority)
	}
	if r.HostData == [32]byte{} && !r.Platform.vm() {
		return fmt.Errorf("no host data is required")
	}
	if r.HostData != [32]byte{} && r.Platform.vm() {
		return fmt.Errorf("host data is required, and a confidential VM has none")
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
