package snp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"cloister/internal/fault"
)

func TestKeyReleaseUsesTheServicesForm(t *testing.T) {
	jwks := []byte(`{"keys":[]}`)
	got, err := KeyRelease{RuntimeData: jwks}.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(jwks)
	if !bytes.Equal(got[:32], sum[:]) || !bytes.Equal(got[32:], make([]byte, 32)) {
		t.Errorf("report data %x", got)
	}
	for _, bad := range []string{"", "{", `"keys"`, identityTag, " {}", "[]"} {
		if _, err := (KeyRelease{RuntimeData: []byte(bad)}).ReportData(); err == nil {
			t.Errorf("runtime data %q is accepted", bad)
		}
	}
}

func TestKeyBrokerIsNoOtherPurpose(t *testing.T) {
	data := []byte(`{"additional-evidence":"","nonce":"n"}`)
	got, err := KeyBroker{RuntimeData: data}.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(data)
	if !bytes.Equal(got[:48], sum[:]) || !bytes.Equal(got[48:], make([]byte, 16)) {
		t.Errorf("report data %x", got)
	}
	if bare := RuntimeReportData(data); bare == got || bytes.Equal(got[32:], make([]byte, 32)) {
		t.Error("it has the attestation service's form")
	}
	for _, bad := range []string{"", `{"keys":[]}`, `{"additional-evidence":`, ` {"additional-evidence":""}`, identityTag, `{"nonce":"n","additional-evidence":""}`} {
		if _, err := (KeyBroker{RuntimeData: []byte(bad)}).ReportData(); err == nil {
			t.Errorf("runtime data %q is accepted", bad)
		}
	}
}

// Each field reaches the report, and moving bytes between fields changes it.
func TestIdentityBindsEveryField(t *testing.T) {
	base := Identity{AuditKey: []byte("ab"), TLSKey: []byte("cd")}
	seen := map[[64]byte]string{}
	add := func(name string, i Identity) {
		data, err := i.ReportData()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[data]; ok {
			t.Errorf("%s has the report data of %s", name, other)
		}
		if bytes.Equal(data[32:], make([]byte, 32)) {
			t.Errorf("%s ends in 32 zero bytes, as a key release does", name)
		}
		seen[data] = name
	}
	add("base", base)
	changed := base
	changed.RunID[0] = 1
	add("run id", changed)
	changed = base
	changed.ContractDigest[0] = 1
	add("contract", changed)
	add("audit key", Identity{AuditKey: []byte("xb"), TLSKey: []byte("cd")})
	add("TLS key", Identity{AuditKey: []byte("ab"), TLSKey: []byte("xd")})
	add("bytes moved", Identity{AuditKey: []byte("abc"), TLSKey: []byte("d")})
	if _, err := (Identity{}).ReportData(); err == nil {
		t.Error("an identity without keys is accepted")
	}
}

// fakePlatform has certificates that do not fit for the first stale calls.
type fakePlatform struct {
	report  []byte
	err     error
	asked   [64]byte
	reports int
	stale   int
}

func (f *fakePlatform) SecurityContext() (SecurityContext, error) {
	return SecurityContext{Policy: []byte("package policy")}, nil
}

func (f *fakePlatform) GuestReport(_ context.Context, data [64]byte) ([]byte, error) {
	f.asked = data
	f.reports++
	return f.report, f.err
}

func (f *fakePlatform) Certificates(_ context.Context, _ *Report, given HostCerts) (HostCerts, error) {
	if f.reports <= f.stale {
		return HostCerts{}, fault.Errorf(fault.Unavailable, "", "none fits report %d", f.reports)
	}
	return given, nil
}

func TestCollect(t *testing.T) {
	raw := testdata.AttestationBytes[:ReportSize]
	p := &fakePlatform{report: raw}
	about := KeyRelease{RuntimeData: []byte("{}")}
	e, err := Collect(t.Context(), p, about)
	if err != nil || !bytes.Equal(e.Report, raw) || string(e.Policy) != "package policy" {
		t.Fatalf("%+v, %v", e, err)
	}
	if want, _ := about.ReportData(); p.asked != want {
		t.Errorf("the processor was asked for %x", p.asked)
	}
	p.err = errors.New("busy")
	if _, err := Collect(t.Context(), p, about); err == nil || !strings.Contains(err.Error(), "asking the processor for a report: busy") {
		t.Errorf("got %v", err)
	}
	p = &fakePlatform{report: []byte("raw")}
	if _, err := Collect(t.Context(), p, about); fault.KindOf(err) != fault.Refused || p.reports != 1 {
		t.Errorf("a malformed report: %v after %d", err, p.reports)
	}
}

// Certificates that do not fit are got again together with a new report, as
// often as it may help.
func TestCollectUntilCertificatesFit(t *testing.T) {
	about := KeyRelease{RuntimeData: []byte("{}")}
	for stale, want := range []int{1, 2, 3, 3} {
		p := &fakePlatform{report: testdata.AttestationBytes[:ReportSize], stale: stale}
		_, err := collect(t.Context(), p, about, 0)
		if p.reports != want || (err == nil) != (stale < collectTries) {
			t.Errorf("stale for %d: %d reports, %v", stale, p.reports, err)
		}
		if err != nil && (fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "finding the processor's certificates: none fits report 3")) {
			t.Errorf("got %v (%v)", err, fault.KindOf(err))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &fakePlatform{report: testdata.AttestationBytes[:ReportSize], stale: 9}
	if _, err := collect(ctx, p, about, time.Hour); err == nil || p.reports != 1 {
		t.Errorf("called off: %v after %d reports", err, p.reports)
	}
}

func TestSecurityContextRefuses(t *testing.T) {
	write := func(t *testing.T, files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		kind  fault.Kind
		want  string
	}{
		{"nothing", nil, fault.NotFound, "security-policy-base64"},
		{"not base64", map[string]string{policyFile: "!"}, fault.Refused, "is not base64"},
		{"no endorsement", map[string]string{policyFile: "AAAA", hostCertsFile: "AAAA"}, fault.NotFound, uvmFile},
		{"bad certificates", map[string]string{policyFile: "AAAA", uvmFile: "AAAA", hostCertsFile: "AAAA"}, fault.Refused, "the host's certificates cannot be read"},
		{"bad THIM", map[string]string{policyFile: "AAAA", uvmFile: "AAAA", hostCertsFile: "eyJ2Y2VrQ2VydCI6MX0="}, fault.Refused, "cannot unmarshal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ReadSecurityContext(write(t, tc.files))
			if err == nil || fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%v), want %q", err, fault.KindOf(err), tc.want)
			}
		})
	}
}
