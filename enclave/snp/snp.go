// Package snp is why this machine may be believed: evidence from the AMD
// SEV-SNP processor, and the one call that judges it.
//
// Life of a report: a caller states what the report shall vouch for (KeyRelease
// or Identity) and calls Collect. Collect hashes the statement into
// REPORT_DATA, has the platform make a report over it and adds what the
// platform's security context holds: the policy the container runs under, the
// processor's certificates, fetched anew where they are not for the firmware
// that signed, and the endorsement of the utility VM. Whoever
// relies on the evidence, this runtime first of all, calls Verify with what it
// expects and gets every check by name.
//
// The platform is the hardware (package hardware) or, in builds for
// development, a simulated one with a root of its own (package simulated). A
// platform is trusted only through Anchors.
package snp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Platform makes reports. The context bounds the call where the platform
// allows it.
type Platform interface {
	// GuestReport returns the raw report of ReportSize bytes over reportData.
	GuestReport(ctx context.Context, reportData [64]byte) ([]byte, error)
	// SecurityContext returns what the host put beside the container. All of it
	// is the host's word until Verify has tied it to a report.
	SecurityContext() (SecurityContext, error)
	// Certificates returns certificates that fit the report; given are the
	// security context's.
	Certificates(ctx context.Context, r *Report, given HostCerts) (HostCerts, error)
}

// SecurityContext is what the container platform hands to a container.
type SecurityContext struct {
	Policy    []byte    // the container policy's text; HOST_DATA is its SHA-256
	HostCerts HostCerts // the certificates of the processor that hosts us
	UVM       []byte    // COSE_Sign1: the utility VM's endorsed measurement
}

// Evidence is a report with everything needed to judge it offline.
type Evidence struct {
	Report []byte // ReportSize bytes
	Quote  *Quote // of a confidential VM; nil for a container
	SecurityContext
}

// HostData returns what HOST_DATA must be: of a confidential VM, zero.
func (e *Evidence) HostData() [32]byte {
	if e.Quote != nil {
		return [32]byte{}
	}
	return e.SecurityContext.HostData()
}

// Quoter is a Platform whose report was made at boot and cannot be made anew:
// it returns that report with a quote over reportData. Its GuestReport fails.
type Quoter interface {
	Platform
	Quote(ctx context.Context, reportData [64]byte) (report []byte, q *Quote, err error)
}

// HostData returns the digest that HOST_DATA must have under this policy.
func (s *SecurityContext) HostData() [32]byte { return sha256.Sum256(s.Policy) }

// Collect is the only function that has reports made: a report always vouches
// for a statement of a known purpose, never for bytes of a stranger's choosing.
// In a confidential VM it is the only one that has quotes made, over the same 64
// bytes: the purpose's tag and its nonce or key are within them as in a report.
func Collect(ctx context.Context, p Platform, about Statement) (*Evidence, error) {
	return collect(ctx, p, about, collectPause)
}

// A firmware update between a report and its certificates makes the two differ:
// then both are got again. The pause is what go-sev-guest's stock client keeps
// between two reports, below the kernel's own limit.
const (
	collectTries = 3
	collectPause = 2 * time.Second
)

func collect(ctx context.Context, p Platform, about Statement, pause time.Duration) (*Evidence, error) {
	reportData, err := about.ReportData()
	if err != nil {
		return nil, fmt.Errorf("making an attestation report: %w", err)
	}
	for try := 1; ; try++ {
		e, err := collectOnce(ctx, p, reportData)
		if err == nil || !errors.Is(err, errNoCertificates) || try == collectTries {
			return e, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

var errNoCertificates = errors.New("finding the processor's certificates")

func collectOnce(ctx context.Context, p Platform, reportData [64]byte) (*Evidence, error) {
	secctx, err := p.SecurityContext()
	if err != nil {
		return nil, fmt.Errorf("reading the security context: %w", err)
	}
	raw, quote, err := ask(ctx, p, reportData)
	if err != nil {
		return nil, err
	}
	r, err := ParseReport(raw)
	if err != nil {
		return nil, err
	}
	if secctx.HostCerts, err = p.Certificates(ctx, r, secctx.HostCerts); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCertificates, err)
	}
	return &Evidence{Report: raw, Quote: quote, SecurityContext: secctx}, nil
}

func ask(ctx context.Context, p Platform, reportData [64]byte) (report []byte, q *Quote, err error) {
	if vm, ok := p.(Quoter); ok {
		if report, q, err = vm.Quote(ctx, reportData); err != nil {
			return nil, nil, fmt.Errorf("asking the TPM for a quote: %w", err)
		}
		return report, q, nil
	}
	if report, err = p.GuestReport(ctx, reportData); err != nil {
		return nil, nil, fmt.Errorf("asking the processor for a report: %w", err)
	}
	return report, nil, nil
}
