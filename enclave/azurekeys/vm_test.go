//go:build !production

package azurekeys_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"cloister/enclave/attest"
	"cloister/enclave/azure"
	"cloister/enclave/azurekeys"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/snp/vtpm"
	"cloister/enclave/vault"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/swtpm"
	"cloister/policy/release"
)

// vm is a confidential VM: a real TPM (swtpm) around a simulated processor.
type vm struct {
	vtpm.Platform
	host simulated.Platform
	tpm  *swtpm.TPM
}

func (v vm) SecurityContext() (snp.SecurityContext, error) {
	s, err := v.host.SecurityContext()
	return snp.SecurityContext{HostCerts: s.HostCerts}, err
}

func (v vm) Anchors() (snp.Anchors, error) { return v.host.Anchors() }

func (v vm) Certificates(_ context.Context, _ *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	return given, nil
}

// newVM is a world whose owner releases to confidential VMs.
func newVM(t testing.TB, guest platform.GuestConfig) (*world, vm) {
	t.Helper()
	guest.VM = true
	w := newWorld(t, guest)
	v := vm{host: simulated.New(w.guest), tpm: swtpm.Start(t)}
	v.TPM = v.tpm.Socket
	v.tpm.Provision(t, func(about [64]byte) []byte {
		raw, err := v.host.GuestReport(t.Context(), about)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	})
	v.tpm.Extend(t, systemPCR, "the system and the runtime in it")
	return w, v
}

const systemPCR = 11

// vmRequirements know the system's PCR from its build: zeros, extended once.
func vmRequirements() azurekeys.Requirements {
	what := sha256.Sum256([]byte("the system and the runtime in it"))
	r := requirements
	r.MinUVMSVN = 0
	r.VM = &snp.VMExpectations{
		Measurements: [][48]byte{platform.Measurement()},
		PCRs:         snp.PCRs{systemPCR: sha256.Sum256(append(make([]byte, 32), what[:]...))},
	}
	return r
}

func (w *world) vmSource(t testing.TB, p azurekeys.Platform, id azure.Identity, require azurekeys.Requirements) *azurekeys.Source {
	t.Helper()
	cred, err := id.Credential()
	if err != nil {
		t.Fatal(err)
	}
	a, err := attest.New(attest.Options{Authority: w.cloud.Endpoints().Attestation, Skew: time.Minute, Client: w.clientOptions()})
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(vault.Options{Credential: cred, Client: w.clientOptions(), Roots: w.roots, PrivateCloud: true})
	s := azurekeys.New(p, require, a, func(string) (*vault.Client, error) { return v, nil })
	t.Cleanup(s.Close)
	return s
}

// From the TPM's quote to the DEK: evidence, token, key, each hop verified.
func TestConfidentialVMGetsItsKeys(t *testing.T) {
	w, v := newVM(t, platform.GuestConfig{})
	l, mounted, err := w.open(t, w.vmSource(t, v, w.as(t, "clean-room"), vmRequirements()))
	if err != nil {
		t.Fatal(err)
	}
	if mounted["sales"] != string(w.dek.Bytes()) {
		t.Error("the volume is mounted with another DEK")
	}
	if len(l.events) == 0 {
		t.Error("nothing was recorded")
	}
}

func TestBadConfidentialVMs(t *testing.T) {
	for _, tc := range []struct {
		name   string
		guest  platform.GuestConfig
		change func(t *testing.T, v *vm, r *azurekeys.Requirements)
		text   string
	}{
		{"debug", platform.GuestConfig{Debug: true}, nil, "debugging: expected false, got true"},
		{"a report of the VM's own", platform.GuestConfig{VMPL: 2}, nil, "VMPL: expected 0, got 2"},
		{"unknown paravisor", platform.GuestConfig{WrongMeasurement: true}, nil, "launch measurement: expected"},
		{"another system", platform.GuestConfig{}, func(t *testing.T, v *vm, _ *azurekeys.Requirements) {
			v.tpm.Extend(t, systemPCR, "something else")
		}, "PCR 11: expected"},
		{"another AK than the report's", platform.GuestConfig{}, func(t *testing.T, v *vm, _ *azurekeys.Requirements) {
			v.tpm.MakeAK(t, "another")
		}, "the signature is not by the key in the HCL report"},
		{"no HCL report", platform.GuestConfig{}, func(t *testing.T, v *vm, _ *azurekeys.Requirements) {
			v.tpm.RemoveHCL(t)
		}, "reading the HCL report from NV index 0x1400001"},
		{"host data demanded", platform.GuestConfig{}, func(_ *testing.T, _ *vm, r *azurekeys.Requirements) {
			*r = requirements
		}, "kind of guest: expected a container, with no quote, got a confidential VM, with a quote"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, v := newVM(t, tc.guest)
			require := vmRequirements()
			if tc.change != nil {
				tc.change(t, &v, &require)
			}
			before := w.releases(t)
			_, mounted, err := w.open(t, w.vmSource(t, v, w.as(t, "clean-room"), require))
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("got %v, want %q", err, tc.text)
			}
			if len(mounted) != 0 || w.releases(t) != before {
				t.Error("a key was asked for")
			}
		})
	}
}

// What a vault asks of a VM's token: each nested claim, changed or missing, is
// named by its path.
func TestReleasePolicyOverNestedClaims(t *testing.T) {
	good, _ := newVM(t, platform.GuestConfig{})
	p := good.agreed(t)
	met := release.Claims{
		"x-ms-attestation-type": "azurevm", "secureboot": true, release.SimulatedClaim: "true",
		"x-ms-isolation-tee": map[string]any{
			"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-cvm",
			"x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-vmpl": 0.0, "x-ms-sevsnpvm-guestsvn": 2.0,
		},
	}
	evaluate := func() error {
		return p.Evaluate(map[string]release.Claims{good.cloud.Endpoints().Attestation: met}).Err()
	}
	if err := evaluate(); err != nil {
		t.Fatal(err)
	}
	tee := met["x-ms-isolation-tee"].(map[string]any)
	for claim, bad := range map[string]any{"x-ms-attestation-type": "tdxvm", "x-ms-compliance-status": "azure-compliant-uvm",
		"x-ms-sevsnpvm-is-debuggable": true, "x-ms-sevsnpvm-vmpl": 2.0, "x-ms-sevsnpvm-guestsvn": 1.0} {
		kept := tee[claim]
		for _, value := range []any{bad, nil} {
			tee[claim] = value
			if err := evaluate(); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "x-ms-isolation-tee."+claim) {
				t.Errorf("%s %v: %v", claim, value, err)
			}
		}
		tee[claim] = kept
	}
}

// otherGuest shows another TPM's part with the key.
type otherGuest struct {
	*vtpm.Key
	guest vtpm.Guest
}

func (o otherGuest) Guest() vtpm.Guest { return o.guest }

// The attestation service judges by itself what a runtime that checks nothing
// sends it.
func TestServiceRefusesVMs(t *testing.T) {
	w, v := newVM(t, platform.GuestConfig{})
	_, other := newVM(t, platform.GuestConfig{})
	key, stranger := newKey(t, v), newKey(t, other)
	about := snp.KeyRelease{RuntimeData: []byte("{}")}
	collect := func(v vm) *snp.Evidence {
		e, err := snp.Collect(t.Context(), v, about)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	client, err := attest.New(attest.Options{Authority: w.cloud.Endpoints().Attestation, Skew: time.Minute, Client: w.clientOptions()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(e *snp.Evidence, g *vtpm.Guest)
		text   string
	}{
		{"report bit", func(e *snp.Evidence, _ *vtpm.Guest) { e.Report[0x140] ^= 1 }, "report signature verification error"},
		{"report of another VM", func(e *snp.Evidence, _ *vtpm.Guest) { e.Report = collect(other).Report }, "the hash of RunTimeData does not match the report's REPORT_DATA"},
		{"claims bit", func(e *snp.Evidence, _ *vtpm.Guest) { e.Quote.Claims[len(e.Quote.Claims)-5] ^= 1 }, "the hash of RunTimeData does not match"},
		{"quote by another AK", func(e *snp.Evidence, _ *vtpm.Guest) { *e.Quote = *withClaims(collect(other).Quote, e.Quote.Claims) }, "PcrQuote: it is not signed by AikPub"},
		{"another AK", func(_ *snp.Evidence, g *vtpm.Guest) { *g = stranger.Guest() }, "AikPub is not the HCLAkPub of RunTimeData"},
		{"a PCR's value", func(e *snp.Evidence, _ *vtpm.Guest) { e.Quote.PCRs[systemPCR] = [32]byte{1} }, "PCRs are not those that PcrQuote is over"},
		{"another TPM's key", func(_ *snp.Evidence, g *vtpm.Guest) { g.Public = stranger.Guest().Public }, "EncKeyCertifyInfo certifies another key than EncKeyPub"},
		{"certified by another", func(_ *snp.Evidence, g *vtpm.Guest) {
			s := stranger.Guest()
			g.Public, g.Certify, g.Signature = s.Public, s.Certify, s.Signature
		}, "EncKeyCertifyInfo: it is not signed by AikPub"},
		{"no key", func(_ *snp.Evidence, g *vtpm.Guest) { g.Public = nil }, "EncKeyPub"},
	} {
		e, guest := collect(v), key.Guest()
		tc.change(e, &guest)
		_, err := client.AttestGuest(t.Context(), e, []byte("{}"), otherGuest{key, guest})
		if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func newKey(t *testing.T, v vm) *vtpm.Key {
	t.Helper()
	key, err := v.NewKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

func withClaims(q *snp.Quote, claims []byte) *snp.Quote {
	q.Claims = claims
	return q
}
