package spec

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"net"
	"strconv"

	"cloister/internal/fault"
)

// What the application reaches. Whatever is not let out is refused, names
// included: the runtime resolves them.
const (
	EgressClosed = "closed" // nothing
	EgressList   = "list"   // the destinations of Allow
	EgressPolicy = "policy" // the HTTP requests that Policy lets through
	// EgressUnguarded is whatever the pod reaches, in the distributed model alone: the
	// application is in the pod's network, where the runtime closes nothing. It is for
	// platforms on which the application's container may make no network of its own.
	EgressUnguarded = "unguarded"
)

// What the runtime's proxy does with traffic that it lets through.
const (
	// ProxySecure reads each HTTP request and response, over TLS too, which the
	// runtime ends and begins again: policies judge them. What is no HTTP does not
	// pass.
	ProxySecure = "secure"
	// ProxyOpen passes bytes, having decided on host and port alone. The audit
	// names the hosts in either mode.
	ProxyOpen = "open"
)

// Network says what the application reaches, and how its traffic is looked at.
type Network struct {
	Egress string        `json:"egress"`
	Allow  []Destination `json:"allow,omitempty"`  // for egress list
	Policy *PolicyFile   `json:"policy,omitempty"` // for egress policy
	Proxy  string        `json:"proxy,omitempty"`  // ProxySecure when empty
}

// Destination is a TCP port of a host.
type Destination struct {
	Host string `json:"host"` // a name in lower case, or an address; no wildcard
	Port uint32 `json:"port"`
}

// String returns host and port as an address is written.
func (d Destination) String() string { return net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port))) }

// PolicyFile is a Rego policy. It travels beside the specification; a file with
// another digest is refused.
type PolicyFile struct {
	File   string `json:"file"`   // its path from the specification's directory
	Digest string `json:"digest"` // "sha256:" and the hash of the file
}

// Check refuses a text, of kind fault.Refused, that is not the one pinned.
func (p PolicyFile) Check(text []byte) error {
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(text)); got != p.Digest {
		return fault.Errorf(fault.Refused, "get the file that the parties agreed on", "policy %s has the digest %s, the specification pins %s", p.File, got, p.Digest)
	}
	return nil
}

// Policies are the Rego files that the specification pins, by where it does; a file
// may be pinned in several places.
func (s Specification) Policies() iter.Seq2[string, PolicyFile] {
	return func(yield func(string, PolicyFile) bool) {
		if s.Network.Policy != nil && !yield("network.policy", *s.Network.Policy) {
			return
		}
		for i, e := range s.Endpoints {
			if e.Policy != nil && !yield("endpoints["+strconv.Itoa(i)+"].policy", *e.Policy) {
				return
			}
		}
	}
}

// The protocols of an endpoint. Its port speaks TLS, which ends in the runtime;
// beyond it the application is spoken to in one of these.
const (
	ProtocolHTTP      = "http"
	ProtocolGRPC      = "grpc"
	ProtocolWebSocket = "websocket" // HTTP requests that may upgrade
	ProtocolTCP       = "tcp"       // bytes, which no policy can judge
)

// Endpoint is a port of the clean room that clients may call.
type Endpoint struct {
	Name string `json:"name"`
	Port uint32 `json:"port"`
	// ApplicationPort is where the application listens; Port when 0. With egress
	// unguarded the two share a network and cannot be the same.
	ApplicationPort uint32      `json:"applicationPort,omitempty"`
	Protocol        string      `json:"protocol,omitempty"` // ProtocolHTTP when empty
	Policy          *PolicyFile `json:"policy,omitempty"`   // on each request and response
}

// Target returns the port that the application listens on.
func (e Endpoint) Target() uint32 {
	if e.ApplicationPort == 0 {
		return e.Port
	}
	return e.ApplicationPort
}
