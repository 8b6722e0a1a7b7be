package broker

import (
	"encoding/json"
	"testing"

	"cloister/enclave/snp"
)

// FuzzEvidence: a guest's evidence is a stranger's bytes; what is made of it has
// a report's size, or is refused.
func FuzzEvidence(f *testing.F) {
	f.Add([]byte(`{"attestation_report":{"version":3},"cert_chain":null}`))
	f.Add([]byte(`{"attestation_report":{"version":5,"family_id":[256]},"cert_chain":[{"cert_type":"VCEK","data":[48,-1]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e evidence
		if json.Unmarshal(data, &e) != nil {
			return
		}
		if raw, err := e.Report.bytes(); err == nil && len(raw) != snp.ReportSize {
			t.Errorf("%d bytes", len(raw))
		}
		if chain, err := e.certificates(); err == nil && len(chain) != len(e.Chain) {
			t.Errorf("%d certificates of %d", len(chain), len(e.Chain))
		}
	})
}

// FuzzKey: what is encrypted to is a point on the curve.
func FuzzKey(f *testing.F) {
	f.Add([]byte(`{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"AA","y":"AA"}`))
	f.Add([]byte(`{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var jwk map[string]any
		if json.Unmarshal(data, &jwk) != nil {
			return
		}
		if key, err := publicKey(jwk); err == nil {
			if _, err := seal([]byte("x"), key); err != nil {
				t.Error(err)
			}
		}
	})
}
