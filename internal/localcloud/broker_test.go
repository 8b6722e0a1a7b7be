package localcloud

import (
	"bytes"
	"context"
	"crypto/x509"
	"net/http"
	"os"
	"testing"

	"cloister/enclave/kbs"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/internal/localcloud/platform"
)

// place puts a resource as its owner does.
func place(t *testing.T, c *Cloud, resource string, data []byte) {
	t.Helper()
	token, err := os.ReadFile(c.Endpoints().BrokerToken)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, kbs.Address(c.Endpoints().Broker, resource), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	resp, err := transport(c).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("placing %s: %s", resource, resp.Status)
	}
}

// fetch gets a resource as a guest does.
func fetch(t *testing.T, c *Cloud, guest, resource string) ([]byte, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	client, err := kbs.New(kbs.Options{URL: c.Endpoints().Broker, Roots: roots, Prove: func(ctx context.Context, about snp.Statement) (*snp.Evidence, error) {
		return snp.Collect(ctx, simulated.New(guest), about)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.Resource(t.Context(), kbs.Address(c.Endpoints().Broker, resource))
}

// Resources, admissions and the owner's token outlive the process, and each
// resource has admissions of its own.
func TestBrokerKeepsItsResources(t *testing.T) {
	dir := newDir(t)
	c := startIn(t, dir)
	place(t, c, "a/b/c", []byte("kept"))
	place(t, c, "a/b/d", []byte("another's"))
	if err := c.Admit(containerPolicy, []string{"a/b/c"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = startIn(t, dir)
	guestDir := guest(t, c, platform.GuestConfig{})
	if got, err := fetch(t, c, guestDir, "a/b/c"); err != nil || string(got) != "kept" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if got, err := fetch(t, c, guestDir, "a/b/d"); err == nil {
		t.Errorf("without admission: %q", got)
	}
	if err := Dial(dir).Admit(t.Context(), containerPolicy, []string{"a/b/d"}); err != nil {
		t.Fatal(err)
	}
	place(t, c, "a/b/d", []byte("changed"))
	if got, err := fetch(t, c, guestDir, "a/b/d"); err != nil || string(got) != "changed" {
		t.Errorf("after the admission: %q, %v", got, err)
	}
	checkModes(t, dir)
}
