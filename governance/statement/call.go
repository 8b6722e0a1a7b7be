package statement

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloister/internal/fault"
)

// MaxCallAge is how long a signed call holds: a request's way, and clocks that
// differ.
const MaxCallAge = 5 * time.Minute

// maxCall is above a call signed with a P-256 key, in bytes.
const maxCall = 1 << 10

// SignCall returns a party's word to a run that it may do what the HTTP method says
// with the run's job: SPKI.MS.SIG, key and signature in base64url without padding,
// MS the time of signing in milliseconds since 1970. What is signed is four lines,
// each ended by a line feed: "cloister job call v1", the method, the run's id, MS.
// Said twice it does the same once more, and to another run nothing.
func SignCall(method, run string, now time.Time, signer Signer) (string, error) {
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	signature, err := signer.SignMessage(callMessage(method, run, ms))
	if err != nil {
		return "", fmt.Errorf("signing a call: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return b64(signer.Public().SPKI()) + "." + ms + "." + b64(signature), nil
}

func callMessage(method, run, ms string) []byte {
	return fmt.Appendf(nil, "cloister job call v1\n%s\n%s\n%s\n", method, run, ms)
}

// VerifyCall returns the key that signed a call of this method to this run. Its
// errors are of kind fault.Denied.
func VerifyCall(call, method, run string, now time.Time) (PublicKey, error) {
	part := strings.Split(call, ".")
	if len(call) > maxCall || len(part) != 3 {
		return PublicKey{}, fault.Errorf(fault.Denied, "", "the call is not signed, or malformed")
	}
	spki, errKey := base64.RawURLEncoding.Strict().DecodeString(part[0])
	ms, errTime := strconv.ParseInt(part[1], 10, 64)
	signature, errSig := base64.RawURLEncoding.Strict().DecodeString(part[2])
	if errKey != nil || errTime != nil || errSig != nil {
		return PublicKey{}, fault.Errorf(fault.Denied, "", "the call is malformed")
	}
	if age := now.Sub(time.UnixMilli(ms)).Abs(); age > MaxCallAge {
		return PublicKey{}, fault.Errorf(fault.Denied, "set the clock", "the call is signed for a time that is %s away", age.Round(time.Second))
	}
	key, err := ParsePublicKey(spki)
	if err != nil {
		return PublicKey{}, fault.Errorf(fault.Denied, "", "the call's key: %w", err)
	}
	if err := key.VerifyMessage(callMessage(method, run, part[1]), signature); err != nil {
		return PublicKey{}, fault.Errorf(fault.Denied, "", "the call is for another run, or was changed: %w", err)
	}
	return key, nil
}
