package keyfile

import (
	"bytes"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"filippo.io/age/armor"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// Escrow writes a new file, path, that holds the key file of a root secret sealed
// for recipients: age public keys (https://age-encryption.org), whose private
// halves any age program opens it with. Whoever has one of them has every key that
// is derived from the secret. Errors are of kind Usage for what is no recipient,
// and Conflict where path is there.
func Escrow(path string, secret *format.RootSecret, recipients []string) error {
	var keys []age.Recipient
	for _, text := range recipients {
		key, err := age.ParseX25519Recipient(text)
		if err != nil {
			return fault.Errorf(fault.Usage, "make a key with age-keygen, and give the public one, age1...", "%.80q is no recovery key: %w", text, err)
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return fault.Errorf(fault.Usage, "", "no recovery key is given")
	}
	plain, err := encode(secret, nil, 0)
	if err != nil {
		return err
	}
	defer clear(plain)
	sealed, err := seal(plain, keys)
	if err != nil {
		return err
	}
	return create(path, sealed)
}

func seal(plain []byte, keys []age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, keys...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := text.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Recover returns the root secret in a file that Escrow wrote, the caller's to
// destroy. identities is a file of age private keys, of the owner's alone.
func Recover(path, identities string) (*format.RootSecret, error) {
	private, err := readPrivate("recovery key", identities)
	defer clear(private)
	if err != nil {
		return nil, err
	}
	keys, err := age.ParseIdentities(bytes.NewReader(private))
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give a file that age-keygen made", "%s holds no recovery key", identities)
	}
	sealed, err := os.Open(path)
	if err != nil {
		return nil, explain("reading", path, "", err)
	}
	defer sealed.Close()
	r, err := age.Decrypt(armor.NewReader(io.LimitReader(sealed, maxFile)), keys...)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "give the private key that it was sealed for", "%s cannot be opened with %s: %w", filepath.Base(path), identities, err)
	}
	plain, err := io.ReadAll(r)
	defer clear(plain)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "use another copy", "%s is damaged: %w", path, err)
	}
	return Parse(plain, nil)
}
