package keyfile

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"cloister/fs/format"
)

const (
	magic       = "cloister-key-v1."
	checksumLen = 4
	// lineLen is the length of a key line with its new line.
	lineLen = len(magic) + 2*32 + 1 + 2*checksumLen + 1

	plainComment  = "# Cloister root secret: who has this file can read every volume sealed with it. Keep a copy safe; without it they are lost.\n"
	lockedComment = "# Cloister root secret under a passphrase: both are needed to read the volumes sealed with it. Keep a copy safe.\n"
)

// encodeLine returns the key line. The caller wipes it.
func encodeLine(secret *format.RootSecret) []byte {
	line := make([]byte, 0, lineLen)
	line = append(line, magic...)
	line = hex.AppendEncode(line, secret.Expose())
	line = append(line, '.')
	line = hex.AppendEncode(line, checksum(secret.Expose()))
	return append(line, '\n')
}

// parseLine reads what encodeLine writes, and nothing else. Its errors never
// quote the line.
func parseLine(line []byte) (*format.RootSecret, error) {
	if !bytes.HasPrefix(line, []byte(magic)) {
		return nil, fmt.Errorf("the key line does not begin with %s", magic)
	}
	if len(line) != lineLen || line[lineLen-1] != '\n' || line[len(magic)+64] != '.' {
		return nil, fmt.Errorf("the key line is not %d characters and a new line", lineLen-1)
	}
	raw, err := decodeHex(line[len(magic):][:64])
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	sum, err := decodeHex(line[len(magic)+65:][:2*checksumLen])
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(sum, checksum(raw)) != 1 {
		return nil, fmt.Errorf("the key line's checksum is wrong: a character was changed")
	}
	return format.RootSecretFromBytes(raw)
}

func checksum(raw []byte) []byte {
	h := sha256.New()
	h.Write([]byte("cloister key file v1"))
	h.Write(raw)
	return h.Sum(nil)[:checksumLen]
}

func decodeHex(digits []byte) ([]byte, error) {
	raw := make([]byte, len(digits)/2)
	_, err := hex.Decode(raw, digits)
	if err != nil || bytes.ContainsAny(digits, "ABCDEF") {
		clear(raw)
		return nil, fmt.Errorf("the key line has characters that are not lower-case hex digits")
	}
	return raw, nil
}
