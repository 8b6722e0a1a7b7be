package attestation

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
)

// request is the body of POST /attest/SevSnpVm.
type request struct {
	Report      string          `json:"report"`
	RuntimeData data            `json:"runtimeData"`
	Nonce       json.RawMessage `json:"nonce"`
}

type data struct {
	Data string `json:"data"`
	Type string `json:"dataType"`
}

// evidence is a request taken apart, before any of it is believed.
type evidence struct {
	report      *spb.Report
	vcek        *x509.Certificate
	endorsement []byte // COSE_Sign1
	runtimeData []byte
	// runtime is the runtime data where it was sent as JSON, else nil.
	runtime map[string]any
	nonce   json.RawMessage
}

// decode undoes the request's layers: base64url of JSON of base64url, of PEM,
// and once more of JSON for the endorsements.
func (r request) decode() (*evidence, error) {
	var inner struct {
		Report       string `json:"SnpReport"`
		Chain        string `json:"VcekCertChain"`
		Endorsements string `json:"Endorsements"`
	}
	if err := unbaseJSON("report", r.Report, &inner); err != nil {
		return nil, err
	}
	e := &evidence{nonce: r.Nonce}
	raw, err := unbase("SnpReport", inner.Report)
	if err != nil {
		return nil, err
	}
	if len(raw) != abi.ReportSize {
		return nil, fmt.Errorf("SnpReport is %d bytes, not %d", len(raw), abi.ReportSize)
	}
	if e.report, err = abi.ReportToProto(raw); err != nil {
		return nil, fmt.Errorf("SnpReport: %w", err)
	}
	if e.vcek, err = firstCertificate(inner.Chain); err != nil {
		return nil, err
	}
	if e.endorsement, err = onlyEndorsement(inner.Endorsements); err != nil {
		return nil, err
	}
	return e, e.decodeRuntime(r.RuntimeData)
}

func (e *evidence) decodeRuntime(d data) (err error) {
	if e.runtimeData, err = unbase("runtimeData", d.Data); err != nil {
		return err
	}
	switch strings.ToLower(d.Type) {
	case "json":
		if err := json.Unmarshal(e.runtimeData, &e.runtime); err != nil {
			return fmt.Errorf("runtimeData is declared JSON: %w", err)
		}
	case "binary":
	default:
		return fmt.Errorf("runtimeData's dataType %q is neither JSON nor Binary", d.Type)
	}
	return nil
}

func firstCertificate(chain string) (*x509.Certificate, error) {
	data, err := unbase("VcekCertChain", chain)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("VcekCertChain holds no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("VcekCertChain: %w", err)
	}
	return cert, nil
}

func onlyEndorsement(s string) ([]byte, error) {
	var endorsements struct {
		UVM []string `json:"Uvm"`
	}
	if err := unbaseJSON("Endorsements", s, &endorsements); err != nil {
		return nil, err
	}
	if len(endorsements.UVM) != 1 {
		return nil, fmt.Errorf("Endorsements holds %d endorsements of the utility VM, not 1", len(endorsements.UVM))
	}
	return unbase("Endorsements.Uvm[0]", endorsements.UVM[0])
}

// unbase decodes base64url, with or without padding: the service takes both.
func unbase(what, s string) ([]byte, error) {
	out, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url: %w", what, err)
	}
	return out, nil
}

func unbaseJSON(what, s string, v any) error {
	data, err := unbase(what, s)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
