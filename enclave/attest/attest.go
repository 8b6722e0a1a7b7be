// Package attest is why the key vault believes this machine: a token from the
// attestation service (Microsoft Azure Attestation, or one that speaks its
// protocol) that restates our evidence under a key the vault trusts.
//
// Life of a token: Attest sends the evidence and the runtime data its report
// covers to POST /attest/SevSnpVm, fetches the service's keys from /certs below
// the pinned authority while it waits, verifies the token's signature with them and compares
// every claim that the key's release will depend on with the local evidence. A
// token that says anything else is refused here rather than used.
package attest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// apiVersion is of the attestation service's REST interface.
const apiVersion = "2022-08-01"

// Options configure a Client. Authority is required.
type Options struct {
	Authority string               // the attestation service, https://HOST[:PORT]
	Client    policy.ClientOptions // a nil Transport is azure.NewTransport(nil)
	// Skew is how far the service's clock may be from ours when a token's times
	// are judged; 0 allows none.
	Skew time.Duration
	// Deadline bounds Attest with all tries; 0 is azure.Deadline.
	Deadline time.Duration
}

// Client asks one attestation service, which it pins.
type Client struct {
	authority string
	skew      time.Duration
	deadline  time.Duration
	pipeline  runtime.Pipeline
	now       func() time.Time
}

// New returns a client. It asks a busy service again, up to the deadline.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Authority)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fault.Errorf(fault.Usage, "write it as https://HOST", "the attestation authority %q is not an https address", o.Authority)
	}
	o.Client = azure.ClientOptions(o.Client)
	return &Client{
		authority: "https://" + u.Host,
		skew:      o.Skew,
		deadline:  o.Deadline,
		pipeline:  runtime.NewPipeline("cloister", "1", runtime.PipelineOptions{}, &o.Client),
		now:       time.Now,
	}, nil
}

// Attest has the service judge the evidence, whose report must cover
// runtimeData, and returns its verified token.
func (c *Client) Attest(ctx context.Context, e *snp.Evidence, runtimeData []byte) (*Token, error) {
	ctx, cancel := azure.Bound(ctx, c.deadline)
	defer cancel()
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	body, err := newRequest(e, runtimeData, nonce)
	if err != nil {
		return nil, err
	}
	keys := c.beginKeys(ctx)
	var answer struct{ Token string }
	if err := c.call(ctx, http.MethodPost, "/attest/SevSnpVm?api-version="+apiVersion, body, &answer); err != nil {
		return nil, fmt.Errorf("asking the attestation service: %w", err)
	}
	set, err := keys()
	if err != nil {
		return nil, err
	}
	token, err := c.verify(answer.Token, set, e, runtimeData, nonce)
	if unknown := (unknownKey{}); !errors.As(err, &unknown) {
		return token, err
	}
	// The service may have begun to sign with a new key since.
	if set, err = c.beginKeys(ctx)(); err != nil {
		return nil, err
	}
	return c.verify(answer.Token, set, e, runtimeData, nonce)
}

// beginKeys fetches the service's keys meanwhile, and returns how to wait for
// them.
func (c *Client) beginKeys(ctx context.Context) (wait func() (keySet, error)) {
	var keys keySet
	done := make(chan error, 1)
	go func() { done <- c.call(ctx, http.MethodGet, "/certs", nil, &keys) }()
	return func() (keySet, error) {
		if err := <-done; err != nil {
			return keySet{}, fmt.Errorf("fetching the attestation service's keys: %w", err)
		}
		return keys, nil
	}
}

// Probe asks the service for its keys, and nothing else. It returns what came
// back, in words.
func (c *Client) Probe(ctx context.Context) (string, error) {
	ctx, cancel := azure.Bound(ctx, c.deadline)
	defer cancel()
	keys, err := c.beginKeys(ctx)()
	if err != nil {
		return "", err
	}
	if len(keys.Keys) == 0 {
		return "", fault.Errorf(fault.Refused, "correct the authority in the specification", "%s has no keys to sign tokens with", c.authority)
	}
	return fmt.Sprintf("it signs tokens with %d key(s)", len(keys.Keys)), nil
}

// newNonce is 64 random bits as a JSON number, the form that Azure's own
// containers send.
func newNonce() (json.Number, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return json.Number(strconv.FormatUint(binary.BigEndian.Uint64(b[:]), 10)), nil
}

// call makes one request below the authority and decodes its JSON answer.
func (c *Client) call(ctx context.Context, method, path string, body []byte, answer any) error {
	req, err := runtime.NewRequest(ctx, method, c.authority+path)
	if err != nil {
		return err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
			return err
		}
	}
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return fault.Errorf(fault.Unavailable, azure.ReachHint(err), "%s: %w", c.authority, err)
	}
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return c.statusError(resp)
	}
	if err := runtime.UnmarshalAsJSON(resp, answer); err != nil {
		return fault.Errorf(fault.Refused, "", "%s%s did not answer in JSON: %w", c.authority, path, err)
	}
	return nil
}

func (c *Client) statusError(resp *http.Response) error {
	err := azure.OneLine(runtime.NewResponseError(resp))
	switch {
	case resp.StatusCode == http.StatusBadRequest:
		return fault.Errorf(fault.Refused, "check the processor's certificates and the utility VM's version", "%s refuses the evidence: %w", c.authority, err)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fault.Errorf(fault.Denied, "ask its operator to admit this machine, or name another authority in the specification", "%s denies access: %w", c.authority, err)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return fault.Errorf(fault.Unavailable, "try again later", "%s does not serve: %w", c.authority, err)
	default:
		return fault.Errorf(fault.Refused, "check the authority's address", "%s answers HTTP %d: %w", c.authority, resp.StatusCode, err)
	}
}
