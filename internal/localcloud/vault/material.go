package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
)

// keyVersion is one version of a key.
type keyVersion struct {
	meta
	Type string   `json:"kty"`
	Ops  []string `json:"keyOps"`
	// Policy is set for exportable keys.
	Policy *releasePolicy `json:"releasePolicy,omitempty"`
	// Material is the PKCS#8 form of an RSA or EC key, or a symmetric key's bytes.
	Material []byte `json:"material"`
}

func (k *keyVersion) hsm() bool       { return strings.HasSuffix(k.Type, "-HSM") }
func (k *keyVersion) symmetric() bool { return strings.HasPrefix(k.Type, "oct") }

// binary is a JSON Web Key's byte string: base64url without padding.
type binary []byte

func (b binary) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

func (b *binary) UnmarshalText(text []byte) error {
	out, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	*b = out
	return err
}

// jwk is the JSON Web Key of an import, or the public part in an answer.
type jwk struct {
	KeyID string   `json:"kid,omitempty"`
	Type  string   `json:"kty"`
	Ops   []string `json:"key_ops,omitempty"`
	Curve string   `json:"crv,omitempty"`
	N     binary   `json:"n,omitempty"`
	E     binary   `json:"e,omitempty"`
	X     binary   `json:"x,omitempty"`
	Y     binary   `json:"y,omitempty"`
	D     binary   `json:"d,omitempty"`
	P     binary   `json:"p,omitempty"`
	Q     binary   `json:"q,omitempty"`
	K     binary   `json:"k,omitempty"`
	// HSM is the wrapped key in a release answer.
	HSM binary `json:"key_hsm,omitempty"`
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// checkType refuses a key type that the service of that kind does not have.
func (k Kind) checkType(kty string) error {
	allowed := []string{"RSA", "RSA-HSM", "EC", "EC-HSM"}
	if k == ManagedHSM {
		allowed = []string{"RSA-HSM", "EC-HSM", "oct-HSM"}
	}
	if k == KeyVaultStandard {
		if strings.HasSuffix(kty, "-HSM") {
			return badParameter("HSM key types are not supported by a vault of SKU standard; use premium.")
		}
		allowed = []string{"RSA", "EC"}
	}
	if !slices.Contains(allowed, kty) {
		return badParameter("Property kty %q is not one of %s.", kty, strings.Join(allowed, ", "))
	}
	return nil
}

// generate makes key material; size is in bits, 0 for the default.
func generate(kty, curve string, size int) ([]byte, error) {
	switch strings.TrimSuffix(kty, "-HSM") {
	case "RSA":
		return generateRSA(size)
	case "EC":
		return generateEC(curve)
	default:
		return generateOct(size)
	}
}

func generateRSA(size int) ([]byte, error) {
	if size == 0 {
		size = 2048
	}
	if size != 2048 && size != 3072 && size != 4096 {
		return nil, badParameter("Property key_size %d is not 2048, 3072 or 4096.", size)
	}
	key, err := rsa.GenerateKey(rand.Reader, size)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func generateEC(name string) ([]byte, error) {
	if name == "" {
		name = "P-256"
	}
	curve := curves[name]
	if curve == nil {
		return nil, badParameter("Property crv %q is not one that the simulated vault has: P-256, P-384, P-521.", name)
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func generateOct(size int) ([]byte, error) {
	if size == 0 {
		size = 256
	}
	if size != 128 && size != 192 && size != 256 {
		return nil, badParameter("Property key_size %d is not 128, 192 or 256.", size)
	}
	key := make([]byte, size/8)
	_, err := rand.Read(key)
	return key, err
}

// material turns an imported JSON Web Key into what a keyVersion holds.
func (j jwk) material() ([]byte, error) {
	switch strings.TrimSuffix(j.Type, "-HSM") {
	case "RSA":
		return j.rsa()
	case "EC":
		return j.ec()
	}
	if n := len(j.K); n != 16 && n != 24 && n != 32 {
		return nil, badParameter("Property k is %d bytes, not 16, 24 or 32.", n)
	}
	return j.K, nil
}

func (j jwk) rsa() ([]byte, error) {
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	e := number(j.E)
	if len(j.N) < 2048/8 || len(j.D) == 0 || len(j.P) == 0 || len(j.Q) == 0 || !e.IsInt64() || e.Int64() > 1<<31-1 {
		return nil, badParameter("The RSA key is not whole: n of 2048 bits or more, e, d, p and q are needed.")
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number(j.N), E: int(e.Int64())},
		D:         number(j.D),
		Primes:    []*big.Int{number(j.P), number(j.Q)},
	}
	if err := key.Validate(); err != nil {
		return nil, badParameter("The RSA key is not valid: %v.", err)
	}
	key.Precompute()
	return x509.MarshalPKCS8PrivateKey(key)
}

func (j jwk) ec() ([]byte, error) {
	curve := curves[j.Curve]
	if curve == nil {
		return nil, badParameter("Property crv %q is not one that the simulated vault has: P-256, P-384, P-521.", j.Curve)
	}
	scalar := make([]byte, (curve.Params().BitSize+7)/8)
	if len(j.D) == 0 || len(j.D) > len(scalar) {
		return nil, badParameter("Property d is %d bytes.", len(j.D))
	}
	copy(scalar[len(scalar)-len(j.D):], j.D)
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		return nil, badParameter("The EC key is not valid: %v.", err)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// public is the part of the key that answers show.
func (k *keyVersion) public(id string) (jwk, error) {
	out := jwk{KeyID: id, Type: k.Type, Ops: k.Ops}
	if k.symmetric() {
		return out, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(k.Material)
	if err != nil {
		return out, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		out.N, out.E = key.N.Bytes(), big.NewInt(int64(key.E)).Bytes()
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes() // 0x04 ‖ X ‖ Y
		if err != nil {
			return out, err
		}
		half := (len(point) - 1) / 2
		out.Curve, out.X, out.Y = key.Params().Name, point[1:1+half], point[1+half:]
	}
	return out, nil
}

// like says how to generate another key of the same form: a rotation does.
func (k *keyVersion) like() (kty, curve string, size int, err error) {
	if k.symmetric() {
		return k.Type, "", 8 * len(k.Material), nil
	}
	j, err := k.public("")
	return k.Type, j.Curve, 8 * len(j.N), err
}

// defaultOps are the operations of a key made without any being named.
func defaultOps(kty string) []string {
	switch strings.TrimSuffix(kty, "-HSM") {
	case "RSA":
		return []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
	case "EC":
		return []string{"sign", "verify"}
	default:
		return []string{"encrypt", "decrypt", "wrapKey", "unwrapKey"}
	}
}
