package kbs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// A resource is encrypted in one way only: a fresh AES-256-GCM key, wrapped
// (RFC 3394) under a key agreed with the session's (RFC 7518, section 4.6).
const (
	keyAlgorithm      = jose.ECDH_ES_A256KW
	contentEncryption = jose.A256GCM
)

// response is a JWE in the flattened serialisation (RFC 7516, section 7.2.2),
// as the protocol has it: nothing but the protected header.
type response struct {
	Protected    string `json:"protected"`
	EncryptedKey string `json:"encrypted_key"`
	AAD          string `json:"aad"`
	IV           string `json:"iv"`
	Ciphertext   string `json:"ciphertext"`
	Tag          string `json:"tag"`
}

// header is all that a protected header may hold: nothing in it may ask for
// more work, as compression does.
type header struct {
	Alg string          `json:"alg"`
	Enc string          `json:"enc"`
	EPK json.RawMessage `json:"epk"`
}

// open decrypts a response with the session's key, for which alone a broker
// that has judged the evidence makes one. The library keeps copies of the
// content's key that cannot be reached; they go with the garbage collector, in
// memory that the processor encrypts.
func (s *session) open(body []byte) ([]byte, error) {
	compact, err := parseResponse(body)
	if err != nil {
		return nil, err
	}
	jwe, err := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{keyAlgorithm}, []jose.ContentEncryption{contentEncryption})
	if err != nil {
		return nil, errors.New("it is not a JWE in the agreed algorithms")
	}
	plain, err := jwe.Decrypt(s.key)
	if err != nil {
		return nil, errors.New("its JWE is for another key, or was altered")
	}
	return plain, nil
}

// parseResponse returns the compact form of a response.
func parseResponse(body []byte) (string, error) {
	var r response
	if err := strict(body, &r); err != nil {
		return "", fmt.Errorf("it is not a JWE in flattened form: %w", err)
	}
	if r.AAD != "" {
		return "", errors.New("its JWE has additional data, which the protocol's never has")
	}
	protected, err := base64.RawURLEncoding.Strict().DecodeString(r.Protected)
	if err != nil {
		return "", errors.New("its JWE's header is not base64url")
	}
	var h header
	if err := strict(protected, &h); err != nil {
		return "", fmt.Errorf("its JWE's header: %w", err)
	}
	if h.Alg != string(keyAlgorithm) || h.Enc != string(contentEncryption) {
		return "", fmt.Errorf("its JWE is in %.40q with %.40q, not in %s with %s", h.Alg, h.Enc, keyAlgorithm, contentEncryption)
	}
	parts := []string{r.Protected, r.EncryptedKey, r.IV, r.Ciphertext, r.Tag}
	if strings.Contains(strings.Join(parts, ""), ".") {
		return "", errors.New("a part of its JWE is not base64url")
	}
	return strings.Join(parts, "."), nil
}

func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("bytes follow the JSON object")
	}
	return nil
}
