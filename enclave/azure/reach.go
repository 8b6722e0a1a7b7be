package azure

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// ReachHint says what to change where a service could not be asked: each way
// that a connection fails has a remedy of its own.
func ReachHint(err error) string {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		notFound *net.DNSError
		denied   *azidentity.AuthenticationFailedError
	)
	switch {
	case errors.As(err, &unknown):
		return "have this machine trust the authority of the service's certificate (SSL_CERT_FILE), or take away what is between"
	case errors.As(err, &name):
		return "correct the address in the specification: another service answers there"
	case errors.As(err, &invalid):
		return "compare this machine's clock with the time in the certificate, or have it renewed"
	case errors.As(err, &notFound):
		return "correct the address in the specification, or let this machine resolve names"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start the service, or correct the address in the specification"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "let this machine reach the service, or try again: it does not answer in time"
	case errors.As(err, &denied):
		return "assign the identity to the container group, or set the variables of workload identity"
	}
	return "correct the address in the specification, or let this machine reach it"
}
