package hostcerts

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/verify/testdata"

	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/internal/fault"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// host is a machine whose firmware was updated after the container started:
// given are the certificates from before, fresh are those that fit.
type host struct {
	report       *snp.Report
	given, fresh snp.HostCerts
}

func newHost(t *testing.T, version uint32) host {
	t.Helper()
	p, err := platform.Load(wire.Keys{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	evidence := func(c platform.GuestConfig) *snp.Evidence {
		c.Policy, c.ReportVersion = []byte("package policy\n"), version
		dir, err := os.MkdirTemp("", "guest")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		g, err := p.Launch(dir, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Close() })
		e, err := snp.Collect(t.Context(), simulated.New(dir), snp.KeyRelease{RuntimeData: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	stale, good := evidence(platform.GuestConfig{StaleCertificates: true}), evidence(platform.GuestConfig{})
	r, err := snp.ParseReport(stale.Report)
	if err != nil {
		t.Fatal(err)
	}
	return host{report: r, given: stale.HostCerts, fresh: good.HostCerts}
}

// services answer as THIM and KDS, and count.
type services struct {
	thim, kds   any // []byte is a body, int a status
	busy        int // answers 429 to so many requests of KDS first
	thimHits    int
	kdsRequests []string
}

func (s *services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := s.kds
	if r.URL.Path == "/thim" {
		s.thimHits++
		answer = s.thim
		if r.Header.Get("Metadata") != "true" {
			answer = http.StatusBadRequest
		}
	} else if s.kdsRequests = append(s.kdsRequests, r.URL.String()); len(s.kdsRequests) <= s.busy {
		answer = http.StatusTooManyRequests
	}
	if status, ok := answer.(int); ok {
		w.WriteHeader(status)
		return
	}
	w.Write(answer.([]byte))
}

func (s *services) source(t *testing.T, cache string) Source {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return Source{THIM: server.URL + "/thim", KDS: server.URL, Cache: cache,
		Retry: policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond}}
}

func thim(t *testing.T, certs snp.HostCerts) []byte {
	body, err := json.Marshal(map[string]string{"vcekCert": string(certs.PEM()), "tcbm": "", "certificateChain": ""})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestWhatFitsIsNotAskedFor(t *testing.T) {
	h, s := newHost(t, 3), &services{thim: 500, kds: 500}
	got, err := s.source(t, "").For(t.Context(), h.report, h.fresh)
	if err != nil || !got.Fit(h.report) || s.thimHits+len(s.kdsRequests) > 0 {
		t.Errorf("%v after %d and %d requests", err, s.thimHits, len(s.kdsRequests))
	}
}

func TestTheHostKnowsNewerCertificates(t *testing.T) {
	h := newHost(t, 3)
	s := &services{thim: thim(t, h.fresh), kds: 500}
	for _, given := range []snp.HostCerts{h.given, {}} {
		got, err := s.source(t, "").For(t.Context(), h.report, given)
		if err != nil || !got.Fit(h.report) || len(got.Chain) != 3 || len(s.kdsRequests) > 0 {
			t.Errorf("%v, %d certificates, %d requests to AMD", err, len(got.Chain), len(s.kdsRequests))
		}
	}
}

func TestAMDAndItsCache(t *testing.T) {
	h, cache := newHost(t, 3), filepath.Join(t.TempDir(), "made", "when needed")
	s := &services{thim: thim(t, h.given), kds: h.fresh.Chain[0].Raw, busy: 2}
	source := s.source(t, cache)
	for i := range 3 {
		got, err := source.For(t.Context(), h.report, h.given)
		if err != nil || !got.Fit(h.report) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if len(s.kdsRequests) != 3 { // two of them refused as too many
		t.Errorf("AMD was asked %q", s.kdsRequests)
	}
	files, err := os.ReadDir(cache)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	file := filepath.Join(cache, files[0].Name())
	if kept, err := os.ReadFile(file); err != nil || !bytes.Equal(kept, h.fresh.Chain[0].Raw) {
		t.Errorf("the cache holds something else: %v", err)
	}
	// A cache that was tampered with is passed over and written anew.
	for _, text := range [][]byte{[]byte("nonsense"), h.given.Chain[0].Raw, make([]byte, maxCached+1)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := source.For(t.Context(), h.report, h.given); err != nil || !got.Fit(h.report) {
			t.Errorf("a bad cache: %v", err)
		}
	}
	if len(s.kdsRequests) != 6 {
		t.Errorf("AMD was asked %q", s.kdsRequests)
	}
}

// Nothing that does not fit comes out, and the error says what each answered.
func TestNothingFits(t *testing.T) {
	h := newHost(t, 3)
	s := &services{thim: thim(t, h.given), kds: h.given.Chain[0].Raw}
	cache := t.TempDir()
	_, err := s.source(t, cache).For(t.Context(), h.report, h.given)
	if fault.KindOf(err) != fault.Unavailable || strings.Count(err.Error(), "for another chip or TCB than the report's (fmc 0, bootloader 4") != 3 {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
	if files, _ := os.ReadDir(cache); len(files) > 0 {
		t.Errorf("kept %v", files)
	}
	for name, answer := range map[string]any{"garbage": []byte("<html>"), "an error": 404} {
		s := &services{thim: answer, kds: answer}
		if _, err := s.source(t, "").For(t.Context(), h.report, h.given); fault.KindOf(err) != fault.Unavailable || len(fault.Hints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The address is what the library makes of it, and one of version 2 takes its
// line of processors from the certificates there are.
func TestAddressAtAMD(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		h := newHost(t, version)
		want := kds.VCEKCertURL("Milan", h.report.ChipID[:], kds.TCBVersion(h.report.ReportedVersion()))
		if got, err := h.report.VCEKPath(h.given); err != nil || kdsURL+got != want {
			t.Errorf("version %d: %s, %v, want %s", version, got, err, want)
		}
		if _, err := h.report.VCEKPath(snp.HostCerts{}); (err == nil) != (version == 3) {
			t.Errorf("version %d without certificates: %v", version, err)
		}
	}
	// The genuine sample's own.
	r, err := snp.ParseReport(testdata.AttestationBytes[:snp.ReportSize])
	if err != nil {
		t.Fatal(err)
	}
	given, err := chainOf(testdata.VcekBytes)
	if err != nil || len(given.Chain) != 3 || !given.Fit(r) {
		t.Fatalf("%d certificates, %v", len(given.Chain), err)
	}
	if got, err := r.VCEKPath(given); err != nil || !strings.HasSuffix(got, "?blSPL=2&teeSPL=0&snpSPL=5&ucodeSPL=68") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestVLEKsAreNotForGuests(t *testing.T) {
	h := newHost(t, 3)
	h.report.VLEK = true
	s := &services{thim: 404, kds: h.fresh.Chain[0].Raw}
	if _, err := s.source(t, "").For(t.Context(), h.report, snp.HostCerts{}); err == nil || len(s.kdsRequests) > 0 ||
		!strings.Contains(err.Error(), "given to the cloud's operator only") {
		t.Errorf("got %v", err)
	}
}
