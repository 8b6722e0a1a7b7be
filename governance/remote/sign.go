package remote

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Scheme is the authentication scheme of a signed request, RFC 9110 section 11:
//
//	Authorization: Cloister key="SPKI", time="MS", signature="SIG"
//
// SPKI and SIG are in standard base64, MS is the time in milliseconds since 1970.
// What is signed is six lines, each ended by a line feed, which none of them
// contains: "cloister ledger request v1", the method, the host as the request
// names it, path and query, MS, and the SHA-256 of the body in hexadecimal.
// No statement can stand in for it, as what is signed there begins "DSSEv1 ".
const Scheme = "Cloister"

// maxAge is how far a request's time may be from the server's: what NTP and a
// slow network need. Within it a request can be played again by whoever breaks
// TLS, which shows him what he has seen then.
const maxAge = 2 * time.Minute

// Sign signs a request. body is what it carries.
func Sign(r *http.Request, body []byte, signer statement.Signer, now time.Time) error {
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	signature, err := signer.SignMessage(signed(r, ms, body))
	if err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	r.Header.Set("Authorization", fmt.Sprintf(`%s key="%s", time="%s", signature="%s"`, Scheme,
		base64.StdEncoding.EncodeToString(signer.Public().SPKI()), ms, base64.StdEncoding.EncodeToString(signature)))
	return nil
}

func signed(r *http.Request, ms string, body []byte) []byte {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	return fmt.Appendf(nil, "cloister ledger request v1\n%s\n%s\n%s\n%s\n%x\n", r.Method, host, r.URL.RequestURI(), ms, sha256.Sum256(body))
}

// credentials is the one form of the header's value.
var credentials = regexp.MustCompile(`^` + Scheme + ` key="([A-Za-z0-9+/=]{1,1000})", time="([0-9]{1,15})", signature="([A-Za-z0-9+/=]{1,200})"$`)

// Verify returns the key that signed a request to this server. Its errors are of
// kind fault.Denied.
func Verify(r *http.Request, body []byte, now time.Time) (statement.PublicKey, error) {
	part := credentials.FindStringSubmatch(r.Header.Get("Authorization"))
	if part == nil {
		return statement.PublicKey{}, denied("the request is not signed, or not in the form %s key=..., time=..., signature=...", Scheme)
	}
	spki, errKey := base64.StdEncoding.DecodeString(part[1])
	signature, errSig := base64.StdEncoding.DecodeString(part[3])
	ms, errTime := strconv.ParseInt(part[2], 10, 64)
	if errKey != nil || errSig != nil || errTime != nil {
		return statement.PublicKey{}, denied("the request's signature is malformed")
	}
	if age := now.Sub(time.UnixMilli(ms)); age.Abs() > maxAge {
		return statement.PublicKey{}, denied("the request's time is %s from the ledger's, at most %s are allowed: set the clock", age.Abs().Round(time.Second), maxAge)
	}
	key, err := statement.ParsePublicKey(spki)
	if err != nil {
		return statement.PublicKey{}, denied("the request's key: %w", err)
	}
	if err := key.VerifyMessage(signed(r, part[2], body), signature); err != nil {
		return statement.PublicKey{}, denied("the request: %w", err)
	}
	return key, nil
}

func denied(format string, args ...any) error {
	return fault.Errorf(fault.Denied, "sign with the key of a party of the log's contract", format, args...)
}
