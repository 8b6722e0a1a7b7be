package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

const (
	signIn    = "sign in (az login), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and their secret or certificate; or put a SAS into the URL"
	tryLater  = "run the same command again when the store is back; what has been stored stays"
	sasReads  = "ask the owner for a SAS that has not expired and permits reading and listing (r, l)"
	sasWrites = "ask the owner for a SAS that has not expired and permits reading, creating, writing, listing and deleting (r, c, w, l, d)"
)

// shortError says that an object ended before the range asked for.
type shortError struct {
	off  int64
	want int
}

func (e *shortError) Error() string {
	return fmt.Sprintf("it ends before byte %d", e.off+int64(e.want))
}
func (e *shortError) Unwrap() error { return io.ErrUnexpectedEOF }
func (e *shortError) final()        {}

// answerError says that a store's answer is not an answer to what was asked.
type answerError struct{ text string }

func (e *answerError) Error() string { return e.text }
func (e *answerError) final()        {}

// request is what an operation was doing, for messages and remedies.
type request struct {
	doing string
	name  string // the object, or "" for the container
	write bool
}

// explain turns a failure into the error that a user meets: what was being done
// to which object of which store, what the store said, and the remedy. Nothing
// of the request's URL but host and path gets into it: the query may be a SAS.
func (s *Store) explain(r request, err error) error {
	if err == context.Canceled || err == context.DeadlineExceeded {
		return err // the caller's own doing, as retry reports it
	}
	what := fmt.Sprintf("volume %s", s)
	if r.name != "" {
		what = fmt.Sprintf("object %s of %s", r.name, s)
	}
	kind, hint, text := s.classify(r, err)
	return fault.Errorf(kind, hint, "%s %s: %w", r.doing, what, text)
}

// classify returns the kind of a failure, its remedy, and the error to show.
func (s *Store) classify(r request, err error) (fault.Kind, string, error) {
	var gaveUp *gaveUpError
	var short *shortError
	var wrong *answerError
	switch {
	case errors.As(err, &short):
		return fault.Refused, "the object is cut short: upload the volume again from its source", short
	case errors.As(err, &wrong):
		return fault.Refused, "see what stands between here and the store: a proxy may change its answers", wrong
	case errors.As(err, &gaveUp):
		_, hint, last := s.classify(r, gaveUp.error)
		return fault.Unavailable, hint, fmt.Errorf("%w; gave up after %v", last, gaveUp.after.Round(time.Millisecond))
	case answer(err) != nil:
		return s.classifyAnswer(r, err)
	}
	return s.classifyNetwork(err)
}

// classifyAnswer reads an answer by its code, and by its status where the code
// says no more. https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
func (s *Store) classifyAnswer(r request, err error) (fault.Kind, string, error) {
	a := answer(err)
	said := fmt.Errorf("the store answers %d %s", a.StatusCode, orStatus(a.ErrorCode, a.StatusCode))
	switch {
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return fault.NotFound, "", fmt.Errorf("%w: %w", said, object.ErrNotExist)
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return fault.NotFound, "create the container, or check the account and container in the URL", said
	case bloberror.HasCode(err, bloberror.ContainerBeingDeleted):
		return fault.Unavailable, "the container is being deleted: wait a minute, or use another", said
	case isTaken(err):
		return fault.Conflict, "", fmt.Errorf("%w: %w", said, object.ErrExist)
	case bloberror.HasCode(err, bloberror.ConditionNotMet):
		return fault.Refused, "objects never change: somebody replaced this one while it was read", said
	case bloberror.HasCode(err, bloberror.LeaseIDMissing):
		return fault.Conflict, "somebody holds a lease on it: break the lease", said
	case a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden:
		return fault.Denied, s.denied(r, err), said
	case a.StatusCode == http.StatusNotFound:
		return fault.NotFound, "check the account and container in the URL", said
	case a.StatusCode == http.StatusConflict || a.StatusCode == http.StatusPreconditionFailed:
		return fault.Conflict, "a snapshot, a lease, a legal hold or an immutability policy may protect it", said
	case s.worthRetrying(err):
		return fault.Unavailable, tryLater, said
	}
	return fault.Internal, "", said
}

func orStatus(code string, status int) string {
	if code != "" {
		return code
	}
	return http.StatusText(status)
}

// denied says what the credential lacks.
func (s *Store) denied(r request, err error) string {
	switch {
	case bloberror.HasCode(err, bloberror.AuthorizationSourceIPMismatch):
		return "the SAS or the account's firewall does not admit this address"
	case bloberror.HasCode(err, "KeyBasedAuthenticationNotPermitted"):
		return "the account admits no keys: unset " + connectionVariable + " and sign in (az login)"
	case s.credential == bySAS && r.write:
		return sasWrites
	case s.credential == bySAS:
		return sasReads
	case s.credential == byConnectionString:
		return "the key in " + connectionVariable + " was not accepted, or the account's firewall does not admit this address: copy the key again, and see the account's networking"
	}
	role := "Storage Blob Data Reader"
	if r.write {
		role = "Storage Blob Data Contributor"
	}
	return fmt.Sprintf("give this identity the role %s on the container (a new assignment takes some minutes), and see that the account's firewall admits this address", role)
}

func (s *Store) classifyNetwork(err error) (fault.Kind, string, error) {
	cause := plain(err)
	var dns *net.DNSError
	var failed *azidentity.AuthenticationFailedError
	var never interface{ NonRetriable() }
	switch {
	case errors.As(err, &failed), errors.As(err, &never):
		return fault.Denied, signIn, fmt.Errorf("getting a token: %w", firstLine{cause})
	case isTLS(err):
		return fault.Refused, "if a proxy of yours ends TLS, name its certificate with SSL_CERT_FILE or the CA option; else this is not the store", cause
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.NotFound, "check the account's name in the URL, and that this network resolves it", cause
	}
	return fault.Unavailable, "check the network, and HTTPS_PROXY if there is a proxy; then run the same command again", cause
}

// plain takes off the wrappers of net/http that quote the whole URL.
func plain(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return err
}

// firstLine shows the first line of an error of many.
type firstLine struct{ error }

func (e firstLine) Error() string {
	line, _, _ := strings.Cut(e.error.Error(), "\n")
	return line
}
func (e firstLine) Unwrap() error { return e.error }
