package proxy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"cloister/enclave/rego"
	"cloister/policy/spec"
)

// TestPolicySeesWhatGoesOn: what a client has taken away on the way, by naming it
// in Connection, or what the forwarder writes itself, its policy does not see
// either; both would otherwise decide on another request than the application's.
func TestPolicySeesWhatGoesOn(t *testing.T) {
	var judged IngressInput
	policy := decide(func(in IngressInput) rego.Decision {
		if in.Phase == phaseRequest {
			judged = in
		}
		return rego.Decision{Allow: true}
	})
	read := make(chan http.Header, 1)
	d := open(t, spec.ProtocolHTTP, policy, app(t, func(_ http.ResponseWriter, r *http.Request) { read <- r.Header }))
	conn, err := d.dial("http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: door\r\nConnection: close, X-Mode\r\nX-Mode: safe\r\nX-Kept: yes\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nProxy-Authorization: x\r\nKeep-Alive: 5\r\n\r\n")
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	got := <-read
	for name, values := range judged.Request.Headers {
		if !slices.Equal(got.Values(name), values) {
			t.Errorf("the policy sees %s: %q, the application %q", name, values, got.Values(name))
		}
	}
	if got.Get("X-Mode") != "" || judged.Request.Headers["x-kept"] == nil || got.Get("X-Kept") != "yes" {
		t.Errorf("the policy sees %q, the application %q", judged.Request.Headers, got)
	}
}
