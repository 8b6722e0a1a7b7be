package vault

import (
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/url"

	"github.com/go-jose/go-jose/v4"

	"cloister/enclave/snp"
	"cloister/internal/fault"
	"cloister/policy/release"
)

// maxStatement bounds a release's signed statement in bytes; real ones have 19
// KiB, most of it certificates.
const maxStatement = 256 << 10

// expectedRelease is what a release's statement is held against.
type expectedRelease struct {
	request Request
	nonce   string
	key     *ReleaseKey
}

// statement is the payload of a vault's signed answer.
type statement struct {
	Request struct {
		Enc   string  `json:"enc"`
		KID   string  `json:"kid"`
		Nonce *string `json:"nonce"`
	} `json:"request"`
	Response struct {
		Key struct {
			Key    releasedJWK `json:"key"`
			Policy struct {
				Data base64url `json:"data"`
			} `json:"release_policy"`
		} `json:"key"`
	} `json:"response"`
}

// releasedJWK is the key's public half with the private one wrapped in KeyHSM.
type releasedJWK struct {
	KID    string    `json:"kid"`
	KTY    string    `json:"kty"`
	N      base64url `json:"n"` // of RSA
	X      base64url `json:"x"` // of EC
	Y      base64url `json:"y"`
	KeyHSM base64url `json:"key_hsm"`
}

// wrappedKey is what KeyHSM holds.
type wrappedKey struct {
	Header struct {
		KID string `json:"kid"` // of the release key
		Alg string `json:"alg"`
		Enc string `json:"enc"`
	} `json:"header"`
	Ciphertext base64url `json:"ciphertext"`
}

// base64url is bytes as JOSE writes them, without padding.
type base64url []byte

func (b *base64url) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.AppendDecode(nil, text)
	return err
}

// open verifies a release's statement, compares all of it with what was asked
// and agreed, and only then unwraps the KEK.
func (c *Client) open(raw string, want expectedRelease) (*KEK, error) {
	payload, err := c.verifyStatement(raw, want.request.KEK.Vault)
	if err != nil {
		return nil, err
	}
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, badStatement("its payload: %v", err)
	}
	var wrapped wrappedKey
	if err := json.Unmarshal(s.Response.Key.Key.KeyHSM, &wrapped); err != nil {
		return nil, badStatement("its wrapped key: %v", err)
	}
	if err := compare(&s, &wrapped, want).Err("the vault's release statement"); err != nil {
		return nil, err
	}
	material, err := want.key.unwrap(wrapped.Ciphertext, want.request.Wrap)
	if err != nil {
		return nil, badStatement("%v", err)
	}
	defer clear(material)
	kek, err := newKEK(material, s.Response.Key.Key)
	if err != nil {
		return nil, badStatement("%v", err)
	}
	return kek, nil
}

// verifyStatement accepts RS256 by a certificate for the vault's own host whose
// chain ends at the roots.
func (c *Client) verifyStatement(raw, vault string) ([]byte, error) {
	if len(raw) > maxStatement {
		return nil, badStatement("it has %d bytes, more than the %d allowed", len(raw), maxStatement)
	}
	host, err := url.Parse(vault)
	if err != nil {
		return nil, badStatement("%v", err)
	}
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, badStatement("%v", err)
	}
	chains, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{
		DNSName: host.Hostname(), Roots: c.opts.Roots, CurrentTime: c.now(),
	})
	if err != nil {
		return nil, badStatement("its certificate chain: %v", err)
	}
	payload, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		return nil, badStatement("its signature is not the vault's")
	}
	return payload, nil
}

// compare holds the statement against the request and the contract.
func compare(s *statement, wrapped *wrappedKey, want expectedRelease) snp.Checks {
	var checks snp.Checks
	r := want.request
	key := s.Response.Key.Key
	checks.AddIf("key id", r.KEK.Vault+"/keys/"+r.KEK.Name+"/"+r.KEK.Version, key.KID, sameKey(key.KID, r.KEK))
	// The service leaves the version out of the request's own id.
	checks.AddIf("requested key", r.KEK.Vault+"/keys/"+r.KEK.Name, s.Request.KID,
		sameKey(s.Request.KID, ID{Vault: r.KEK.Vault, Name: r.KEK.Name}))
	checks.Add("wrapping asked for", string(r.Wrap), s.Request.Enc)
	checks.Add("wrapping", string(r.Wrap), wrapped.Header.Enc)
	checks.Add("wrapped for", want.key.kid, wrapped.Header.KID)
	if s.Request.Nonce != nil {
		checks.AddIf("nonce", want.nonce, *s.Request.Nonce, subtle.ConstantTimeCompare([]byte(want.nonce), []byte(*s.Request.Nonce)) == 1)
	}
	actual, err := release.Parse(s.Response.Key.Policy.Data)
	agreed := err == nil && len(r.Policy.Authorities) > 0 && release.Equal(actual, r.Policy)
	found := string(s.Response.Key.Policy.Data)
	if len(found) > 2048 {
		found = found[:2048] + "…"
	}
	checks.AddIf("release policy", string(r.Policy.Canonical()), found, agreed)
	return checks
}

func badStatement(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "", "the vault's release statement is refused: "+format, args...)
}
