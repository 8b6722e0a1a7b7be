package snp

import (
	"context"
	"crypto/ecdsa"
	"strings"
	"testing"
)

// machine shows one guest's evidence.
type machine struct {
	evidence *Evidence
	anchors  Anchors
}

func (m machine) Anchors() (Anchors, error) { return m.anchors, nil }

func (m machine) GuestReport(context.Context, [64]byte) ([]byte, error) {
	return m.evidence.Report, nil
}

func (m machine) SecurityContext() (SecurityContext, error) {
	return SecurityContext{Policy: m.evidence.Policy, HostCerts: m.evidence.HostCerts, UVM: m.evidence.UVM}, nil
}

func (m machine) Certificates(_ context.Context, _ *Report, given HostCerts) (HostCerts, error) {
	return given, nil
}

// A machine believes the transparency services that its requirements name, and
// no others.
func TestProveWithATransparencyService(t *testing.T) {
	ledger, about := ledgerKey(t), KeyRelease{RuntimeData: []byte(`{"keys":[]}`)}
	data, err := about.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	policy := []byte("package policy")
	host := (&SecurityContext{Policy: policy}).HostData()
	g := goodGuest()
	g.report.ReportData, g.report.HostData = data[:], host[:]
	e, want := g.evidence(t)
	e.Policy, e.UVM = policy, newRegistered(ledger).make(t)
	m := machine{e, want.Anchors}
	require := Requirements{SMT: want.SMT, MinTCB: want.MinTCB, MinUVMSVN: 104}
	for named, tc := range map[string]struct {
		keys []*ecdsa.PublicKey
		text string
	}{
		"the one":     {[]*ecdsa.PublicKey{&ledger.PublicKey}, ""},
		"none":        {nil, "no transparency service is believed"},
		"another one": {[]*ecdsa.PublicKey{&ledgerKey(t).PublicKey}, "UVM"},
	} {
		require.UVMLedgers = tc.keys
		_, result, err := Prove(t.Context(), m, require, about)
		switch {
		case tc.text == "" && (err != nil || result.UVMSVN != 104):
			t.Errorf("%s: %v", named, err)
		case tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)):
			t.Errorf("%s: got %v, want %q", named, err, tc.text)
		}
	}
}
