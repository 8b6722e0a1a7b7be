package vault

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Audiences of Azure's public cloud.
const (
	vaultAudience = "https://vault.azure.net"
	hsmAudience   = "https://managedhsm.azure.net"
)

// signIn saves a request to each vault. The SDK first sends one without token
// and body, to learn from the vault's challenge what a token must be for; but
// that follows from the vault's address, and the SDK itself refuses a challenge
// that says something else. So that request is answered here. A vault that then
// challenges the token is asked in earnest, once and for all.
type signIn struct {
	private string // the audience to assume in a private cloud, whose addresses tell nothing; "" elsewhere

	mu    sync.Mutex      // guards asked
	asked map[string]bool // hosts that are asked themselves
}

// with returns options in which the SDK signs in this way.
func (s *signIn) with(o policy.ClientOptions) policy.ClientOptions {
	o.PerCallPolicies = append(o.PerCallPolicies[:len(o.PerCallPolicies):len(o.PerCallPolicies)], inEarnest{s})
	o.PerRetryPolicies = append(o.PerRetryPolicies[:len(o.PerRetryPolicies):len(o.PerRetryPolicies)], ownChallenge{s})
	return o
}

// audience is the resource of a vault's tokens: its address without the vault's
// own label, as the SDK demands.
func (s *signIn) audience(host string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[host] {
		return "", false
	}
	if s.private != "" {
		return s.private, true
	}
	_, domain, ok := strings.Cut(host, ".")
	return "https://" + domain, ok && strings.Contains(domain, ".")
}

// ask has a host asked itself from now on, and reports whether that is new.
func (s *signIn) ask(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[host] {
		return false
	}
	if s.asked == nil {
		s.asked = map[string]bool{}
	}
	s.asked[host] = true
	return true
}

// ownChallenge stands between the SDK's authentication and the network.
type ownChallenge struct{ *signIn }

func (p ownChallenge) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	audience, ok := p.audience(raw.URL.Host)
	if raw.Header.Get("Authorization") != "" || !ok {
		return req.Next()
	}
	return &http.Response{
		Status: "401 Unauthorized", StatusCode: http.StatusUnauthorized, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Www-Authenticate": {fmt.Sprintf("Bearer resource=%q", audience)}},
		Body:   http.NoBody, Request: raw,
	}, nil
}

// inEarnest stands before it, and repeats what a vault's own challenge ended.
type inEarnest struct{ *signIn }

func (p inEarnest) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" || !p.ask(req.Raw().URL.Host) {
		return resp, err
	}
	resp.Body.Close()
	req.Raw().Header.Del("Authorization")
	if err := req.RewindBody(); err != nil {
		return nil, err
	}
	return req.Next()
}
