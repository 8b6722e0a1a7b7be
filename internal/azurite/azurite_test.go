package azurite

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
)

func TestStart(t *testing.T) {
	s := Start(t)
	if Start(t) != s {
		t.Error("a second server was launched in one process")
	}
	resp, err := http.Get(s.URL("none", "") + "?restype=container")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Server"); got != "Azurite-Blob/3.37.0" {
		t.Errorf("Server: %q, want the pinned version", got)
	}
}

func TestMissing(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("go.mod", []byte("module m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Launch(t.Context(), nil)
	if fault.KindOf(err) != fault.NotFound || !strings.Contains(strings.Join(fault.Hints(err), ""), "make test-setup") {
		t.Errorf("Launch without an installation: %v %q", err, fault.Hints(err))
	}
}

const asParent = "CLOISTER_TEST_AZURITE_PARENT"

// A server outlives neither Close nor the process that launched it.
func TestServerEnds(t *testing.T) {
	if os.Getenv(asParent) != "" {
		s, err := Launch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("endpoint " + s.Endpoint + "\n")
		os.Exit(0) // without Close
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerEnds$")
	cmd.Env = append(os.Environ(), asParent+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, endpoint, ok := strings.Cut(strings.TrimSpace(string(out)), "endpoint ")
	if !ok {
		t.Fatalf("no endpoint in %q", out)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(endpoint)
		if err != nil {
			break
		}
		resp.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server is still there")
		}
	}
}
