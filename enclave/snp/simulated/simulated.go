//go:build !production

// Package simulated is a software platform for development: reports signed by
// a process on the same machine, under a root of its own. It protects nothing.
// It is opted into by name (--platform simulated:DIR), the word is in the
// anchors' name and so in every output, and a build with the tag production
// does not contain it.
//
// Life of a report: snp.Collect calls GuestReport, which posts REPORT_DATA to
// the socket in DIR and gets the report back. The rest of the security context,
// the simulated root and the simulated endorser's name are files beside it.
package simulated

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// Name is what the anchors are called.
const Name = "simulated"

const (
	socketFile = "sev-guest.sock"
	rootFile   = "amd-root.pem"
	issuerFile = "uvm-issuer"
	crlFile    = "amd-crl.der" // may be missing
)

// Platform is the directory written by `cloister local`.
type Platform struct{ dir string }

// New names the platform in a directory.
func New(dir string) Platform { return Platform{dir: dir} }

// Anchors reads whom the operator chose to believe by naming the directory.
func (p Platform) Anchors() (snp.Anchors, error) {
	text, err := p.read(rootFile)
	if err != nil {
		return snp.Anchors{}, err
	}
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return snp.Anchors{}, fault.Errorf(fault.Usage, "", "%s must hold one PEM certificate", filepath.Join(p.dir, rootFile))
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return snp.Anchors{}, fmt.Errorf("reading %s: %w", rootFile, err)
	}
	issuer, err := p.read(issuerFile)
	if err != nil {
		return snp.Anchors{}, err
	}
	crls, err := p.revocations()
	if err != nil {
		return snp.Anchors{}, err
	}
	return snp.Anchors{
		Name: Name, Roots: []*x509.Certificate{root}, CRLs: crls,
		UVMIssuer: strings.TrimSpace(string(issuer)), UVMFeed: snp.UVMFeed,
	}, nil
}

func (p Platform) revocations() ([]*x509.RevocationList, error) {
	der, err := os.ReadFile(filepath.Join(p.dir, crlFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "", "reading %s: %w", crlFile, err)
	}
	return []*x509.RevocationList{crl}, nil
}

// SecurityContext reads the same files as on the hardware.
func (p Platform) SecurityContext() (snp.SecurityContext, error) {
	return snp.ReadSecurityContext(p.dir)
}

// Certificates returns the given ones, fitting or not: there is nowhere else to
// ask, and Verify names what is wrong with them.
func (p Platform) Certificates(_ context.Context, _ *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	return given, nil
}

// GuestReport has the simulated processor sign a report.
func (p Platform) GuestReport(ctx context.Context, reportData [64]byte) ([]byte, error) {
	socket := filepath.Join(p.dir, socketFile)
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sev-guest/report", bytes.NewReader(reportData[:]))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "start `cloister local` and name its directory", "asking the simulated processor: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, snp.ReportSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the simulated processor's report: %w", err)
	}
	if resp.StatusCode != http.StatusOK || len(body) != snp.ReportSize {
		return nil, fault.Errorf(fault.Refused, "", "the simulated processor answered %s with %d bytes", resp.Status, len(body))
	}
	return body, nil
}

func (p Platform) read(name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "start `cloister local` and name its directory", "the simulated platform is not there: %w", err)
	}
	return text, err
}
