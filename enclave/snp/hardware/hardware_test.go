package hardware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/enclave/snp"
	"cloister/internal/fault"
)

func TestContextDir(t *testing.T) {
	t.Setenv("UVM_SECURITY_CONTEXT_DIR", "")
	root := t.TempDir()
	if _, err := contextDir(root); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "there is no security context") {
		t.Errorf("got %v", err)
	}
	first := filepath.Join(root, "security-context-1")
	if err := os.Mkdir(first, 0o700); err != nil {
		t.Fatal(err)
	}
	if dir, err := contextDir(root); err != nil || dir != first {
		t.Errorf("got %q, %v", dir, err)
	}
	if err := os.Mkdir(filepath.Join(root, "security-context-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := contextDir(root); fault.KindOf(err) != fault.Usage {
		t.Errorf("two contexts: %v", err)
	}
	t.Setenv("UVM_SECURITY_CONTEXT_DIR", "/named")
	if dir, err := contextDir(root); err != nil || dir != "/named" {
		t.Errorf("got %q, %v", dir, err)
	}
}

func TestReportNeedsTheDevice(t *testing.T) {
	if _, err := os.Stat("/dev/sev-guest"); err == nil {
		raw, err := Platform{}.GuestReport(t.Context(), [64]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snp.ParseReport(raw); err != nil {
			t.Fatal(err)
		}
		return
	}
	_, err := Platform{}.GuestReport(t.Context(), [64]byte{1})
	if fault.KindOf(err) != fault.Unavailable || len(fault.Hints(err)) == 0 {
		t.Errorf("without SEV hardware: %v", err)
	}
}
