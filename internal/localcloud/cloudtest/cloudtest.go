// Package cloudtest gives the tests of a package one simulated cloud, which the
// code under test reaches over TLS as it would the real one.
//
// Life of a test: TestMain calls Main; a test calls Cloud, which the first of
// them starts, and Guest for a machine of its own in it; Main stops the cloud when
// the last test has ended.
package cloudtest

import (
	"context"
	"crypto/x509"
	"os"
	"sync"
	"testing"

	"cloister/internal/localcloud"
	"cloister/internal/localcloud/platform"
)

// ContainerPolicy is the policy of a guest that is launched without one.
var ContainerPolicy = []byte("package policy\n\napi_version := \"0.11.0\"\n")

var shared = sync.OnceValues(func() (*localcloud.Cloud, error) {
	dir, err := os.MkdirTemp("", "cloud") // short: sockets lie in it
	if err != nil {
		return nil, err
	}
	stop = func() { os.RemoveAll(dir) }
	c, err := localcloud.Start(context.Background(), localcloud.Config{Dir: dir})
	if err == nil {
		stop = func() { c.Close(); os.RemoveAll(dir) }
	}
	return c, err
})

// stop undoes what shared did.
var stop = func() {}

// Main runs the tests, stops the cloud if one of them has started it, and exits.
func Main(m *testing.M) {
	code := m.Run()
	stop()
	os.Exit(code)
}

// Cloud returns the cloud, and the certificate to trust it by.
func Cloud(t testing.TB) (*localcloud.Cloud, *x509.CertPool) {
	t.Helper()
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	return c, roots
}

// Guest launches a guest and returns its directory; it goes with the test.
func Guest(t testing.TB, c *localcloud.Cloud, g platform.GuestConfig) string {
	t.Helper()
	if g.Policy == nil {
		g.Policy = ContainerPolicy
	}
	dir, err := os.MkdirTemp("", "guest") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := c.LaunchGuest(dir, g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.RemoveGuest(dir) })
	return dir
}
