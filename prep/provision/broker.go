package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"cloister/enclave/envelope"
	"cloister/internal/fault"
)

// BrokerToken is what a broker believes its administrator by: a bearer token.
type BrokerToken struct{ value string }

// NewBrokerToken takes the token's text; white space around it goes.
func NewBrokerToken(text []byte) (BrokerToken, error) {
	value := strings.TrimSpace(string(text))
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return BrokerToken{}, fault.Errorf(fault.Usage, "give the file in which the broker's operator wrote the token, and nothing else", "the broker's token is not one line of text")
	}
	return BrokerToken{value}, nil
}

const redactedToken = "[broker token]"

func (BrokerToken) String() string             { return redactedToken }
func (BrokerToken) GoString() string           { return redactedToken }
func (BrokerToken) Format(f fmt.State, _ rune) { fmt.Fprint(f, redactedToken) }
func (BrokerToken) LogValue() slog.Value       { return slog.StringValue(redactedToken) }

// BrokerKeys says which volume's keys shall be at a Key Broker Service of the
// Confidential Containers project. All but Roots is required.
type BrokerKeys struct {
	URL        string         // the broker, https://HOST
	Roots      *x509.CertPool // end its TLS chain; nil is the system's
	Token      BrokerToken
	KEK        string // REPOSITORY/TYPE/TAG of the key that opens the DEK
	Resource   string // likewise of the wrapped DEK
	VolumeID   [16]byte
	KeyVersion uint32        // from 1
	DEK        *envelope.DEK // the caller's, who destroys it
}

// ApplyBroker makes a KEK, wraps the DEK with it and has the broker hold both,
// in place of what it held there. The protocol lets an owner write and not
// read, so nothing can be compared: each call makes both anew. Between its two
// requests, or when the second fails, what the broker holds does not fit
// together and opens nothing; applying again mends that. Who gets them is the
// broker's resource policy to say, which is its operator's.
func ApplyBroker(ctx context.Context, b BrokerKeys) error {
	doing := fmt.Sprintf("provisioning the keys %s and %s at %s", b.KEK, b.Resource, b.URL)
	if err := checkVault(b.URL); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	kek, err := rsa.GenerateKey(rand.Reader, defaultBits)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	material, err := x509.MarshalPKCS8PrivateKey(kek)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer clear(material)
	wrapped, err := envelope.Wrap(&kek.PublicKey, b.address(b.KEK), b.DEK, b.VolumeID, b.KeyVersion)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	text, err := wrapped.Marshal()
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := b.put(ctx, b.KEK, material); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := b.put(ctx, b.Resource, text); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

func (b *BrokerKeys) address(resource string) string {
	return strings.TrimSuffix(b.URL, "/") + "/kbs/v0/resource/" + resource
}

// brokerTime bounds one request to a broker.
const brokerTime = 30 * time.Second

// maxRefusal is as much of a refusal as is read, in bytes.
const maxRefusal = 4096

// put registers a resource, in the form of the protocol (trustee, kbs.yaml,
// registerSecretResource).
func (b *BrokerKeys) put(ctx context.Context, resource string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.address(resource), bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+b.Token.value)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := brokerClient(b.Roots).Do(req)
	if err != nil {
		return fault.Errorf(fault.Unavailable, "check the broker's address, and its certificate in the specification", "%w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil {
		return fault.Errorf(fault.Unavailable, "", "reading the broker's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, body)
	}
	return nil
}

// refusal is what a broker answered, by its own name (RFC 7807).
func refusal(status int, body []byte) error {
	var info struct{ Type, Detail string }
	if err := json.Unmarshal(body, &info); err != nil {
		info.Type = "an answer that is not the protocol's"
	}
	name := info.Type[strings.LastIndex(info.Type, "/")+1:]
	kind, hint := fault.Refused, "check the broker's address"
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind, hint = fault.Denied, "ask the broker's operator for an administrator's token"
	case status == http.StatusTooManyRequests || status >= 500:
		kind, hint = fault.Unavailable, "try again later"
	}
	return fault.Errorf(kind, hint, "the broker answers HTTP %d, %.64q: %.200q", status, name, info.Detail)
}

// brokerClient keeps no connection: an owner's tool ends after two requests.
func brokerClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		// A broker that redirects would choose where keys go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
