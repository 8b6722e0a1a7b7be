package azurite

import (
	"context"
	"strings"
	"sync"
	"testing"

	"cloister/internal/fault"
)

// shared launches the one server of a test process.
var shared = sync.OnceValues(func() (*Server, error) {
	return Launch(context.Background(), nil)
})

// Start returns the test process's server, launching it for the first test that
// asks. It ends with the process. Each test takes a container of its own
// (NewURL). Where Azurite is missing the test fails with the command that
// installs it.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("%v (%s)", err, strings.Join(fault.Hints(err), "; "))
	}
	return s
}

// StartTLS launches a server of the test's own that serves https and accepts
// bearer tokens, and ends it with the test.
func StartTLS(t testing.TB, tls TLS) *Server {
	t.Helper()
	s, err := Launch(t.Context(), &tls)
	if err != nil {
		t.Fatalf("%v (%s)", err, strings.Join(fault.Hints(err), "; "))
	}
	t.Cleanup(s.Close)
	return s
}
