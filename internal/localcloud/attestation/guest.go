package attestation

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/http"

	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-tpm/tpm2"
)

// guestVersion is the version of the interface that takes a confidential VM.
const guestVersion = "2020-10-01"

// guestInfo is AttestationInfo of POST /attest/AzureGuest, protocol 2.0. The
// service publishes no schema; this is what Microsoft's clients send. Bytes are
// in base64, but for the isolation evidence, which is in base64url.
type guestInfo struct {
	Protocol string `json:"AttestationProtocolVersion"`
	Payload  []byte `json:"ClientPayload"`
	TPM      struct {
		AKPublic       []byte `json:"AikPub"`
		Quote          []byte `json:"PcrQuote"`
		QuoteSignature []byte `json:"PcrSignature"`
		PCRSet         []uint `json:"PcrSet"`
		PCRs           []struct {
			Index  uint
			Digest []byte
		}
		Key              []byte `json:"EncKeyPub"`
		Certify          []byte `json:"EncKeyCertifyInfo"`
		CertifySignature []byte `json:"EncKeyCertifyInfoSignature"`
	} `json:"TpmInfo"`
	Isolation struct {
		Type     string
		Evidence struct {
			Proof       string
			RunTimeData string
		}
	} `json:"IsolationInfo"`
}

// guestClaims is what the paravisor says, as far as a token repeats it by name.
type guestClaims struct {
	Keys []jsonKey `json:"keys"`
	VM   struct {
		ID         string `json:"vmUniqueId"`
		SecureBoot bool   `json:"secure-boot"`
	} `json:"vm-configuration"`
}

type jsonKey struct {
	KID string `json:"kid"`
	N   string `json:"n"`
}

func (s *Service) attestGuest(w http.ResponseWriter, r *http.Request) {
	if err := checkVersion(r, guestVersion); err != nil {
		refuse(w, err)
		return
	}
	var body struct{ AttestationInfo string }
	if err := wire.ReadJSON(r, &body); err != nil {
		refuse(w, err)
		return
	}
	token, err := s.issueGuest(body.AttestationInfo)
	if err != nil {
		wire.Note(r, "%v", err)
		refuse(w, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, map[string]string{"token": token})
}

// issueGuest verifies a VM and returns its token sealed to the key in its TPM.
func (s *Service) issueGuest(encoded string) (string, error) {
	var info guestInfo
	if err := unbaseJSON("AttestationInfo", encoded, &info); err != nil {
		return "", err
	}
	if info.Protocol != "2.0" {
		return "", fmt.Errorf("AttestationProtocolVersion %q is not 2.0", info.Protocol)
	}
	hardware, claims, err := s.verifyIsolation(&info)
	if err != nil {
		return "", err
	}
	key, err := verifyTPM(&info, claims)
	if err != nil {
		return "", fmt.Errorf("TPM: %w", err)
	}
	token, err := s.sign(vmClaims(&info, hardware, claims, key))
	if err != nil {
		return "", err
	}
	return seal(token, key)
}

// verifyIsolation checks the hardware's part: a report made by the processor,
// about the paravisor's claims, of a paravisor that is known.
func (s *Service) verifyIsolation(info *guestInfo) (*evidence, *guestClaims, error) {
	if info.Isolation.Type != "SevSnp" {
		return nil, nil, fmt.Errorf("IsolationInfo.Type %q is not SevSnp", info.Isolation.Type)
	}
	var proof struct{ SnpReport, VcekCertChain string }
	if err := unbaseJSON("Proof", info.Isolation.Evidence.Proof, &proof); err != nil {
		return nil, nil, err
	}
	raw, err := unbase("SnpReport", proof.SnpReport)
	if err != nil {
		return nil, nil, err
	}
	if len(raw) != abi.ReportSize {
		return nil, nil, fmt.Errorf("SnpReport is %d bytes, not %d", len(raw), abi.ReportSize)
	}
	e := &evidence{}
	if e.report, err = abi.ReportToProto(raw); err != nil {
		return nil, nil, fmt.Errorf("SnpReport: %w", err)
	}
	if e.vcek, err = firstCertificate(proof.VcekCertChain); err != nil {
		return nil, nil, err
	}
	if err := e.decodeRuntime(data{Data: info.Isolation.Evidence.RunTimeData, Type: "JSON"}); err != nil {
		return nil, nil, err
	}
	if err := s.verifyReport(e); err != nil {
		return nil, nil, fmt.Errorf("attestation report: %w", err)
	}
	if err := verifyCertificate(e); err != nil {
		return nil, nil, fmt.Errorf("VCEK certificate: %w", err)
	}
	want, known := sha256.Sum256(e.runtimeData), platform.Measurement()
	switch {
	case !bytes.Equal(e.report.ReportData, append(want[:], make([]byte, 32)...)):
		return nil, nil, errors.New("the hash of RunTimeData does not match the report's REPORT_DATA")
	case e.report.Vmpl == math.MaxUint32:
		return nil, nil, errors.New("attestation report: the host asked for it, not the guest (VMPL 0xFFFFFFFF)")
	case !bytes.Equal(e.report.Measurement, known[:]):
		return nil, nil, errors.New("attestation report: the launch measurement is of no known paravisor")
	}
	var claims guestClaims
	return e, &claims, json.Unmarshal(e.runtimeData, &claims)
}

// verifyTPM checks that the attestation key is the paravisor's, that it quoted
// the PCRs and that it certifies the encryption key, which is returned.
func verifyTPM(info *guestInfo, claims *guestClaims) (*rsa.PublicKey, error) {
	ak, _, err := publicKey(info.TPM.AKPublic)
	if err != nil {
		return nil, fmt.Errorf("AikPub: %w", err)
	}
	if !claims.names("HCLAkPub", ak) {
		return nil, errors.New("AikPub is not the HCLAkPub of RunTimeData")
	}
	quoted, err := signedBy(ak, info.TPM.Quote, info.TPM.QuoteSignature)
	if err != nil {
		return nil, fmt.Errorf("PcrQuote: %w", err)
	}
	if err := verifyPCRs(info, quoted); err != nil {
		return nil, err
	}
	key, name, err := publicKey(info.TPM.Key)
	if err != nil {
		return nil, fmt.Errorf("EncKeyPub: %w", err)
	}
	certified, err := signedBy(ak, info.TPM.Certify, info.TPM.CertifySignature)
	if err != nil {
		return nil, fmt.Errorf("EncKeyCertifyInfo: %w", err)
	}
	about, err := certified.Attested.Certify()
	if err != nil || !bytes.Equal(about.Name.Buffer, name) {
		return nil, errors.New("EncKeyCertifyInfo certifies another key than EncKeyPub")
	}
	return key, nil
}

func (c *guestClaims) names(kid string, key *rsa.PublicKey) bool {
	for _, k := range c.Keys {
		if n, err := base64.RawURLEncoding.DecodeString(k.N); k.KID == kid && err == nil && bytes.Equal(n, key.N.Bytes()) {
			return true
		}
	}
	return false
}

func verifyPCRs(info *guestInfo, attest *tpm2.TPMSAttest) error {
	quoted, err := attest.Attested.Quote()
	if err != nil || len(quoted.PCRSelect.PCRSelections) != 1 {
		return errors.New("PcrQuote is not a quote of one bank")
	}
	h := sha256.New()
	for i, pcr := range info.TPM.PCRs {
		if i >= len(info.TPM.PCRSet) || info.TPM.PCRSet[i] != pcr.Index {
			return errors.New("PCRs are not those of PcrSet")
		}
		h.Write(pcr.Digest)
	}
	selected := tpm2.PCClientCompatible.PCRs(info.TPM.PCRSet...)
	if !bytes.Equal(selected, quoted.PCRSelect.PCRSelections[0].PCRSelect) || !bytes.Equal(h.Sum(nil), quoted.PCRDigest.Buffer) {
		return errors.New("PCRs are not those that PcrQuote is over")
	}
	return nil
}

// signedBy checks a signature and reads what was signed.
func signedBy(ak *rsa.PublicKey, message, signature []byte) (*tpm2.TPMSAttest, error) {
	sum := sha256.Sum256(message)
	if err := rsa.VerifyPKCS1v15(ak, crypto.SHA256, sum[:], signature); err != nil {
		return nil, errors.New("it is not signed by AikPub")
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](message)
	if err == nil {
		err = attest.Magic.Check() // or the key only signed what it was handed
	}
	return attest, err
}

// publicKey reads a TPM2B_PUBLIC of an RSA key, and computes its name.
func publicKey(raw []byte) (*rsa.PublicKey, []byte, error) {
	outer, err := tpm2.Unmarshal[tpm2.TPM2BPublic](raw)
	if err != nil {
		return nil, nil, err
	}
	public, err := outer.Contents()
	if err != nil {
		return nil, nil, err
	}
	parms, err := public.Parameters.RSADetail()
	if err != nil {
		return nil, nil, err
	}
	unique, err := public.Unique.RSA()
	if err != nil {
		return nil, nil, err
	}
	key, err := tpm2.RSAPub(parms, unique)
	if err != nil || key.N.BitLen() < 2048 {
		return nil, nil, errors.New("it is not an RSA key of 2048 bits or more")
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, nil, err
	}
	return key, name.Buffer, nil
}

// vmClaims are a VM's token: the system's claims, and nested the hardware's. Of
// the system's, which the service reads from the event log, only those are
// played that say what the paravisor says.
func vmClaims(info *guestInfo, hardware *evidence, vm *guestClaims, key *rsa.PublicKey) map[string]any {
	tee := hardwareClaims(hardware.report, "azure-compliant-cvm")
	tee["x-ms-runtime"] = hardware.runtime
	enc := base64.RawURLEncoding.EncodeToString
	runtime := map[string]any{"keys": []any{map[string]any{
		"kid": "TpmEphemeralEncryptionKey", "kty": "RSA", "key_ops": []string{"encrypt"},
		"n": enc(key.N.Bytes()), "e": enc(big.NewInt(int64(key.E)).Bytes()),
	}}}
	var payload map[string]any
	if json.Unmarshal(info.Payload, &payload) == nil && len(payload) > 0 {
		runtime["client-payload"] = payload
	}
	claims := commonClaims()
	claims["x-ms-attestation-type"] = "azurevm"
	claims["x-ms-azurevm-attestation-protocol-ver"] = info.Protocol
	claims["x-ms-azurevm-attested-pcrs"] = info.TPM.PCRSet
	claims["x-ms-azurevm-vmid"] = vm.VM.ID
	claims["secureboot"] = vm.VM.SecureBoot
	claims["x-ms-isolation-tee"] = tee
	claims["x-ms-runtime"] = runtime
	return claims
}

// seal encrypts a token as the service does: AES-256-GCM, under a key that only
// the TPM opens. The key is used once.
func seal(token string, to *rsa.PublicKey) (string, error) {
	inner, iv := make([]byte, 32), make([]byte, 12)
	if _, err := rand.Read(inner); err != nil {
		return "", err
	}
	if _, err := rand.Read(iv); err != nil {
		return "", err
	}
	block, err := aes.NewCipher(inner)
	if err != nil {
		return "", err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	box := aead.Seal(nil, iv, []byte(token), []byte("Transport Key"))
	wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, to, inner) //nolint:staticcheck // the service's protocol
	if err != nil {
		return "", err
	}
	tag := len(box) - aead.Overhead()
	answer, err := json.Marshal(map[string]any{
		"EncryptedInnerKey": wrapped, "EncryptionParams": map[string]any{"Iv": iv},
		"AuthenticationData": box[tag:], "Jwt": box[:tag],
	})
	return base64.RawURLEncoding.EncodeToString(answer), err
}
