package snp

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"cloister/internal/fault"
)

// TestSignedIsNotQuoted: a TPM's restricted key signs any bytes but those that
// begin with the TPM's magic, so that a machine's user can have a structure of
// PCRs signed that it never had.
func TestSignedIsNotQuoted(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pcrs := PCRs{11: {1}}
	for magic, want := range map[tpm2.TPMGenerated]string{tpm2.TPMGeneratedValue: "", 0: "only signed it", tpm2.TPMGeneratedValue + 1: "only signed it"} {
		message := tpm2.Marshal(tpm2.TPMSAttest{Magic: magic, Type: tpm2.TPMSTAttestQuote, Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(11)}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: pcrs.Digest()},
		})})
		sum := sha256.Sum256(message)
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		_, err = (&Quote{Message: message, Signature: signature, PCRs: pcrs}).verify(&key.PublicKey)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("magic %#x: %v", uint32(magic), err)
		}
	}
}

// TestMachinePolicySaysOneThing: whoever reads one sees the values that are held
// against a quote.
func TestMachinePolicySaysOneThing(t *testing.T) {
	measurement, value, other := strings.Repeat("ab", 48), strings.Repeat("11", 32), strings.Repeat("22", 32)
	policy := func(pcrs, end string) []byte {
		return []byte(`{"measurements":["` + measurement + `"],"pcrs":{` + pcrs + `}}` + end)
	}
	if got, err := ParseVMPolicy(policy(`"11":"`+value+`"`, "\n")); err != nil || got.PCRs[11][0] != 0x11 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, text := range map[string][]byte{
		"two spellings": policy(`"11":"`+value+`","011":"`+other+`"`, ""),
		"a zero before": policy(`"011":"`+value+`"`, ""),
		"more behind":   policy(`"11":"`+value+`"`, "]"),
		"another one":   policy(`"11":"`+value+`"`, "{}"),
		"no PCRs":       policy("", ""),
	} {
		if _, err := ParseVMPolicy(text); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (PCRs{11: {1}}).Set("11", value); fault.KindOf(err) != fault.Usage {
		t.Errorf("a second value: %v", err)
	}
}
