package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
)

// The SDK's own retries are off. They count attempts where this store promises
// a time, they start a body over where it can go on, they don't see a body that
// stalls, and they keep to themselves whether an earlier attempt may have been
// carried out, which Put must know.
const (
	// DefaultPatience is how long after the first failure, or after the last
	// byte that arrived, an operation is tried again: longer than a storage
	// account's failover of its front end and a redeployed proxy, shorter than
	// what a user waits before he looks. A store that is away for 30 s fails
	// nothing; one that is away for good fails an operation within patience and
	// one stall, and, once it has been away for patience, within one stall. The
	// kernel asks for a page that it could not read ahead once more, so that an
	// application's read fails within twice patience: TestStoreAway of fs/mount.
	DefaultPatience = 60 * time.Second

	// DefaultStall is how long an attempt may go without a byte sent or
	// received. Azure answers a request in its first second, or within 30 s
	// with a timeout of its own; beyond that the connection is dead. With less
	// patience than DefaultPatience it is half of that, but minStall at least.
	DefaultStall = 30 * time.Second
	minStall     = time.Second

	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 8 * time.Second
)

var (
	errStalled = errors.New("no byte moved for too long")
	errStopped = errors.New("the answer stopped half way")
)

// gaveUpError is the last failure of an operation that was tried for as long
// as the store's patience lasts.
type gaveUpError struct {
	error
	after time.Duration // how long it has been failing
}

func (e *gaveUpError) Unwrap() error { return e.error }

// retry runs attempt until it succeeds, fails for good, or it or the whole store
// has failed for the store's patience without progress; it waits between
// attempts as the store asks with Retry-After, and else exponentially longer
// with jitter. The attempt reports whether it made progress that a next one
// builds upon. So an operation on a store that is away ends within patience
// plus one stall.
func (s *Store) retry(ctx context.Context, attempt func(context.Context) (progress bool, err error)) error {
	var failing time.Time // when the present run of failures began
	for n := 0; ; n++ {
		begin := time.Now()
		progress, err := s.once(ctx, attempt)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if progress || err == nil || !s.worthRetrying(err) {
			s.outage.end()
		}
		if err == nil || !s.worthRetrying(err) {
			return err
		}
		if progress || failing.IsZero() {
			failing, n = latest(begin, time.Now().Add(-s.stall)), 0
		}
		wait := max(backoff(n), retryAfter(err))
		if away := time.Since(s.outage.since(failing, s.patience)); away+wait > s.patience {
			return &gaveUpError{err, away}
		}
		if !s.answered.Load() {
			s.waiting(err)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// outage is what all operations together know of the store's being away. With
// it, those that come when it has been away for longer than patience are told
// after one attempt: a read of the application's is several of ours, one after
// the other, and would else be held for patience each time.
type outage struct {
	mu          sync.Mutex // guards all below
	begin, last time.Time  // the first failure since anything succeeded, and the last one
	ended       time.Time  // when something last succeeded
}

// since records the failure of an operation that has been failing for a while,
// and returns since when it, or the whole store, has. An outage that nobody has
// met for the length of patience may have been over in between.
func (o *outage) since(failing time.Time, patience time.Duration) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.begin.IsZero() || time.Since(o.last) > patience {
		o.begin = latest(failing, o.ended)
	}
	o.last = time.Now()
	if failing.Before(o.begin) {
		return failing
	}
	return o.begin
}

// end records that the store has answered.
func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begin, o.ended = time.Time{}, time.Now()
}

// latest returns the later of when an attempt began and when a byte of it must
// have moved at the latest: a long upload that fails has not been failing from
// its beginning.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// once runs one attempt under the watch for stalls.
func (s *Store) once(ctx context.Context, attempt func(context.Context) (bool, error)) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	watchedCtx, done := watched(ctx, s.stall)
	defer done()
	progress, err := attempt(watchedCtx)
	if err != nil && context.Cause(watchedCtx) == errStalled {
		err = errStalled
	}
	if answer(err) != nil || err == nil {
		s.answered.Store(true)
	}
	return progress, err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backoff doubles with each attempt from 0 on; half of it is random, so that
// readers that failed together don't come back together.
func backoff(n int) time.Duration {
	d := maxBackoff
	if n < 10 {
		d = min(firstBackoff<<n, maxBackoff)
	}
	return d/2 + rand.N(d/2)
}

// retryAfter returns how long the store asks to be left alone.
func retryAfter(err error) time.Duration {
	a := answer(err)
	if a == nil || a.RawResponse == nil {
		return 0
	}
	h := a.RawResponse.Header
	if ms, err := strconv.Atoi(h.Get("x-ms-retry-after-ms")); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		return time.Until(t)
	}
	return 0
}

// status returns the status of the store's answer in err, or 0.
func status(err error) int {
	if a := answer(err); a != nil {
		return a.StatusCode
	}
	return 0
}

// answer returns the store's answer in err, or nil if none came.
func answer(err error) *azcore.ResponseError {
	var a *azcore.ResponseError
	if errors.As(err, &a) {
		return a
	}
	return nil
}

// worthRetrying tells a failure that may pass from one that will not.
func (s *Store) worthRetrying(err error) bool {
	if errors.Is(err, errStalled) || errors.Is(err, errStopped) {
		return true
	}
	if a := answer(err); a != nil {
		return a.StatusCode == http.StatusRequestTimeout || a.StatusCode == http.StatusTooManyRequests || a.StatusCode >= 500 ||
			bloberror.HasCode(err, bloberror.ContainerBeingDeleted)
	}
	var token *azidentity.AuthenticationFailedError
	if errors.As(err, &token) && s.answered.Load() {
		// The identity has worked. Unless its service says no, it is away.
		return token.RawResponse == nil || token.RawResponse.StatusCode >= 500
	}
	var never interface{ NonRetriable() } // of azcore and azidentity
	if final := finalError(nil); errors.As(err, &never) || errors.As(err, &final) || isTLS(err) {
		return false
	}
	// A host that was never there is a typing error; one that has answered
	// before is away, however its name server puts it.
	var dns *net.DNSError
	return !(errors.As(err, &dns) && dns.IsNotFound && !s.answered.Load())
}

// finalError is an error of ours that no further attempt changes.
type finalError interface{ final() }

// isTLS reports whether the connection failed because one side does not trust
// the other.
func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var op *net.OpError // how crypto/tls reports an alert, the other side's or ours
	if errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return true
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return true // no TLS there at all
	}
	return slices.ContainsFunc([]any{&verification, &authority, &host, &invalid, &record},
		func(target any) bool { return errors.As(err, target) })
}
