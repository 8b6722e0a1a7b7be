package remote

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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
//	Authorization: Cloister key="SPKI", time="MS", nonce="NONCE", signature="SIG"
//
// SPKI and SIG are in standard base64, MS is the time in milliseconds since 1970,
// NONCE is 16 random bytes in hexadecimal. What is signed is seven lines, each
// ended by a line feed, which none of them contains: "cloister ledger request v1",
// the method, the host as the request names it, path and query, MS, NONCE, and the
// SHA-256 of the body in hexadecimal.
// No statement can stand in for it, as what is signed there begins "DSSEv1 ".
const Scheme = "Cloister"

// MaxAge is how far a request's time may be from the server's: what NTP and a
// slow network need. As long as a request is good the ledger's servers remember it,
// also over a restart, so that nobody plays it again.
const MaxAge = 2 * time.Minute

// Sign signs a request. body is what it carries.
func Sign(r *http.Request, body []byte, signer statement.Signer, now time.Time) error {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	ms, nonce := strconv.FormatInt(now.UnixMilli(), 10), hex.EncodeToString(random[:])
	signature, err := signer.SignMessage(signed(r, ms, nonce, body))
	if err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	r.Header.Set("Authorization", fmt.Sprintf(`%s key="%s", time="%s", nonce="%s", signature="%s"`, Scheme,
		base64.StdEncoding.EncodeToString(signer.Public().SPKI()), ms, nonce, base64.StdEncoding.EncodeToString(signature)))
	return nil
}

func signed(r *http.Request, ms, nonce string, body []byte) []byte {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	return fmt.Appendf(nil, "cloister ledger request v1\n%s\n%s\n%s\n%s\n%s\n%x\n", r.Method, host, r.URL.RequestURI(), ms, nonce, sha256.Sum256(body))
}

// credentials is the one form of the header's value.
var credentials = regexp.MustCompile(`^` + Scheme + ` key="([A-Za-z0-9+/=]{1,1000})", time="([0-9]{1,15})", nonce="([0-9a-f]{32})", signature="([A-Za-z0-9+/=]{1,200})"$`)

// Asked is a request that its sender signed.
type Asked struct {
	Key  statement.PublicKey
	Time time.Time // of signing, by the sender's clock, to the millisecond
	// ID is of what was signed, key and nonce among it: of two requests with one
	// ID, one is the other played again.
	ID [sha256.Size]byte
}

// Verify returns who signed a request to this server. Its errors are of kind
// fault.Denied.
func Verify(r *http.Request, body []byte, now time.Time) (Asked, error) {
	part := credentials.FindStringSubmatch(r.Header.Get("Authorization"))
	if part == nil {
		return Asked{}, denied("the request is not signed, or not in the form %s key=..., time=..., nonce=..., signature=...", Scheme)
	}
	spki, errKey := base64.StdEncoding.DecodeString(part[1])
	signature, errSig := base64.StdEncoding.DecodeString(part[4])
	ms, errTime := strconv.ParseInt(part[2], 10, 64)
	if errKey != nil || errSig != nil || errTime != nil {
		return Asked{}, denied("the request's signature is malformed")
	}
	if age := now.Sub(time.UnixMilli(ms)); age.Abs() > MaxAge {
		return Asked{}, denied("the request's time is %s from the ledger's, at most %s are allowed: set the clock", age.Abs().Round(time.Second), MaxAge)
	}
	key, err := statement.ParsePublicKey(spki)
	if err != nil {
		return Asked{}, denied("the request's key: %w", err)
	}
	message := signed(r, part[2], part[3], body)
	if err := key.VerifyMessage(message, signature); err != nil {
		return Asked{}, denied("the request: %w", err)
	}
	// Not of the signature: one of ECDSA can be turned into another that is valid.
	return Asked{key, time.UnixMilli(ms), sha256.Sum256(append(key.SPKI(), message...))}, nil
}

func denied(format string, args ...any) error {
	return fault.Errorf(fault.Denied, "sign with the key of a party of the log's contract, or of a run", format, args...)
}
