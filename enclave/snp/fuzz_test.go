package snp

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-tpm/tpm2"

	"cloister/internal/fault"
)

func FuzzReport(f *testing.F) {
	e, _ := goodGuest().evidence(f)
	f.Add(e.Report)
	f.Add(testdata.AttestationBytes)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseReport(raw)
		if err != nil {
			if fault.KindOf(err) != fault.Refused {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		if !bytes.Equal(r.ReportData[:], raw[0x50:0x90]) || !bytes.Equal(r.HostData[:], raw[0xc0:0xe0]) {
			t.Fatal("fields are read from the wrong place")
		}
	})
}

func FuzzHostCerts(f *testing.F) {
	e, _ := goodGuest().evidence(f)
	f.Add(e.HostCerts.PEM())
	f.Add([]byte(`{"vcekCert":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n","tcbm":"DB19000000000004","certificateChain":"","cacheControl":"86400"}`))
	f.Add([]byte("e30="))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseHostCerts(data)
		if err != nil {
			if fault.KindOf(err) != fault.Refused {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		again, err := ParseHostCerts(certs.PEM())
		if err != nil || len(again.Chain) != len(certs.Chain) {
			t.Fatalf("the chain does not survive being written: %v", err)
		}
	})
}

func FuzzUVM(f *testing.F) {
	e, _ := goodGuest().evidence(f)
	f.Add(e.UVM)
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if uvm, err := verifyUVM(raw, nil); err == nil && !bytes.Equal(raw, e.UVM) && (uvm.svn != 100 || uvm.feed != UVMFeed) {
			t.Fatalf("a forged endorsement is accepted: %+v", uvm)
		}
	})
}

// FuzzHCL: what is read is where it was read from, and its claims either name an
// attestation key or are refused.
func FuzzHCL(f *testing.F) {
	claims := []byte(`{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"` + strings.Repeat("w", 342) + `"}],"vm-configuration":{"secure-boot":true}}`)
	raw := make([]byte, hclClaimsAt, hclClaimsAt+len(claims))
	copy(raw, hclSignature)
	for at, n := range map[int]int{hclClaimsHead + 8: hclTypeSNP, hclClaimsHead + 12: hclHashSHA256, hclClaimsHead + 16: len(claims)} {
		binary.LittleEndian.PutUint32(raw[at:], uint32(n))
	}
	raw = append(raw, claims...)
	if hcl, err := ParseHCL(raw); err != nil {
		f.Fatal(err)
	} else if _, err := parseVMClaims(hcl.Claims); err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:hclClaimsAt])
	f.Fuzz(func(t *testing.T, raw []byte) {
		hcl, err := ParseHCL(raw)
		if err != nil {
			if fault.KindOf(err) != fault.Refused {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		if !bytes.Equal(hcl.Report, raw[32:1216]) || !bytes.HasPrefix(raw[1236:], hcl.Claims) {
			t.Fatal("report and claims are read from the wrong place")
		}
		if c, err := parseVMClaims(hcl.Claims); err == nil && (c.AK == nil || c.AK.N.BitLen() < 2048) {
			t.Fatal("claims without an attestation key are accepted")
		}
	})
}

// FuzzQuote: nothing that no key signed is a quote, and no bytes of a key's
// break the parser.
func FuzzQuote(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\xffTCG\x80\x18\x00\x00\x00\x00"))
	f.Add(tpm2.Marshal(tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{})}))
	f.Fuzz(func(t *testing.T, message []byte) {
		if _, err := (&Quote{Message: message, Signature: message}).verify(&key.PublicKey); err == nil {
			t.Fatal("a forged quote is accepted")
		}
		sum := sha256.Sum256(message)
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&Quote{Message: message, Signature: signature, PCRs: PCRs{}}).verify(&key.PublicKey); err == nil && !bytes.HasPrefix(message, []byte("\xffTCG\x80\x18")) {
			t.Fatal("something that is not a quote is accepted")
		}
	})
}
