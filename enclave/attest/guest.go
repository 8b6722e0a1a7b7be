package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cloister/enclave/azure"
	"cloister/enclave/snp"
	"cloister/enclave/snp/vtpm"
)

// A confidential VM asks the service at another place, which takes the TPM's
// part of the evidence too and seals its token to a key of that TPM. The
// protocol has no published specification; what is sent and read here is what
// Microsoft's own clients (Azure/azure-guest-attestation-sdk, protocol 2.0) do.
const (
	guestPath     = "/attest/AzureGuest?api-version=2020-10-01"
	guestProtocol = "2.0"
	sealedContext = "Transport Key" // additional data of the sealed token
)

// GuestKeyID is the service's name for a VM's release key.
const GuestKeyID = "TpmEphemeralEncryptionKey"

// GuestKey is a key in the TPM of this VM.
type GuestKey interface {
	crypto.Decrypter
	Guest() vtpm.Guest
}

// AttestGuest has the service judge a confidential VM and returns its verified
// token. runtimeData, which the quote must cover, is the JWKS that the service
// will write for the key.
func (c *Client) AttestGuest(ctx context.Context, e *snp.Evidence, runtimeData []byte, key GuestKey) (*Token, error) {
	ctx, cancel := azure.Bound(ctx, c.deadline)
	defer cancel()
	body, err := newGuestRequest(e, key.Guest())
	if err != nil {
		return nil, err
	}
	keys := c.beginKeys(ctx)
	var answer struct{ Token string }
	if err := c.call(ctx, http.MethodPost, guestPath, body, &answer); err != nil {
		return nil, fmt.Errorf("asking the attestation service: %w", err)
	}
	raw, err := unseal(answer.Token, key)
	if err != nil {
		return nil, err
	}
	set, err := keys()
	if err != nil {
		return nil, err
	}
	token, err := c.verify(raw, set, e, runtimeData, "")
	if unknown := (unknownKey{}); !errors.As(err, &unknown) {
		return token, err
	}
	if set, err = c.beginKeys(ctx)(); err != nil {
		return nil, err
	}
	return c.verify(raw, set, e, runtimeData, "")
}

// unseal opens the service's answer: a token under AES-GCM under RSAES-PKCS1-v1_5
// of the TPM's key. There is one try a key, so the old padding is no oracle; what
// comes out is judged by its own signature.
func unseal(answer string, key GuestKey) (string, error) {
	var sealed struct {
		Key    []byte `json:"EncryptedInnerKey"`
		Params struct {
			IV []byte `json:"Iv"`
		} `json:"EncryptionParams"`
		Tag   []byte `json:"AuthenticationData"`
		Token []byte `json:"Jwt"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(answer, "="))
	if err != nil || len(answer) > 4*maxToken {
		return "", badToken("it is not sealed to the TPM's key")
	}
	if err := json.Unmarshal(raw, &sealed); err != nil {
		return "", badToken("it is not sealed to the TPM's key: %v", err)
	}
	inner, err := key.Decrypt(nil, sealed.Key, &rsa.PKCS1v15DecryptOptions{})
	if err != nil {
		return "", badToken("%v", err)
	}
	defer clear(inner)
	block, err := aes.NewCipher(inner)
	if err != nil {
		return "", badToken("the key it is sealed with: %v", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	if len(sealed.Params.IV) != aead.NonceSize() {
		return "", badToken("the nonce it is sealed with has %d bytes", len(sealed.Params.IV))
	}
	token, err := aead.Open(nil, sealed.Params.IV, append(bytes.Clone(sealed.Token), sealed.Tag...), []byte(sealedContext))
	if err != nil {
		return "", badToken("it does not unseal")
	}
	return string(token), nil
}

// guestInfo is the request's AttestationInfo. Bytes are in base64, but for the
// isolation evidence, which is in base64url.
type guestInfo struct {
	Protocol  string `json:"AttestationProtocolVersion"`
	OSType    []byte
	OSDistro  []byte
	OSMajor   string        `json:"OSVersionMajor"`
	OSMinor   string        `json:"OSVersionMinor"`
	OSBuild   []byte        `json:"OSBuild"`
	TCGLogs   []byte        `json:"TcgLogs"`
	Payload   []byte        `json:"ClientPayload"`
	TPM       tpmInfo       `json:"TpmInfo"`
	Isolation isolationInfo `json:"IsolationInfo"`
}

type tpmInfo struct {
	AKCert         []byte `json:"AikCert"`
	AKPublic       []byte `json:"AikPub"`
	Quote          []byte `json:"PcrQuote"`
	QuoteSignature []byte `json:"PcrSignature"`
	PCRSet         []uint `json:"PcrSet"`
	PCRs           []pcr  `json:"PCRs"`
	Key            []byte `json:"EncKeyPub"`
	Certify        []byte `json:"EncKeyCertifyInfo"`
	CertifySigned  []byte `json:"EncKeyCertifyInfoSignature"`
}

type pcr struct {
	Index  uint
	Digest []byte
}

type isolationInfo struct {
	Type     string `json:"Type"`
	Evidence struct {
		Proof       string `json:"Proof"`       // base64url(JSON of guestReport)
		RuntimeData string `json:"RunTimeData"` // base64url(the HCL's claims)
	} `json:"Evidence"`
}

type guestReport struct {
	SnpReport     string `json:"SnpReport"`
	VcekCertChain string `json:"VcekCertChain"`
}

func newGuestRequest(e *snp.Evidence, guest vtpm.Guest) ([]byte, error) {
	if e.Quote == nil {
		return nil, errors.New("there is no quote: this is not a confidential VM's evidence")
	}
	enc := base64.RawURLEncoding.EncodeToString
	proof, err := json.Marshal(guestReport{SnpReport: enc(e.Report), VcekCertChain: enc(e.HostCerts.PEM())})
	if err != nil {
		return nil, err
	}
	info := guestInfo{
		Protocol: guestProtocol, OSType: []byte("Linux"), OSDistro: []byte("Linux"), OSMajor: "0", OSMinor: "0",
		OSBuild: []byte("NotApplication"), TCGLogs: guest.EventLog, Payload: []byte{},
		TPM: tpmInfo{
			AKCert: guest.AKCert, AKPublic: guest.AKPublic, Quote: e.Quote.Message, QuoteSignature: e.Quote.Signature,
			PCRSet: e.Quote.PCRs.Indexes(), Key: guest.Public, Certify: guest.Certify, CertifySigned: guest.Signature,
		},
	}
	for _, i := range e.Quote.PCRs.Indexes() {
		value := e.Quote.PCRs[i]
		info.TPM.PCRs = append(info.TPM.PCRs, pcr{i, value[:]})
	}
	info.Isolation.Type = "SevSnp"
	info.Isolation.Evidence.Proof, info.Isolation.Evidence.RuntimeData = enc(proof), enc(e.Quote.Claims)
	text, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"AttestationInfo": enc(text)})
}

// checkGuest compares what the service says of a VM with the local evidence. The
// claims about the hardware are nested; those of the first level are about the
// system that the TPM measured.
func checkGuest(checks *snp.Checks, got *claims, e *snp.Evidence, r *snp.Report) {
	checks.Add("x-ms-attestation-type", "azurevm", orAbsent(got.Type))
	checks.Add("secureboot", "true", showBool(got.SecureBoot))
	pcrs, _ := json.Marshal(e.Quote.PCRs.Indexes())
	checks.AddIf("x-ms-azurevm-attested-pcrs", string(pcrs), orAbsent(string(got.PCRs)), sameJSON(got.PCRs, pcrs))
	tee := got.TEE
	if tee == nil {
		checks.AddIf(teeClaim, "the hardware's claims", absent, false)
		return
	}
	nested := snp.Checks{}
	actual, same := "the HCL's claims", sameJSON(tee.Runtime, e.Quote.Claims)
	if !same {
		actual = orAbsent(fmt.Sprintf("%.200s", tee.Runtime))
	}
	nested.AddIf("x-ms-runtime", "the HCL's claims", actual, same)
	checkReport(&nested, tee, r, "azure-compliant-cvm")
	for _, c := range nested {
		checks.AddIf(teeClaim+"."+c.Name, c.Expected, c.Actual, c.OK)
	}
}

const teeClaim = "x-ms-isolation-tee"

// guestRuntime takes away what the service adds to the runtime data of a VM: the
// client's payload, which is empty.
func guestRuntime(got json.RawMessage) json.RawMessage {
	var runtime map[string]json.RawMessage
	if json.Unmarshal(got, &runtime) != nil {
		return got
	}
	if payload := strings.TrimSpace(string(runtime["client-payload"])); payload == "" || payload == "{}" || payload == "null" || payload == `""` {
		delete(runtime, "client-payload")
	}
	out, err := json.Marshal(runtime)
	if err != nil {
		return got
	}
	return out
}
