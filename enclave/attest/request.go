package attest

import (
	"encoding/base64"
	"encoding/json"

	"cloister/enclave/snp"
)

// request is the body of POST /attest/SevSnpVm.
type request struct {
	Report      string      `json:"report"` // base64url(JSON of report)
	RuntimeData runtimeData `json:"runtimeData"`
	Nonce       json.Number `json:"nonce"`
}

type runtimeData struct {
	Data     string `json:"data"` // base64url
	DataType string `json:"dataType"`
}

// report nests more base64url: the parts are opaque to each outer layer.
type report struct {
	SnpReport     string `json:"SnpReport"`     // base64url(raw report)
	VcekCertChain string `json:"VcekCertChain"` // base64url(PEM, leaf to root)
	Endorsements  string `json:"Endorsements"`  // base64url(JSON of endorsements)
}

type endorsements struct {
	UVM []string `json:"Uvm"` // base64url(COSE_Sign1)
}

// newRequest renders evidence for the service.
func newRequest(e *snp.Evidence, data []byte, nonce json.Number) ([]byte, error) {
	enc := base64.RawURLEncoding.EncodeToString
	endorsed, err := json.Marshal(endorsements{UVM: []string{enc(e.UVM)}})
	if err != nil {
		return nil, err
	}
	inner, err := json.Marshal(report{
		SnpReport: enc(e.Report), VcekCertChain: enc(e.HostCerts.PEM()), Endorsements: enc(endorsed),
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(request{
		Report: enc(inner), RuntimeData: runtimeData{Data: enc(data), DataType: "JSON"}, Nonce: nonce,
	})
}
