// Package hostcerts finds the certificates that fit a report: those of the very
// chip and the very firmware that signed it.
//
// Life of a request: For is given a report and what the container platform put
// beside it. Where that does not fit, because the firmware was updated since, it
// asks the host's metadata service (THIM), then the cache on disk, then AMD's
// key distribution service (KDS), and keeps what that one gave: it throttles,
// and a certificate of a chip and a TCB never changes. What does not fit is not
// returned; what fits proves nothing until snp.Verify has followed it to a root.
//
// The cache holds public certificates only.
package hostcerts

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// The services of production.
const (
	thimURL = "http://169.254.169.254/metadata/THIM/amd/certification"
	kdsURL  = "https://kdsintf.amd.com"
)

// Source finds certificates. The zero value asks the services of production and
// keeps no cache.
type Source struct {
	THIM  string              // "" is Azure's metadata service
	KDS   string              // "" is AMD's
	Cache string              // directory, made when something is kept; "" keeps nothing
	Retry policy.RetryOptions // of 429 and 5xx; the zero value waits up to a minute
	TLS   policy.Transporter  // nil is azure.NewTransport(nil)
}

// How long each is waited for: the metadata service is the host itself; AMD's
// throttles, and admits a request every ten seconds or so from one address.
const (
	thimWait = 10 * time.Second
	kdsWait  = time.Minute
)

// For returns certificates that fit the report. Its error is of kind
// fault.Unavailable and says what each source answered.
func (s Source) For(ctx context.Context, r *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	if given.Fit(r) {
		return given, nil
	}
	errs := []error{fmt.Errorf("the security context: %s", misfit(r, given))}
	for _, source := range []struct {
		name string
		ask  func(context.Context, *snp.Report, snp.HostCerts) (snp.HostCerts, error)
	}{{"the host's metadata service", s.fromTHIM}, {"the cache", s.fromCache}, {"AMD's key distribution service", s.fromKDS}} {
		certs, err := source.ask(ctx, r, given)
		if err == nil && certs.Fit(r) {
			return certs, nil
		}
		if err == nil {
			err = errors.New(misfit(r, certs))
		}
		errs = append(errs, fmt.Errorf("%s: %w", source.name, err))
	}
	return snp.HostCerts{}, fault.Errorf(fault.Unavailable, "try again, or let the container reach "+kdsURL,
		"no certificate fits the report: %w", errors.Join(errs...))
}

func misfit(r *snp.Report, certs snp.HostCerts) string {
	if len(certs.Chain) == 0 {
		return "there is none"
	}
	return fmt.Sprintf("it is for another chip or TCB than the report's (%s)", r.Reported)
}

func (s Source) fromTHIM(ctx context.Context, _ *snp.Report, _ snp.HostCerts) (snp.HostCerts, error) {
	address := s.THIM
	if address == "" {
		address = thimURL
	}
	body, err := s.get(ctx, thimWait, address, "Metadata", "true")
	if err != nil {
		return snp.HostCerts{}, err
	}
	return snp.ParseHostCerts(body)
}

// fromKDS asks for the leaf, in DER, and puts AMD's embedded signing key and
// root behind it.
func (s Source) fromKDS(ctx context.Context, r *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	path, err := r.VCEKPath(given)
	if err != nil {
		return snp.HostCerts{}, err
	}
	base := s.KDS
	if base == "" {
		base = kdsURL
	}
	der, err := s.get(ctx, kdsWait, base+path, "Accept", "application/octet-stream, application/pkix-cert")
	if err != nil {
		return snp.HostCerts{}, err
	}
	certs, err := chainOf(der)
	if err == nil && certs.Fit(r) {
		s.keep(r, der)
	}
	return certs, err
}

// chainOf completes a leaf with AMD's own certificates. A leaf that is not
// under them stays alone.
func chainOf(der []byte) (snp.HostCerts, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return snp.HostCerts{}, fault.Errorf(fault.Refused, "", "the answer is not a certificate: %w", err)
	}
	anchors, err := snp.AMD()
	return snp.HostCerts{Chain: append([]*x509.Certificate{leaf}, anchors.Above(leaf)...)}, err
}

// get makes one request, repeated while the service is busy.
func (s Source) get(ctx context.Context, wait time.Duration, address, header, value string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	transport := s.TLS
	if transport == nil {
		transport = azure.NewTransport(nil)
	}
	pipeline := runtime.NewPipeline("cloister", "1", runtime.PipelineOptions{}, &policy.ClientOptions{Transport: transport, Retry: s.Retry})
	req, err := runtime.NewRequest(ctx, http.MethodGet, address)
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set(header, value)
	resp, err := pipeline.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers HTTP %d", address, resp.StatusCode)
	}
	return io.ReadAll(resp.Body)
}
