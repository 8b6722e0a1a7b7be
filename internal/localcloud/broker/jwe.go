package broker

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// The JWE algorithms of a resource.
const (
	keyAlgorithm      = "ECDH-ES+A256KW"
	contentEncryption = "A256GCM"
)

// sealed is a JWE in flattened form. It is made here by hand, so that the
// runtime's library has something else to agree with.
type sealed struct {
	Protected    string `json:"protected"`
	EncryptedKey string `json:"encrypted_key"`
	IV           string `json:"iv"`
	Ciphertext   string `json:"ciphertext"`
	Tag          string `json:"tag"`
}

func seal(data []byte, to *ecdh.PublicKey) (sealed, error) {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return sealed{}, err
	}
	shared, err := own.ECDH(to)
	if err != nil {
		return sealed{}, err
	}
	random := make([]byte, 32+12)
	if _, err := rand.Read(random); err != nil {
		return sealed{}, err
	}
	key, iv := random[:32], random[32:]
	wrapped, err := wrap(concatKDF(shared), key)
	if err != nil {
		return sealed{}, err
	}
	enc := base64.RawURLEncoding.EncodeToString
	point := own.PublicKey().Bytes()
	header := enc(fmt.Appendf(nil, `{"alg":%q,"enc":%q,"epk":{"crv":"P-256","kty":"EC","x":%q,"y":%q}}`,
		keyAlgorithm, contentEncryption, enc(point[1:33]), enc(point[33:])))
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealed{}, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return sealed{}, err
	}
	out := gcm.Seal(nil, iv, data, []byte(header))
	body, tag := out[:len(data)], out[len(data):]
	return sealed{header, enc(wrapped), enc(iv), enc(body), enc(tag)}, nil
}

// concatKDF is RFC 7518, section 4.6.2, for one block of SHA-256 and without
// party information.
func concatKDF(shared []byte) []byte {
	message := binary.BigEndian.AppendUint32(nil, 1)
	message = append(message, shared...)
	message = binary.BigEndian.AppendUint32(message, uint32(len(keyAlgorithm)))
	message = append(message, keyAlgorithm...)
	message = append(message, make([]byte, 8)...) // no apu, no apv
	message = binary.BigEndian.AppendUint32(message, 256)
	sum := sha256.Sum256(message)
	return sum[:]
}

// wrap is AES key wrap (RFC 3394, section 2.2.1).
func wrap(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := append([]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}, key...)
	n := len(key) / 8
	var b [16]byte
	for t := 1; t <= 6*n; t++ {
		r := out[8*((t-1)%n+1):][:8]
		copy(b[:8], out[:8])
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		copy(r, b[8:])
		binary.BigEndian.PutUint64(out[:8], binary.BigEndian.Uint64(b[:8])^uint64(t))
	}
	return out, nil
}
