package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"cloister/governance"
	"cloister/internal/fault"
)

// ProblemType is the media type of an answer that is not what was asked for, RFC
// 9457.
const ProblemType = "application/problem+json"

// Receipt is a governance.Receipt as it is sent.
type Receipt struct {
	Index      int64  `json:"index"`
	Count      int    `json:"count"`
	Checkpoint string `json:"checkpoint"`
}

// Problem is what the server says instead of an answer.
type Problem struct {
	Title   string            `json:"title"`
	Status  int               `json:"status"`
	Detail  string            `json:"detail"`
	Reason  governance.Reason `json:"reason,omitempty"`  // why the fold refuses the statement
	Hint    string            `json:"hint,omitempty"`    // what to do
	Receipt *Receipt          `json:"receipt,omitempty"` // of the statements before the one that is refused
}

// problem is an answer that Append looks at.
type problem struct{ Problem }

func (p *problem) Error() string { return p.Detail }

func readProblem(answer *http.Response, raw []byte) *problem {
	var p problem
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if media != ProblemType || json.Unmarshal(raw, &p) != nil {
		p = problem{Problem{Detail: fmt.Sprintf("%s answers %s", answer.Request.URL.Redacted(), answer.Status), Hint: "is this the URL of a ledger?"}}
	}
	p.Status = answer.StatusCode
	return &p
}

// asFault returns an error of do as the errors of a ledger in this process are.
func asFault(err error) error {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p.fault()
	}
	return err
}

// fault is the problem as the errors of a ledger in this process are.
func (p *problem) fault() error {
	if p.Reason != "" {
		return governance.Refuse(p.Reason, p.Hint, "%s", p.Detail)
	}
	kind := fault.Internal
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusMethodNotAllowed:
		kind = fault.Usage
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = fault.Denied
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusConflict:
		kind = fault.Conflict
	case http.StatusUnprocessableEntity:
		kind = fault.Refused
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		kind = fault.Unavailable
	}
	return fault.Errorf(kind, p.Hint, "%s", p.Detail)
}

// StatusOf is the status with which a server answers an error.
func StatusOf(err error) int {
	switch governance.ReasonOf(err) {
	case governance.Malformed, governance.UnknownType:
		return http.StatusBadRequest
	case governance.NotAParty, governance.WrongSignature, governance.NotOwner, governance.Unapproved:
		return http.StatusForbidden
	}
	switch fault.KindOf(err) {
	case fault.Usage:
		return http.StatusBadRequest
	case fault.Denied:
		return http.StatusUnauthorized
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Refused:
		return http.StatusUnprocessableEntity
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
