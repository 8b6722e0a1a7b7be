package vault

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"hash"
	"slices"
	"strings"
)

// paddings are the algorithms of encrypt and wrapkey that are implemented:
// those with which a data key is wrapped under an RSA key.
var paddings = map[string]func() hash.Hash{"RSA-OAEP": sha1.New, "RSA-OAEP-256": sha256.New}

type operationRequest struct {
	Algorithm string `json:"alg"`
	Value     binary `json:"value"`
}

// encrypt answers encrypt and wrapkey, which differ in the permission alone.
func (s *Service) encrypt(c call) (any, error) {
	return s.operate(c, func(key *rsa.PrivateKey, h hash.Hash, value []byte) ([]byte, error) {
		return rsa.EncryptOAEP(h, rand.Reader, &key.PublicKey, value, nil)
	})
}

// decrypt answers decrypt and unwrapkey.
func (s *Service) decrypt(c call) (any, error) {
	return s.operate(c, func(key *rsa.PrivateKey, h hash.Hash, value []byte) ([]byte, error) {
		return rsa.DecryptOAEP(h, nil, key, value, nil)
	})
}

func (s *Service) operate(c call, f func(*rsa.PrivateKey, hash.Hash, []byte) ([]byte, error)) (any, error) {
	var req operationRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	var k keyVersion
	err := s.store.view(func(st *state) error {
		found, err := st.Keys.find("key", c.name, c.version)
		if err == nil {
			k = *found
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	key, err := s.forOperation(c, &k)
	if err != nil {
		return nil, err
	}
	padding := paddings[req.Algorithm]
	if padding == nil {
		return nil, badParameter("The simulated vault has RSA-OAEP and RSA-OAEP-256, not %q.", req.Algorithm)
	}
	result, err := f(key, padding(), req.Value)
	if err != nil {
		return nil, badParameter("The value cannot be processed: %v.", err)
	}
	return map[string]any{"kid": s.id("keys", c.name, k.Version), "value": binary(result)}, nil
}

// forOperation returns the key if its attributes and operations allow the
// request's last path segment.
func (s *Service) forOperation(c call, k *keyVersion) (*rsa.PrivateKey, error) {
	operation := c.URL.Path[strings.LastIndexByte(c.URL.Path, '/')+1:]
	if err := s.usable(operation, k.Attributes); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(k.Ops, func(op string) bool { return strings.EqualFold(op, operation) }) {
		return nil, forbidden("KeyOperationForbidden", "Operation %s is not permitted on this key.", operation)
	}
	if k.symmetric() {
		return nil, badParameter("The simulated vault has this operation for RSA keys only.")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(k.Material)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, badParameter("The simulated vault has this operation for RSA keys only.")
	}
	return key, nil
}
