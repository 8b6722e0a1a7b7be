package kbs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// The protocol's constants.
const (
	protocolVersion = "0.4.0"
	authPath        = "/kbs/v0/auth"
	attestPath      = "/kbs/v0/attest"
	resourcePath    = "/kbs/v0/resource/"
	sessionCookie   = "kbs-session-id"
	// hashAlgorithm is the protocol's own where none is selected, and the only one
	// that gets a report: see snp.KeyBroker.
	hashAlgorithm = "sha384"
)

// maxCookie bounds a session's identifier in bytes; the implementation's has 32.
const maxCookie = 256

var (
	// A nonce goes into what the processor signs. The implementation's are base64
	// of 32 bytes; this alphabet needs no escaping in JSON, so there is one
	// canonical form, and nothing but a nonce fits in.
	noncePattern = regexp.MustCompile(`^[A-Za-z0-9+/=_-]{1,256}$`)
	// The implementation's own rule for each of a resource's three parts.
	resourcePattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){2}$`)
)

func isResource(name string) bool { return resourcePattern.MatchString(name) }

// request is the protocol's first message.
type request struct {
	Version string `json:"version"`
	TEE     string `json:"tee"`
	Extra   struct {
		Hashes []string `json:"supported-hash-algorithms"`
	} `json:"extra-params"`
}

// runtimeData is what the report vouches for, its members in canonical order
// (RFC 8785). The additional evidence of other devices is always empty.
type runtimeData struct {
	Additional string    `json:"additional-evidence"`
	Nonce      string    `json:"nonce"`
	Key        publicJWK `json:"tee-pubkey"`
}

// attestation is the protocol's third message.
type attestation struct {
	RuntimeData struct {
		Nonce string    `json:"nonce"`
		Key   publicJWK `json:"tee-pubkey"`
	} `json:"runtime-data"`
	Evidence struct {
		Primary    evidence `json:"primary_evidence"`
		Additional string   `json:"additional_evidence"`
	} `json:"tee-evidence"`
}

// handshake takes the protocol's steps up to a session that resources are given
// to.
func (c *Client) handshake(ctx context.Context) (*session, error) {
	s := &session{}
	nonce, err := c.begin(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := s.newKey(); err != nil {
		return nil, err
	}
	if err := c.show(ctx, s, nonce); err != nil {
		s.destroy()
		return nil, err
	}
	return s, nil
}

// begin takes the first two steps.
func (c *Client) begin(ctx context.Context, s *session) (nonce string, err error) {
	hello := request{Version: protocolVersion, TEE: "snp"}
	hello.Extra.Hashes = []string{hashAlgorithm}
	answer, err := c.post(ctx, authPath, hello, s)
	if err != nil {
		return "", fmt.Errorf("asking the key broker for its challenge: %w", err)
	}
	if nonce, err = parseChallenge(answer); err == nil && s.cookie == "" {
		err = fmt.Errorf("there is no cookie %s with it", sessionCookie)
	}
	if err != nil {
		return "", c.refused("the request for its challenge", err)
	}
	return nonce, nil
}

// Probe asks the broker for a challenge, and nothing else. It returns what came
// back, in words.
func (c *Client) Probe(ctx context.Context) (string, error) {
	ctx, cancel := azure.Bound(ctx, c.deadline)
	defer cancel()
	if _, err := c.begin(ctx, &session{}); err != nil {
		return "", err
	}
	return "it answers with a challenge of protocol version " + protocolVersion, nil
}

// show has the machine vouch for nonce and key, and shows that to the broker.
// The token in its answer is for third parties; none here relies on it.
func (c *Client) show(ctx context.Context, s *session, nonce string) error {
	data, err := json.Marshal(runtimeData{Nonce: nonce, Key: s.jwk})
	if err != nil {
		return err
	}
	proof, err := c.prove(ctx, snp.KeyBroker{RuntimeData: data})
	if err != nil {
		return err
	}
	var body attestation
	body.RuntimeData.Nonce, body.RuntimeData.Key = nonce, s.jwk
	if body.Evidence.Primary, err = newEvidence(proof); err != nil {
		return err
	}
	answer, err := c.post(ctx, attestPath, body, s)
	if err != nil {
		return fmt.Errorf("showing the evidence to the key broker: %w", err)
	}
	var result struct{ Token string }
	if err := json.Unmarshal(answer, &result); err != nil || result.Token == "" {
		return c.refused("the attestation", fmt.Errorf("there is no token in it"))
	}
	return nil
}

func (c *Client) refused(to string, err error) error {
	return fault.Errorf(fault.Refused, "check that the address is a key broker's, of protocol version "+protocolVersion,
		"the answer of %s to %s is refused: %w", c.base, to, err)
}

// parseChallenge reads the protocol's second message. A broker that selects
// another hash is refused.
func parseChallenge(data []byte) (nonce string, err error) {
	var challenge struct {
		Nonce string          `json:"nonce"`
		Extra json.RawMessage `json:"extra-params"`
	}
	if err := json.Unmarshal(data, &challenge); err != nil {
		return "", fmt.Errorf("it is not a challenge: %w", err)
	}
	if !noncePattern.MatchString(challenge.Nonce) {
		return "", fmt.Errorf("its nonce %.80q is not 1 to 256 characters of base64", challenge.Nonce)
	}
	// Where there is nothing to say, the implementation sends an empty text.
	if !bytes.HasPrefix(challenge.Extra, []byte("{")) {
		return challenge.Nonce, nil
	}
	var extra struct {
		Hash string `json:"selected-hash-algorithm"`
	}
	if err := json.Unmarshal(challenge.Extra, &extra); err != nil {
		return "", fmt.Errorf("its extra-params: %w", err)
	}
	if extra.Hash != "" && !strings.EqualFold(extra.Hash, hashAlgorithm) {
		return "", fmt.Errorf("it selects the hash %.20q, and only %s keeps its reports apart from those of other purposes", extra.Hash, hashAlgorithm)
	}
	return challenge.Nonce, nil
}

// post makes one request of the handshake.
func (c *Client) post(ctx context.Context, path string, message any, s *session) ([]byte, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	req, err := runtime.NewRequest(ctx, http.MethodPost, c.base+path)
	if err != nil {
		return nil, err
	}
	if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
		return nil, err
	}
	return c.do(req, s)
}

func (c *Client) get(ctx context.Context, s *session, resource string) ([]byte, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, c.base+resourcePath+resource)
	if err != nil {
		return nil, err
	}
	body, err := c.do(req, s)
	if err != nil {
		return nil, fmt.Errorf("fetching the resource %s: %w", resource, err)
	}
	return body, nil
}

// do returns the body of a good answer. The handshake, which nobody else sees
// yet, may change the session's cookie.
func (c *Client) do(req *policy.Request, s *session) ([]byte, error) {
	if s.cookie != "" {
		req.Raw().AddCookie(&http.Cookie{Name: sessionCookie, Value: s.cookie})
	}
	// The pipeline would take an answer without end for a broken line, and ask again.
	runtime.SkipBodyDownload(req)
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "check the broker's address, and that the container may reach it", "%s: %w", c.base, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "check what stands between the container and the broker", "reading the answer of %s: %w", c.base, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.statusError(resp.StatusCode, body)
	}
	if req.Raw().Method == http.MethodPost {
		for _, cookie := range resp.Cookies() {
			if cookie.Name == sessionCookie && len(cookie.Value) <= maxCookie {
				s.cookie = cookie.Value
			}
		}
	}
	return body, nil
}
