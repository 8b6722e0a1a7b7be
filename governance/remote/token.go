package remote

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloister/governance/statement"
)

// BearerScheme is the authentication scheme of a read token, RFC 6750:
//
//	Authorization: Bearer SPKI.MS.SIG
//
// SPKI, the party's key, and SIG are in base64url without padding, MS is the time
// in milliseconds since 1970 until which it holds. What is signed is four lines,
// each ended by a line feed: "cloister ledger read token v1", the method, which is
// GET, the ledger's verifier key, and MS. It is for a browser, which cannot sign
// with a party's key: whoever has it reads that one log until then, and can say
// nothing in it.
const BearerScheme = "Bearer"

// MaxTokenLife is how long a read token can hold: a reader's sitting at the page,
// as nobody can call one back.
const MaxTokenLife = time.Hour

// maxToken is above a token of a P-256 key, in bytes.
const maxToken = 1 << 10

// ReadToken returns a token with which whoever has it reads the log of the ledger
// with this verifier key, until a time at most MaxTokenLife away.
func ReadToken(ledgerKey string, signer statement.Signer, until time.Time) (string, error) {
	ms := strconv.FormatInt(until.UnixMilli(), 10)
	signature, err := signer.SignMessage(tokenMessage(ledgerKey, ms))
	if err != nil {
		return "", fmt.Errorf("signing the read token: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return b64(signer.Public().SPKI()) + "." + ms + "." + b64(signature), nil
}

func tokenMessage(ledgerKey, ms string) []byte {
	return fmt.Appendf(nil, "cloister ledger read token v1\n%s\n%s\n%s\n", http.MethodGet, ledgerKey, ms)
}

// HasToken reports whether a request comes with a read token instead of a signature.
func HasToken(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), BearerScheme+" ")
}

// VerifyToken returns the key that signed a request's read token for the ledger
// with this verifier key. Its errors are of kind fault.Denied.
func VerifyToken(r *http.Request, ledgerKey string, now time.Time) (statement.PublicKey, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), BearerScheme+" ")
	part := strings.Split(token, ".")
	if r.Method != http.MethodGet || len(token) > maxToken || len(part) != 3 {
		return statement.PublicKey{}, denied("the request's read token is malformed, or for reading only")
	}
	spki, errKey := base64.RawURLEncoding.Strict().DecodeString(part[0])
	ms, errTime := strconv.ParseInt(part[1], 10, 64)
	signature, errSig := base64.RawURLEncoding.Strict().DecodeString(part[2])
	if errKey != nil || errTime != nil || errSig != nil {
		return statement.PublicKey{}, denied("the request's read token is malformed")
	}
	left := time.UnixMilli(ms).Sub(now)
	if left <= 0 {
		return statement.PublicKey{}, denied("the read token held until %s", time.UnixMilli(ms).UTC().Format(time.RFC3339))
	}
	if left > MaxTokenLife+MaxAge {
		return statement.PublicKey{}, denied("the read token would hold for %s, at most %s are allowed", left.Round(time.Second), MaxTokenLife)
	}
	key, err := statement.ParsePublicKey(spki)
	if err != nil {
		return statement.PublicKey{}, denied("the read token's key: %w", err)
	}
	if err := key.VerifyMessage(tokenMessage(ledgerKey, part[1]), signature); err != nil {
		return statement.PublicKey{}, denied("the read token is not for this ledger, or was changed: %w", err)
	}
	return key, nil
}
