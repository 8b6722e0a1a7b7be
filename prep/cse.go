package prep

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	"cloister/internal/fault"
	"cloister/prep/tree"
)

// CSE reads files in the layout of Azure clean room's client-side encryption:
// blocks of nonce (12 bytes) ‖ ciphertext ‖ tag (16), each AES-256-GCM over
// BlockSize bytes without associated data, the last one filled up with zeros,
// and behind them the number of those zeros in 8 bytes, big-endian. An empty
// file is those 8 bytes alone.
type CSE struct {
	aead  cipher.AEAD
	block int64 // plaintext bytes of a block
}

const (
	// CSEBlockSize is the block size that Azure clean room uses unless it is
	// configured otherwise, in bytes.
	CSEBlockSize = 16 << 20

	maxCSEBlock = 1 << 30
	cseOverhead = 12 + 16
	cseTrailer  = 8
)

// CSEGaps are what the layout could not protect, for whoever imports from it.
func CSEGaps() []string {
	return []string{
		"names, the tree, times and sizes were in the clear, and could be changed",
		"blocks are not bound to their place: blocks and files sealed under one key could be exchanged, repeated or put in another order",
		"a file's end is not authenticated: whole blocks could be cut off, and the length within the last one changed",
		"nothing tells an old state of a file or of the dataset from the newest",
	}
}

// NewCSE returns a reader for a key of 32 bytes. It does not keep the key.
func NewCSE(key []byte, block int64) (*CSE, error) {
	if len(key) != 32 {
		return nil, fault.Errorf(fault.Usage, "name a file of 32 bytes, or of their base64", "an AES-256 key has 32 bytes, this has %d", len(key))
	}
	if block < 1 || block > maxCSEBlock {
		return nil, fault.Errorf(fault.Usage, "give what the dataset was encrypted with", "blocks of %d bytes are out of range", block)
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(b)
	return &CSE{aead, block}, err
}

// plainSize returns how many bytes a file of the layout holds.
func (c *CSE) plainSize(path string, sealed int64) (int64, error) {
	n := sealed - cseTrailer
	if n < 0 || n%(c.block+cseOverhead) != 0 {
		return 0, fault.Errorf(fault.Refused, "name the block size that it was encrypted with, or fetch the file again",
			"%s has %d bytes: that is no number of whole blocks of %d bytes; it was cut short, or is not of this layout", path, sealed, c.block)
	}
	f, err := tree.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var trailer [cseTrailer]byte
	if _, err := f.ReadAt(trailer[:], n); err != nil {
		return 0, readError(path, err)
	}
	blocks := n / (c.block + cseOverhead)
	padding := binary.BigEndian.Uint64(trailer[:])
	if blocks == 0 && padding == 0 {
		return 0, nil
	}
	if padding >= uint64(c.block) {
		return 0, fault.Errorf(fault.Refused, "fetch the file again", "%s says that %d bytes of its last block of %d are padding", path, padding, c.block)
	}
	if blocks == 0 {
		return 0, fault.Errorf(fault.Refused, "fetch the file again", "%s has no block, and says that %d bytes of one are padding", path, padding)
	}
	return blocks*c.block - int64(padding), nil
}

func readError(path string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return tree.Changed(path, "it has become shorter")
	}
	return tree.Explain("reading", path, err)
}

// readAt fills dst with the plaintext from off; the file holds size bytes of
// it.
func (c *CSE) readAt(f *os.File, path string, dst []byte, off, size int64) error {
	sealed := make([]byte, c.block+cseOverhead)
	for len(dst) > 0 {
		block := off / c.block
		if _, err := f.ReadAt(sealed, block*(c.block+cseOverhead)); err != nil {
			return readError(path, err)
		}
		plain, err := c.aead.Open(sealed[12:12], sealed[:12], sealed[12:], nil)
		if err != nil {
			return fault.Errorf(fault.Refused, "name the dataset's key and block size, or fetch the file again",
				"block %d of %s does not open: it was changed, or the key or the block size is another", block, path)
		}
		if used := size - block*c.block; used < c.block && slices.ContainsFunc(plain[used:], func(b byte) bool { return b != 0 }) {
			return fault.Errorf(fault.Refused, "fetch the file again", "%s: its padding is not zeros, so its length was changed", path)
		}
		n := copy(dst, plain[off-block*c.block:])
		dst, off = dst[n:], off+int64(n)
		clear(plain)
	}
	return nil
}
