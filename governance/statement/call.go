package statement

import (
	"crypto/sha256"
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

// Call is what a party asks of a run: an HTTP method at Target, the path below the
// runtime's own, such as "job".
type Call struct{ Method, Target, Run string }

// SignCall returns a party's word to a run that it may do what a call says, with
// this body: SPKI.MS.DIGEST.SIG, key, the body's SHA-256 and signature in base64url
// without padding, MS the time of signing in milliseconds since 1970. What is signed
// is six lines, each ended by a line feed: "cloister job call v2", the method, the
// target, the run's id, MS, DIGEST. Said twice it does the same once more, and to
// another run nothing.
func SignCall(c Call, body []byte, now time.Time, signer Signer) (string, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256(body)
	ms, digest := strconv.FormatInt(now.UnixMilli(), 10), b64(sum[:])
	signature, err := signer.SignMessage(c.message(ms, digest))
	if err != nil {
		return "", fmt.Errorf("signing a call: %w", err)
	}
	return b64(signer.Public().SPKI()) + "." + ms + "." + digest + "." + b64(signature), nil
}

func (c Call) message(ms, digest string) []byte {
	return fmt.Appendf(nil, "cloister job call v2\n%s\n%s\n%s\n%s\n%s\n", c.Method, c.Target, c.Run, ms, digest)
}

// VerifyCall returns the key that signed a call, and the digest of the body that it
// is signed with, which the caller compares with what it reads. Its errors are of
// kind fault.Denied.
func VerifyCall(signed string, c Call, now time.Time) (key PublicKey, body [sha256.Size]byte, err error) {
	part := strings.Split(signed, ".")
	if len(signed) > maxCall || len(part) != 4 {
		return key, body, fault.Errorf(fault.Denied, "", "the call is not signed, or malformed")
	}
	decode := base64.RawURLEncoding.Strict().DecodeString
	spki, errKey := decode(part[0])
	ms, errTime := strconv.ParseInt(part[1], 10, 64)
	digest, errDigest := decode(part[2])
	signature, errSig := decode(part[3])
	if errKey != nil || errTime != nil || errDigest != nil || errSig != nil || len(digest) != len(body) {
		return key, body, fault.Errorf(fault.Denied, "", "the call is malformed")
	}
	if age := now.Sub(time.UnixMilli(ms)).Abs(); age > MaxCallAge {
		return key, body, fault.Errorf(fault.Denied, "set the clock", "the call is signed for a time that is %s away", age.Round(time.Second))
	}
	if key, err = ParsePublicKey(spki); err != nil {
		return key, body, fault.Errorf(fault.Denied, "", "the call's key: %w", err)
	}
	if err := key.VerifyMessage(c.message(part[1], part[2]), signature); err != nil {
		return PublicKey{}, body, fault.Errorf(fault.Denied, "", "the call is for another run, or was changed: %w", err)
	}
	return key, [sha256.Size]byte(digest), nil
}
