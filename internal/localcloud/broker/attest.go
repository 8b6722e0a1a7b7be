package broker

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"cloister/enclave/snp"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// floors are the firmware that the simulated platform has today.
var floors = snp.Floors{snp.Milan: {Bootloader: 4, SNP: 24, Microcode: 219}}

// minUVMSVN is the lowest version of the utility VM that is served.
const minUVMSVN = 100

func (s *Service) auth(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Version string `json:"version"`
		TEE     string `json:"tee"`
	}
	err := wire.ReadJSON(r, &request)
	switch {
	case err != nil:
	case request.Version != protocolVersion:
		err = fmt.Errorf("KBS client protocol version mismatch: expect =%s while the request is %s", protocolVersion, request.Version)
	case request.TEE != "snp":
		err = fmt.Errorf("no verifier for %q", request.TEE)
	}
	if err != nil {
		refuse(w, r, http.StatusUnauthorized, "AttestationError", err)
		return
	}
	id, nonce, err := s.sessions.begin(request.TEE, s.server.Now())
	if err != nil {
		refuse(w, r, http.StatusUnauthorized, "AttestationError", err)
		return
	}
	setCookie(w, id)
	wire.WriteJSON(w, http.StatusOK, map[string]string{"nonce": nonce, "extra-params": ""})
}

func setCookie(w http.ResponseWriter, id string) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, MaxAge: int(sessionLife.Seconds())})
}

// attestation is the guest's message, taken apart before any of it is believed.
type attestation struct {
	RuntimeData struct {
		Nonce string         `json:"nonce"`
		Key   map[string]any `json:"tee-pubkey"`
	} `json:"runtime-data"`
	Evidence struct {
		Primary    evidence `json:"primary_evidence"`
		Additional string   `json:"additional_evidence"`
	} `json:"tee-evidence"`
}

func (s *Service) attest(w http.ResponseWriter, r *http.Request) {
	token, id, err := s.judge(r)
	if err != nil {
		refuse(w, r, http.StatusUnauthorized, "AttestationError", err)
		return
	}
	s.sessions.attested(id, token)
	setCookie(w, id)
	wire.WriteJSON(w, http.StatusOK, map[string]string{"token": token})
}

// judge returns the session's token. One that was attested before keeps its
// first, whatever is shown later, as in the implementation.
func (s *Service) judge(r *http.Request) (token, id string, err error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return "", "", errors.New("cookie not found")
	}
	var a attestation
	if err := wire.ReadJSON(r, &a); err != nil {
		return "", "", err
	}
	known, err := s.sessions.find(cookie.Value, s.server.Now())
	if err != nil || known.token != "" {
		return known.token, cookie.Value, err
	}
	if a.RuntimeData.Nonce != known.nonce {
		return "", "", errors.New("the nonce is not the session's")
	}
	report, err := s.verifyEvidence(a)
	if err != nil {
		return "", "", err
	}
	token, err = s.newToken(report, a.RuntimeData.Key)
	return token, cookie.Value, err
}

// verifyEvidence checks everything but whether the host data is good, which is
// for each resource to say.
func (s *Service) verifyEvidence(a attestation) (*snp.Report, error) {
	if a.Evidence.Additional != "" {
		return nil, errors.New("no verifier for additional evidence")
	}
	data, err := reportData(a)
	if err != nil {
		return nil, err
	}
	raw, err := a.Evidence.Primary.Report.bytes()
	if err != nil {
		return nil, err
	}
	report, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	endorsement, err := s.platform.Endorsement()
	if err != nil {
		return nil, err
	}
	shown := &snp.Evidence{Report: raw, SecurityContext: snp.SecurityContext{UVM: endorsement}}
	if shown.HostCerts.Chain, err = a.Evidence.Primary.certificates(); err != nil {
		return nil, err
	}
	result, err := snp.Verify(shown, snp.Expectations{
		Anchors: s.anchors(), HostData: report.HostData[:], ReportData: data[:],
		SMT: snp.SMTAllowed, MinTCB: floors, MinUVMSVN: minUVMSVN, Now: s.server.Now(),
	})
	if err != nil {
		return nil, err
	}
	return &result.Report, nil
}

func (s *Service) anchors() snp.Anchors {
	ask, ark := s.platform.Chain()
	return snp.Anchors{
		Name: "simulated", Roots: []*x509.Certificate{ark}, Intermediates: []*x509.Certificate{ask},
		UVMIssuer: s.platform.Issuer(), UVMFeed: platform.Feed,
	}
}

// reportData is SHA-384 of the canonical JSON (RFC 8785) of what the guest
// binds, then zeros. The texts in it are ASCII, for which Go's encoding is
// canonical.
func reportData(a attestation) (out [64]byte, err error) {
	var canonical bytes.Buffer
	enc := json.NewEncoder(&canonical)
	enc.SetEscapeHTML(false)
	err = enc.Encode(map[string]any{
		"tee-pubkey": a.RuntimeData.Key, "nonce": a.RuntimeData.Nonce, "additional-evidence": a.Evidence.Additional,
	})
	sum := sha512.Sum384(bytes.TrimSuffix(canonical.Bytes(), []byte("\n")))
	copy(out[:], sum[:])
	return out, err
}

// guest is what a token says.
type guest struct {
	hostData [32]byte
	key      *ecdh.PublicKey
}

// claims are the ones of the implementation's token that are used here, under
// their names there (EAR).
type claims struct {
	Subject  string            `json:"sub,omitempty"`
	Submods  map[string]submod `json:"submods,omitempty"`
	Issued   int64             `json:"iat"`
	Expires  int64             `json:"exp"`
	Issuer   string            `json:"iss"`
	Software string            `json:"x-cloister-simulated"`
}

type submod struct {
	Evidence struct {
		SNP struct {
			HostData    string `json:"init_data"`
			Measurement string `json:"measurement"`
		} `json:"snp"`
		Runtime struct {
			Key map[string]any `json:"tee-pubkey"`
		} `json:"runtime_data_claims"`
	} `json:"ear.veraison.annotated-evidence"`
}

func (s *Service) newToken(r *snp.Report, key map[string]any) (string, error) {
	if _, err := publicKey(key); err != nil {
		return "", err
	}
	var cpu submod
	cpu.Evidence.SNP.HostData = hex.EncodeToString(r.HostData[:])
	cpu.Evidence.SNP.Measurement = hex.EncodeToString(r.Measurement[:])
	cpu.Evidence.Runtime.Key = key
	now := s.server.Now()
	return s.signer.Sign(claims{Submods: map[string]submod{"cpu0": cpu}, Issued: now.Unix(), Expires: now.Add(sessionLife).Unix(), Issuer: s.url, Software: "true"}, nil)
}

func (s *Service) verify(token string) (claims, error) {
	var c claims
	payload, err := wire.Verify(token, s.keys(), s.server.Now())
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(payload, &c)
}

func (s *Service) readToken(token string) (guest, error) {
	c, err := s.verify(token)
	if err != nil {
		return guest{}, err
	}
	cpu := c.Submods["cpu0"].Evidence
	var g guest
	host, err := hex.DecodeString(cpu.SNP.HostData)
	if err != nil || len(host) != len(g.hostData) {
		return g, errors.New("it is no guest's token")
	}
	copy(g.hostData[:], host)
	g.key, err = publicKey(cpu.Runtime.Key)
	return g, err
}

// publicKey reads a tee-pubkey. Of the forms that the protocol has, the one that
// its own client makes is served.
func publicKey(jwk map[string]any) (*ecdh.PublicKey, error) {
	if jwk["kty"] != "EC" || jwk["crv"] != "P-256" || jwk["alg"] != keyAlgorithm {
		return nil, fmt.Errorf("tee-pubkey: only EC, P-256 and %s are served", keyAlgorithm)
	}
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		text, _ := jwk[name].(string)
		coordinate, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(coordinate) != 32 {
			return nil, fmt.Errorf("tee-pubkey: %s is not 32 bytes in base64url", name)
		}
		point = append(point, coordinate...)
	}
	key, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("tee-pubkey: %w", err)
	}
	return key, nil
}
