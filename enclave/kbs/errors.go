package kbs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"cloister/internal/fault"
)

// errorPrefix is before each name of an error (RFC 7807, "type").
const errorPrefix = "https://github.com/confidential-containers/kbs/errors/"

var errorName = regexp.MustCompile(`^[A-Za-z]{1,64}$`)

// Error is what the broker answered instead.
type Error struct {
	Status int
	Name   string // of the protocol's table of errors; "" where the answer has none
	Detail string // the broker's own words, cut short
}

func (e *Error) Error() string {
	name := e.Name
	if name == "" {
		name = "no error of the protocol"
	}
	return fmt.Sprintf("HTTP %d, %s: %q", e.Status, name, e.Detail)
}

// maxDetail is as much of a broker's words as goes into a message.
const maxDetail = 200

func parseError(status int, body []byte) *Error {
	var info struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		return &Error{Status: status, Detail: "the answer is not the protocol's error information"}
	}
	e := &Error{Status: status, Detail: fmt.Sprintf("%.*s", maxDetail, info.Detail)}
	if name, ok := strings.CutPrefix(info.Type, errorPrefix); ok && errorName.MatchString(name) {
		e.Name = name
	}
	return e
}

// statusError classifies an answer. Nearly all that a broker refuses is a 401 in
// the implementation, and told apart by its name only.
func (c *Client) statusError(status int, body []byte) error {
	err := parseError(status, body)
	switch {
	case err.Name == "PolicyDeny" || status == http.StatusForbidden:
		return fault.Errorf(fault.Refused, "ask the broker's owner to admit this container's policy to the resource", "%s refuses by its policy: %w", c.base, err)
	case err.Name == "AttestationError" || status == http.StatusBadRequest:
		return fault.Errorf(fault.Refused, "check the broker's protocol version, its reference values and this machine's evidence", "%s refuses the attestation: %w", c.base, err)
	case status == http.StatusNotFound:
		return fault.Errorf(fault.NotFound, "provision the volume's keys with cloister provision apply, or correct the resource in the specification", "%s does not have it: %w", c.base, err)
	case status == http.StatusUnauthorized && err.Name != "":
		return fault.Errorf(fault.Denied, "the broker's resource policy must admit this container's measurements", "%s denies access: %w", c.base, err)
	case status == http.StatusTooManyRequests || status >= 500:
		return fault.Errorf(fault.Unavailable, "try again later, or ask who runs the broker", "%s does not serve: %w", c.base, err)
	default:
		return fault.Errorf(fault.Refused, "check that the address is a key broker's", "%s answers: %w", c.base, err)
	}
}

// isExpired reports whether the broker no longer knows the session, or no longer
// believes its token.
func isExpired(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusUnauthorized && (e.Name == "TokenNotFound" || e.Name == "TokenVerifierError")
}
