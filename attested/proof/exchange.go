package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"cloister/internal/fault"
)

// exporterLabel is RFC 8446's, section 7.5, for this use and no other.
const exporterLabel = "EXPORTER-cloister-attested-v1"

// signatureTag begins what is signed. TLS 1.3's own signature by the same key
// begins with 64 spaces (RFC 8446, section 4.4.3): neither stands for the other.
const signatureTag = "cloister attested connection v1"

// Limits of an answer, in bytes. A checkpoint with eight cosignatures has some
// 1,500; an ECDSA signature on P-256 at most 72.
const (
	maxCheckpoint = 16 << 10
	maxSignature  = 128
	nonceSize     = 32
)

// Statement is what the enclave signs of one connection.
type Statement struct {
	Nonce      [nonceSize]byte // the client's
	Exporter   [32]byte        // of this connection
	Contract   [32]byte        // digest of the contract version that is carried out
	Checkpoint []byte          // the newest that the enclave has verified: a signed note; may be empty
}

// message is the tag and the fields, each after its length.
func (s Statement) message() []byte {
	m := []byte(signatureTag)
	for _, field := range [][]byte{s.Nonce[:], s.Exporter[:], s.Contract[:], s.Checkpoint} {
		m = binary.BigEndian.AppendUint32(m, uint32(len(field)))
		m = append(m, field...)
	}
	return m
}

// Verify reports whether key, of the certificate, signed the statement.
func (s Statement) Verify(key crypto.PublicKey, signature []byte) bool {
	k, ok := key.(*ecdsa.PublicKey)
	sum := sha256.Sum256(s.message())
	return ok && ecdsa.VerifyASN1(k, sum[:], signature)
}

func exporter(c tls.ConnectionState) (out [32]byte, err error) {
	if c.Version != tls.VersionTLS13 {
		return out, errors.New("the connection is not TLS 1.3")
	}
	raw, err := c.ExportKeyingMaterial(exporterLabel, nil, len(out))
	if err != nil {
		return out, fmt.Errorf("the connection's exporter: %w", err)
	}
	return [32]byte(raw), nil
}

// Answer reads a client's nonce and writes the enclave's answer: the checkpoint
// and the signature, each after its length in two bytes.
func Answer(c *tls.Conn, key crypto.Signer, contract [32]byte, checkpoint []byte) error {
	s := Statement{Contract: contract, Checkpoint: checkpoint}
	if len(checkpoint) > maxCheckpoint {
		return fmt.Errorf("the checkpoint has %d bytes, more than the %d allowed", len(checkpoint), maxCheckpoint)
	}
	if _, err := io.ReadFull(c, s.Nonce[:]); err != nil {
		return fmt.Errorf("reading a client's nonce: %w", err)
	}
	var err error
	if s.Exporter, err = exporter(c.ConnectionState()); err != nil {
		return err
	}
	sum := sha256.Sum256(s.message())
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("signing for a connection: %w", err)
	}
	_, err = c.Write(appendField(appendField(nil, checkpoint), signature))
	return err
}

func appendField(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// Ask sends a fresh nonce and returns what the enclave must have signed if it is
// at this connection's end and carries out contract, and its signature.
func Ask(c *tls.Conn, contract [32]byte) (s Statement, signature []byte, err error) {
	s.Contract = contract
	if s.Exporter, err = exporter(c.ConnectionState()); err != nil {
		return s, nil, err
	}
	if _, err = rand.Read(s.Nonce[:]); err != nil {
		return s, nil, err
	}
	if _, err = c.Write(s.Nonce[:]); err != nil {
		return s, nil, fmt.Errorf("sending the nonce: %w", err)
	}
	if s.Checkpoint, err = readField(c, maxCheckpoint); err != nil {
		return s, nil, err
	}
	signature, err = readField(c, maxSignature)
	return s, signature, err
}

func readField(r io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, fault.Errorf(fault.Refused, "", "the enclave's answer to the nonce ends early: %w", err)
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > limit {
		return nil, fault.Errorf(fault.Refused, "", "the enclave's answer to the nonce has a part of %d bytes, more than the %d allowed", n, limit)
	}
	field := make([]byte, n)
	if _, err := io.ReadFull(r, field); err != nil {
		return nil, fault.Errorf(fault.Refused, "", "the enclave's answer to the nonce ends early: %w", err)
	}
	return field, nil
}
