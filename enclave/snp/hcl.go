package snp

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"

	"cloister/internal/fault"
)

// The layout of what Azure's paravisor (HCL) leaves in NV index 0x01400001 of a
// confidential VM's vTPM, all numbers little-endian: a header of 32 bytes, room
// for the hardware's report, 20 bytes about the claims, and the claims. Only
// the report and, through its REPORT_DATA, the claims are authentic. (Azure's
// "Confidential VM guest attestation design"; held against a report of 2023.)
const (
	hclSignature  = "HCLA"
	hclReportAt   = 32
	hclClaimsHead = hclReportAt + ReportSize // size, version, report type, hash type, claims' length
	hclClaimsAt   = hclClaimsHead + 20

	hclTypeSNP    = 2 // 4 is Intel TDX
	hclHashSHA256 = 1

	// maxHCL bounds the index in bytes; Azure's has 2600.
	maxHCL = 16 << 10
	// hclAK names the attestation key among the claims' keys.
	hclAK = "HCLAkPub"
)

// HCL is an HCL report taken apart. None of it is believed until Verify has
// followed the report to a processor and the claims to the report.
type HCL struct {
	Report []byte // the hardware's, ReportSize bytes, made once at boot
	Claims []byte // JSON; REPORT_DATA is its SHA-256 ‖ 32 zeros
}

// VMClaims are what the paravisor says of the VM it runs.
type VMClaims struct {
	AK         *rsa.PublicKey // the vTPM's attestation key
	SecureBoot bool
	VMID       string // the cloud's name of the VM
}

// ParseHCL reads the content of the NV index, with whatever pads its end.
func ParseHCL(raw []byte) (*HCL, error) {
	if len(raw) < hclClaimsAt || len(raw) > maxHCL {
		return nil, badHCL("it has %d bytes, expected %d to %d", len(raw), hclClaimsAt, maxHCL)
	}
	if !bytes.HasPrefix(raw, []byte(hclSignature)) {
		return nil, badHCL("it does not begin with %s", hclSignature)
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	if kind := word(hclClaimsHead + 8); kind != hclTypeSNP {
		return nil, badHCL("its hardware report is of type %d, not %d for SEV-SNP", kind, hclTypeSNP)
	}
	if hash := word(hclClaimsHead + 12); hash != hclHashSHA256 {
		return nil, badHCL("its claims are hashed by algorithm %d, not %d for SHA-256", hash, hclHashSHA256)
	}
	length := word(hclClaimsHead + 16)
	if length == 0 || uint64(length) > uint64(len(raw)-hclClaimsAt) {
		return nil, badHCL("its claims have %d bytes where %d follow", length, len(raw)-hclClaimsAt)
	}
	return &HCL{
		Report: bytes.Clone(raw[hclReportAt : hclReportAt+ReportSize]),
		Claims: bytes.Clone(raw[hclClaimsAt : hclClaimsAt+int(length)]),
	}, nil
}

// parseVMClaims reads the claims. An attestation key must be there once.
func parseVMClaims(data []byte) (*VMClaims, error) {
	var claims struct {
		Keys []struct{ KID, KTY, N, E string }
		VM   struct {
			SecureBoot bool   `json:"secure-boot"`
			ID         string `json:"vmUniqueId"`
		} `json:"vm-configuration"`
	}
	if err := json.Unmarshal(data, &claims); err != nil {
		return nil, badHCL("its claims: %v", err)
	}
	out := &VMClaims{SecureBoot: claims.VM.SecureBoot, VMID: claims.VM.ID}
	for _, k := range claims.Keys {
		if k.KID != hclAK {
			continue
		}
		if out.AK != nil {
			return nil, badHCL("its claims name %s twice", hclAK)
		}
		var err error
		if out.AK, err = parseAK(k.KTY, k.N, k.E); err != nil {
			return nil, err
		}
	}
	if out.AK == nil {
		return nil, badHCL("its claims name no %s", hclAK)
	}
	return out, nil
}

func parseAK(kind, modulus, exponent string) (*rsa.PublicKey, error) {
	n, errN := base64.RawURLEncoding.DecodeString(modulus)
	e, errE := base64.RawURLEncoding.DecodeString(exponent)
	if kind != "RSA" || errN != nil || errE != nil || len(e) == 0 || len(e) > 4 {
		return nil, badHCL("%s is not an RSA key", hclAK)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := key.N.BitLen(); bits < 2048 || bits > 4096 || key.E < 3 || key.E > 1<<31-1 {
		return nil, badHCL("%s has %d bits, expected 2048 to 4096", hclAK, bits)
	}
	return key, nil
}

func badHCL(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "", "the HCL report is malformed: "+format, args...)
}
