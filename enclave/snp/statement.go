package snp

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
)

// Statement is what a report vouches for: KeyRelease, KeyBroker, Identity or Ledger.
type Statement interface {
	// ReportData is the 64 bytes the report carries.
	ReportData() ([64]byte, error)
	statement()
}

// KeyRelease is the attestation service's purpose: the runtime data, a JWKS
// holding the public key that released keys shall be wrapped to. The service
// demands the bare form, SHA-256 ‖ 32 zero bytes, over a JSON object.
type KeyRelease struct{ RuntimeData []byte }

func (KeyRelease) statement() {}

// ReportData refuses runtime data that is not a JSON object, so that this
// untagged form can never cover the bytes of a tagged purpose.
func (k KeyRelease) ReportData() ([64]byte, error) {
	var out [64]byte
	if !bytes.HasPrefix(k.RuntimeData, []byte("{")) || !json.Valid(k.RuntimeData) {
		return out, errors.New("runtime data for key release must be a JSON object")
	}
	return RuntimeReportData(k.RuntimeData), nil
}

// RuntimeReportData is the REPORT_DATA of a report about runtime data in the
// attestation service's form. It is for judging evidence; reports are made for
// statements only.
func RuntimeReportData(data []byte) (out [64]byte) {
	sum := sha256.Sum256(data)
	copy(out[:], sum[:])
	return out
}

// brokerPrefix begins the runtime data of every key broker's purpose: its
// canonical JSON (RFC 8785) sorts this member first. No JWKS begins with it and
// no tagged message does, so it stands where the protocol has no room for a tag.
const brokerPrefix = `{"additional-evidence":`

// KeyBroker is the purpose of the Confidential Containers' Key Broker Service:
// its runtime data, canonical JSON of the broker's nonce and of the public key
// that resources shall be encrypted to. The protocol hashes those bytes bare, so
// what keeps this purpose apart from the others is the hash: SHA-384 ‖ 16 zero
// bytes is neither the attestation service's SHA-256 ‖ 32 zero bytes nor the 64
// bytes of an Identity's SHA-512, but with a chance of 2⁻¹²⁸. So a broker that
// asks for another hash, as the protocol lets it, gets no report.
type KeyBroker struct{ RuntimeData []byte }

func (KeyBroker) statement() {}

// ReportData refuses what is not a broker's runtime data.
func (k KeyBroker) ReportData() ([64]byte, error) {
	var out [64]byte
	if !bytes.HasPrefix(k.RuntimeData, []byte(brokerPrefix)) || !json.Valid(k.RuntimeData) {
		return out, errors.New("runtime data for a key broker must be a JSON object that begins with additional-evidence")
	}
	sum := sha512.Sum384(k.RuntimeData)
	copy(out[:], sum[:])
	return out, nil
}

// identityTag begins with a letter, which no JSON object does.
const identityTag = "cloister identity v1"

// Identity binds who this process is in this run: the audit key signs its
// records, the TLS key its connections.
type Identity struct {
	RunID          [16]byte
	ContractDigest [32]byte
	AuditKey       []byte // SubjectPublicKeyInfo, DER
	TLSKey         []byte // SubjectPublicKeyInfo, DER
}

func (Identity) statement() {}

// ReportData is SHA-512 of the tag and the fields, each after its length as a
// 32-bit big-endian number, so that no two identities share a message. All 64
// bytes are used: the form of KeyRelease cannot even be imitated.
func (i Identity) ReportData() ([64]byte, error) {
	if len(i.AuditKey) == 0 || len(i.TLSKey) == 0 {
		return [64]byte{}, errors.New("an identity needs an audit key and a TLS key")
	}
	message := []byte(identityTag)
	for _, field := range [][]byte{i.RunID[:], i.ContractDigest[:], i.AuditKey, i.TLSKey} {
		message = binary.BigEndian.AppendUint32(message, uint32(len(field)))
		message = append(message, field...)
	}
	return sha512.Sum512(message), nil
}
