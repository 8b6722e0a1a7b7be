package attestation

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// FuzzRequest: whatever comes in, the service answers with an error or, for
// evidence of its own platform, a token, and never dies. The layers of base64
// are put on here, so that the fuzzer reaches what is inside them.
func FuzzRequest(f *testing.F) {
	log, err := wire.OpenLog(f.TempDir() + "/log")
	if err != nil {
		f.Fatal(err)
	}
	keys := wire.Keys{Dir: f.TempDir()}
	p, err := platform.Load(keys)
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(wire.NewServer("attestation", log), p, keys, "https://127.0.0.1:1")
	if err != nil {
		f.Fatal(err)
	}
	ask, ark := p.Chain()
	f.Add(make([]byte, 1184), wire.EncodePEM(ask, ark), []byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40}, []byte(`{"keys":[]}`), "JSON", []byte(`"n"`))
	f.Add([]byte{3}, []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), []byte{}, []byte{}, "binary", []byte(`{}`))
	f.Fuzz(func(t *testing.T, report, chain, endorsement, runtime []byte, kind string, nonce []byte) {
		b64 := base64.RawURLEncoding.EncodeToString
		endorsements, _ := json.Marshal(map[string][]string{"Uvm": {b64(endorsement)}})
		inner, _ := json.Marshal(map[string]string{"SnpReport": b64(report), "VcekCertChain": b64(chain), "Endorsements": b64(endorsements)})
		token, err := s.issue(request{Report: b64(inner), RuntimeData: data{Data: b64(runtime), Type: kind}, Nonce: nonce})
		if err == nil {
			t.Errorf("a token for evidence that no guest made: %s", token)
		}
		e := &evidence{endorsement: endorsement, runtimeData: runtime}
		if err := s.verifyEndorsement(e); err == nil {
			t.Error("an endorsement that nobody signed")
		}
	})
}

// FuzzGuest: the same of a confidential VM's request.
func FuzzGuest(f *testing.F) {
	log, err := wire.OpenLog(f.TempDir() + "/log")
	if err != nil {
		f.Fatal(err)
	}
	keys := wire.Keys{Dir: f.TempDir()}
	p, err := platform.Load(keys)
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(wire.NewServer("attestation", log), p, keys, "https://127.0.0.1:1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"AttestationProtocolVersion":"2.0","TpmInfo":{"AikPub":"AAAA"},"IsolationInfo":{"Type":"SevSnp","Evidence":{"Proof":"e30","RunTimeData":"e30"}}}`), []byte("\x00\x02\x00\x01"))
	f.Fuzz(func(t *testing.T, info, public []byte) {
		if token, err := s.issueGuest(base64.RawURLEncoding.EncodeToString(info)); err == nil {
			t.Errorf("a token for evidence that no VM made: %s", token)
		}
		if key, _, err := publicKey(public); err == nil && key.N.BitLen() < 2048 {
			t.Error("a short key is accepted")
		}
	})
}
