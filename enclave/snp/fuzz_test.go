package snp

import (
	"bytes"
	"testing"

	"github.com/google/go-sev-guest/verify/testdata"

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
