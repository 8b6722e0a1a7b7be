package attest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// maxToken bounds a token in bytes; real ones have 5 KiB.
const maxToken = 64 << 10

// Token is a verified attestation token. Whoever holds it still needs the
// private half of the key it names, but it has no place in logs.
type Token struct {
	Authority string          // the pinned service that issued it
	Claims    json.RawMessage // its payload
	Expires   time.Time
	Checks    snp.Checks // everything that was compared
	raw       string
}

// Raw returns the compact form that a vault is given.
func (t *Token) Raw() string { return t.raw }

// String says whose token it is and not what it is.
func (t *Token) String() string {
	return "[attestation token of " + t.Authority + "]"
}

// Format keeps every verb from printing the token.
func (t *Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// LogValue is String.
func (t *Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// claims are those that are compared. Pointers tell absence from zero.
type claims struct {
	Issuer      string          `json:"iss"`
	Expires     *int64          `json:"exp"` // seconds since 1970
	NotBefore   *int64          `json:"nbf"`
	Issued      *int64          `json:"iat"`
	Nonce       json.RawMessage `json:"nonce"` // a number, or its text
	Type        string          `json:"x-ms-attestation-type"`
	Compliance  string          `json:"x-ms-compliance-status"`
	Runtime     json.RawMessage `json:"x-ms-runtime"`
	HostData    string          `json:"x-ms-sevsnpvm-hostdata"`
	ReportData  string          `json:"x-ms-sevsnpvm-reportdata"`
	Measurement string          `json:"x-ms-sevsnpvm-launchmeasurement"`
	ReportID    string          `json:"x-ms-sevsnpvm-reportid"`
	Debuggable  *bool           `json:"x-ms-sevsnpvm-is-debuggable"`
	Migration   *bool           `json:"x-ms-sevsnpvm-migration-allowed"`
	SMT         *bool           `json:"x-ms-sevsnpvm-smt-allowed"`
	VMPL        *uint32         `json:"x-ms-sevsnpvm-vmpl"`
	GuestSVN    *uint32         `json:"x-ms-sevsnpvm-guestsvn"`

	// Of a confidential VM, see checkGuest.
	SecureBoot *bool           `json:"secureboot"`
	PCRs       json.RawMessage `json:"x-ms-azurevm-attested-pcrs"`
	TEE        *claims         `json:"x-ms-isolation-tee"`
}

// verify checks a token's signature and then every claim, and returns it only
// when all of them hold.
func (c *Client) verify(raw string, keys keySet, e *snp.Evidence, runtimeData []byte, nonce json.Number) (*Token, error) {
	payload, err := c.verifySignature(raw, keys)
	if err != nil {
		return nil, err
	}
	var got claims
	if err := json.Unmarshal(payload, &got); err != nil {
		return nil, badToken("its claims: %v", err)
	}
	report, err := snp.ParseReport(e.Report)
	if err != nil {
		return nil, err
	}
	var checks snp.Checks
	checks.Add("issuer", c.authority, orAbsent(strings.TrimSuffix(got.Issuer, "/")))
	c.checkTimes(&checks, &got)
	if e.Quote != nil {
		checkRuntime(&checks, guestRuntime(got.Runtime), runtimeData)
		checkGuest(&checks, &got, e, report)
	} else {
		checkNonce(&checks, got.Nonce, nonce)
		checkRuntime(&checks, got.Runtime, runtimeData)
		checkReport(&checks, &got, report, "azure-compliant-uvm")
	}
	if err := checks.Err("the attestation token"); err != nil {
		return nil, c.hinted(err, &got)
	}
	return &Token{Authority: c.authority, Claims: payload, Expires: time.Unix(*got.Expires, 0), Checks: checks, raw: raw}, nil
}

// verifySignature accepts RS256 by a key of the pinned authority and nothing
// else. A jku elsewhere is refused; it is never followed.
func (c *Client) verifySignature(raw string, keys keySet) ([]byte, error) {
	if len(raw) > maxToken {
		return nil, badToken("it has %d bytes, more than the %d allowed", len(raw), maxToken)
	}
	token, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, badToken("%v", err)
	}
	header := token.Signatures[0].Protected
	if jku, ok := header.ExtraHeaders["jku"]; ok {
		if text, _ := jku.(string); !strings.HasPrefix(text, c.authority+"/") {
			return nil, badToken("its keys are at %.200q, not below %s", jku, c.authority)
		}
	}
	key, err := keys.find(header.KeyID)
	if err != nil {
		return nil, badToken("%w", err)
	}
	payload, err := token.Verify(key)
	if err != nil {
		return nil, badToken("its signature is not the service's")
	}
	return payload, nil
}

func badToken(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "", "the attestation token is refused: "+format, args...)
}

// hinted adds what to do where the token's time was bad, as a clock that is off
// is the machine's and not the token's.
func (c *Client) hinted(err error, got *claims) error {
	var times snp.Checks
	if c.checkTimes(&times, got); times.Err("its time") == nil {
		return err
	}
	return fault.Errorf(fault.Refused, "compare this machine's clock with the attestation service's", "%w", err)
}

func (c *Client) checkTimes(checks *snp.Checks, got *claims) {
	now := c.now()
	show := func(t *int64) string {
		if t == nil {
			return absent
		}
		return time.Unix(*t, 0).UTC().Format(time.RFC3339)
	}
	at := now.UTC().Format(time.RFC3339)
	checks.AddIf("expiry", "after "+at, show(got.Expires),
		got.Expires != nil && time.Unix(*got.Expires, 0).Add(c.skew).After(now))
	notAfterNow := func(t *int64) bool { return t == nil || !time.Unix(*t, 0).After(now.Add(c.skew)) }
	checks.AddIf("not before", "no later than "+at, show(got.NotBefore), notAfterNow(got.NotBefore))
	checks.AddIf("issued", "no later than "+at, show(got.Issued), notAfterNow(got.Issued))
}

// checkNonce compares an echoed nonce; the service may leave it out. What makes
// a token fresh is the key in x-ms-runtime, which is new with each start.
func checkNonce(checks *snp.Checks, got json.RawMessage, sent json.Number) {
	if len(got) > 0 {
		checks.Add("nonce", sent.String(), strings.Trim(string(got), `"`))
	}
}

// checkRuntime compares by meaning: the service parses and rewrites the JSON.
func checkRuntime(checks *snp.Checks, got json.RawMessage, want []byte) {
	actual := "our key"
	same := sameJSON(got, want)
	if !same {
		actual = orAbsent(fmt.Sprintf("%.200s", got))
	}
	checks.AddIf("x-ms-runtime", "our key", actual, same)
}

func sameJSON(a, b []byte) bool {
	decode := func(data []byte) (v any, err error) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		err = dec.Decode(&v)
		return v, err
	}
	x, err := decode(a)
	if err != nil {
		return false
	}
	y, err := decode(b)
	return err == nil && reflect.DeepEqual(x, y)
}

// checkReport compares what the service says of the report with the report.
func checkReport(checks *snp.Checks, got *claims, r *snp.Report, compliance string) {
	checks.Add("x-ms-attestation-type", "sevsnpvm", orAbsent(got.Type))
	checks.Add("x-ms-compliance-status", compliance, orAbsent(got.Compliance))
	for _, c := range []struct {
		name   string
		report []byte
		claim  string
	}{
		{"hostdata", r.HostData[:], got.HostData},
		{"reportdata", r.ReportData[:], got.ReportData},
		{"launchmeasurement", r.Measurement[:], got.Measurement},
		{"reportid", r.ReportID[:], got.ReportID},
	} {
		checks.Add("x-ms-sevsnpvm-"+c.name, hex.EncodeToString(c.report), orAbsent(strings.ToLower(c.claim)))
	}
	checks.Add("x-ms-sevsnpvm-is-debuggable", "false", showBool(got.Debuggable))
	checks.Add("x-ms-sevsnpvm-migration-allowed", "false", showBool(got.Migration))
	checks.Add("x-ms-sevsnpvm-smt-allowed", strconv.FormatBool(r.SMT), showBool(got.SMT))
	checks.Add("x-ms-sevsnpvm-vmpl", "0", showNumber(got.VMPL))
	checks.Add("x-ms-sevsnpvm-guestsvn", strconv.FormatUint(uint64(r.GuestSVN), 10), showNumber(got.GuestSVN))
}

const absent = "(absent)"

func orAbsent(s string) string {
	if s == "" {
		return absent
	}
	return s
}

func showBool(b *bool) string {
	if b == nil {
		return absent
	}
	return strconv.FormatBool(*b)
}

func showNumber(n *uint32) string {
	if n == nil {
		return absent
	}
	return strconv.FormatUint(uint64(*n), 10)
}
