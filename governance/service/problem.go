package service

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"

	"cloister/governance"
	"cloister/governance/remote"
	"cloister/internal/fault"
)

// partly is an append of which some statements, the first ones, are in the log.
type partly struct {
	receipt remote.Receipt
	error
}

func (p *partly) Unwrap() error { return p.error }

// status is an error whose answer its kind does not say.
type status struct {
	code int
	error
}

func (s *status) Unwrap() error { return s.error }

// bodyError says why a body could not be read.
func bodyError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &status{http.StatusRequestEntityTooLarge, fault.Errorf(fault.Usage, "append fewer statements at once", "the body has more than %d bytes", large.Limit)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &status{http.StatusRequestTimeout, fault.Errorf(fault.Unavailable, "try again", "the body did not come in time")}
	default:
		return &status{http.StatusBadRequest, fault.Errorf(fault.Usage, "send it again", "the body breaks off: %w", err)}
	}
}

// fail answers an error. What is not the client's doing is logged and kept from
// it: the paths of a server's files are not its business.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := remote.StatusOf(err)
	var special *status
	if errors.As(err, &special) {
		code = special.code
	}
	p := remote.Problem{Title: http.StatusText(code), Status: code, Detail: err.Error(), Reason: governance.ReasonOf(err), Hint: strings.Join(fault.Hints(err), "; ")}
	var some *partly
	if errors.As(err, &some) {
		p.Receipt = &some.receipt
	}
	s.Log.Info("refused", "method", r.Method, "path", r.URL.Path, "from", address(r), "status", code, "reason", p.Reason, "error", err)
	if code == http.StatusInternalServerError || code == http.StatusUnprocessableEntity && p.Reason == "" {
		p.Detail, p.Hint = "the ledger is not in order; its operator finds why in its log", ""
	}
	switch code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", remote.Scheme)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	raw, err := json.Marshal(p)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	send(w, code, remote.ProblemType, raw)
}

func (s *service) notThere(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, fault.Errorf(fault.NotFound, "see /openapi.json", "there is no %s here", r.URL.Path))
}

func (s *service) otherMethod(allowed string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed)
		s.fail(w, r, &status{http.StatusMethodNotAllowed, fault.Errorf(fault.Usage, "use "+allowed, "%s is not for %s", r.URL.Path, r.Method)})
	}
}
