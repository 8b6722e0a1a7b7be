package swtpm

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// Handles of Azure's vTPMs.
const (
	hclIndex = 0x01400001
	akHandle = 0x81000003

	// hclSize is the most that libtpms allows; the newest of Azure are 2600 bytes.
	hclSize = 2048
)

// VMID is the name of the VM in the claims.
const VMID = "2DEDC52A-6832-46CE-9910-E8C9980BF5A7"

// Provision makes an attestation key, has report make the hardware's report
// over the claims that name it, and stores both. It returns the HCL report.
func (t *TPM) Provision(tb testing.TB, report func(reportData [64]byte) []byte) []byte {
	tb.Helper()
	claims := claimsAbout(tb, t.MakeAK(tb, "of the report"))
	var about [64]byte
	sum := sha256.Sum256(claims)
	copy(about[:], sum[:])
	hcl := HCL(report(about), claims)
	t.StoreHCL(tb, hcl)
	return hcl
}

// MakeAK puts an attestation key at its handle, in place of one that is there,
// and returns its modulus. Each name is a key of its own.
func (t *TPM) MakeAK(tb testing.TB, name string) []byte {
	tb.Helper()
	unique := make([]byte, 256)
	copy(unique, name)
	made, err := tpm2.CreatePrimary{PrimaryHandle: owner(), InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
			KeyBits: 2048,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: unique}),
	})}.Execute(t)
	must(tb, err)
	if old, err := (tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(akHandle)}).Execute(t); err == nil {
		_, err = tpm2.EvictControl{Auth: owner(), ObjectHandle: &tpm2.NamedHandle{Handle: akHandle, Name: old.Name}, PersistentHandle: akHandle}.Execute(t)
		must(tb, err)
	}
	_, err = tpm2.EvictControl{Auth: owner(), ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: akHandle}.Execute(t)
	must(tb, err)
	_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(t)
	must(tb, err)
	public, err := made.OutPublic.Contents()
	must(tb, err)
	modulus, err := public.Unique.RSA()
	must(tb, err)
	return modulus.Buffer
}

// claimsAbout writes claims as the paravisor does.
func claimsAbout(tb testing.TB, modulus []byte) []byte {
	claims, err := json.Marshal(map[string]any{
		"keys": []any{map[string]any{
			"kid": "HCLAkPub", "key_ops": []string{"sign"}, "kty": "RSA", "e": "AQAB",
			"n": base64.RawURLEncoding.EncodeToString(modulus),
		}},
		"vm-configuration": map[string]any{
			"console-enabled": true, "current-time": 1678652405, "secure-boot": true, "tpm-enabled": true, "vmUniqueId": VMID,
		},
	})
	must(tb, err)
	return claims
}

// HCL writes an HCL report, in the layout of version 2.
func HCL(report, claims []byte) []byte {
	le := binary.LittleEndian
	out := []byte("HCLA")
	out = le.AppendUint32(out, 2)                                     // version
	out = le.AppendUint32(out, uint32(32+len(report)+20+len(claims))) // of it all
	out = le.AppendUint32(out, 2)                                     // request: attestation key's certificate
	out = append(out, make([]byte, 16)...)                            // status, reserved
	out = append(out, report...)
	out = le.AppendUint32(out, uint32(20+len(claims)))
	out = le.AppendUint32(out, 1) // version
	out = le.AppendUint32(out, 2) // SEV-SNP
	out = le.AppendUint32(out, 1) // SHA-256
	out = le.AppendUint32(out, uint32(len(claims)))
	return append(out, claims...)
}

// StoreHCL puts bytes into the NV index, in place of what is there.
func (t *TPM) StoreHCL(tb testing.TB, hcl []byte) {
	tb.Helper()
	t.RemoveHCL(tb)
	_, err := tpm2.NVDefineSpace{AuthHandle: owner(), PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: hclIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: hclSize,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true},
	})}.Execute(t)
	must(tb, err)
	padded := append(append([]byte{}, hcl...), make([]byte, hclSize-len(hcl))...)
	for at := 0; at < hclSize; at += 1024 {
		public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(hclIndex)}.Execute(t) // its name changes with the first write
		must(tb, err)
		_, err = tpm2.NVWrite{AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: hclIndex, Name: public.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: padded[at:min(at+1024, hclSize)]}, Offset: uint16(at)}.Execute(t)
		must(tb, err)
	}
}

// RemoveHCL takes the NV index away, if it is there.
func (t *TPM) RemoveHCL(tb testing.TB) {
	tb.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(hclIndex)}.Execute(t)
	if err != nil {
		return
	}
	_, err = tpm2.NVUndefineSpace{AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: hclIndex, Name: public.NVName}}.Execute(t)
	must(tb, err)
}

// Extend measures something into a PCR.
func (t *TPM) Extend(tb testing.TB, pcr uint32, what string) {
	tb.Helper()
	sum := sha256.Sum256([]byte(what))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: sum[:]}}},
	}.Execute(t)
	must(tb, err)
}

func owner() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
