//go:build !production

package simulated

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/enclave/snp"
	"cloister/internal/fault"
)

var _ snp.Platform = Platform{}

// serve plays the processor of `cloister local`.
func serve(t *testing.T, handler http.HandlerFunc) Platform {
	dir, err := os.MkdirTemp("", "snp") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, socketFile))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	t.Cleanup(func() { server.Close(); os.RemoveAll(dir) })
	return New(dir)
}

func TestGuestReport(t *testing.T) {
	var got []byte
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/report" {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		w.Write(make([]byte, snp.ReportSize))
	})
	raw, err := p.GuestReport(t.Context(), [64]byte{7})
	if err != nil || len(raw) != snp.ReportSize || len(got) != 64 || got[0] != 7 {
		t.Errorf("%d bytes for %x, %v", len(raw), got, err)
	}
}

func TestGuestReportRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		status, size int
	}{"error": {500, snp.ReportSize}, "short": {200, 10}, "long": {200, snp.ReportSize + 1}} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			w.Write(make([]byte, tc.size))
		})
		if _, err := p.GuestReport(t.Context(), [64]byte{}); fault.KindOf(err) != fault.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := New(t.TempDir()).GuestReport(t.Context(), [64]byte{})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "simulated processor") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestAnchorsRefuse(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(dir).Anchors(); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, rootFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir).Anchors(); fault.KindOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
}

// A production build has no way to make or believe simulated evidence.
func TestProductionBuildLacksThePackage(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "production", "-f", "{{.GoFiles}}", "cloister/enclave/snp/simulated").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "build constraints exclude all Go files") {
		t.Errorf("go list: %v\n%s", err, out)
	}
}
