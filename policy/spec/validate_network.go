package spec

import (
	"fmt"
	"net"
	"slices"
)

func (s Specification) checkNetwork(c *checks) {
	n := s.Network
	c.oneOf("network.egress", n.Egress, EgressClosed, EgressList, EgressPolicy, EgressUnguarded)
	if n.Egress == EgressUnguarded && s.Model != Distributed {
		c.add("network.egress", "model "+s.Model+" guards what the application reaches", "use "+EgressClosed+", or list, or policy")
	}
	s.checkAllow(c)
	s.checkEgressPolicy(c)
	c.optional("network.proxy", n.Proxy, ProxySecure, ProxyOpen)
	s.checkEndpoints(c)
}

func (s Specification) checkAllow(c *checks) {
	allow := s.Network.Allow
	c.count("network.allow", len(allow))
	switch {
	case s.Network.Egress != EgressList && len(allow) > 0:
		c.add("network.allow", fmt.Sprintf("egress %s lets through none of these", s.Network.Egress), "take it out, or set egress list")
	case s.Network.Egress == EgressList && len(allow) == 0:
		c.add("network.allow", "egress list names no destination", "give at least one host and port, or set egress closed")
	}
	twice := c.unique("this destination")
	for i, d := range allow {
		at := fmt.Sprintf("network.allow[%d]", i)
		s.checkHost(c, at+".host", d.Host)
		c.port(at+".port", d.Port)
		twice(at, d.String())
	}
}

// checkHost refuses what is no host, and the machine's own addresses: loopback
// is the runtime's, and link-local has the platform's metadata and tokens.
func (s Specification) checkHost(c *checks, at, host string) {
	ip := net.ParseIP(host)
	switch {
	case ip == nil && (!hostPattern.MatchString(host) || len(host) > 253):
		c.add(at, fmt.Sprintf("%.80q is not a host", host), "write a name in lower case without wildcards, or an address")
	case ip != nil && ip.String() != host:
		c.add(at, fmt.Sprintf("%.80q is not how this address is written", host), "write "+ip.String())
	case ip != nil && (ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast()):
		c.add(at, fmt.Sprintf("%s is for the machine's own services", host), "name the host itself")
	case s.Kind != Simulated && (host == "localhost" || ip.IsLoopback()):
		c.add(at, fmt.Sprintf("%s is the clean room itself", host), "name the host outside")
	}
}

func (s Specification) checkEgressPolicy(c *checks) {
	n := s.Network
	switch {
	case n.Egress != EgressPolicy && n.Policy != nil:
		c.add("network.policy", fmt.Sprintf("egress %s asks no policy", n.Egress), "take it out, or set egress policy")
	case n.Egress == EgressPolicy && n.Policy == nil:
		c.add("network.policy", "egress policy needs one", "give the file and its digest, as cloister spec set network --policy does")
	case n.Policy != nil:
		s.checkPolicy(c, "network.policy", *n.Policy)
	}
}

// checkPolicy: a proxy that does not read requests has nothing to ask about.
func (s Specification) checkPolicy(c *checks, at string, p PolicyFile) {
	c.policyFile(at, p)
	if s.Network.Proxy == ProxyOpen {
		c.add(at, "proxy open reads no requests, so no policy can judge them", "set proxy secure")
	}
}

func (s Specification) checkEndpoints(c *checks) {
	c.count("endpoints", len(s.Endpoints))
	names, ports, targets := c.unique("an endpoint of this name"), c.unique("an endpoint on this port"), c.unique("an endpoint for this port of the application")
	for i, e := range s.Endpoints {
		at := fmt.Sprintf("endpoints[%d]", i)
		c.name(at+".name", e.Name)
		names(at+".name", e.Name)
		c.port(at+".port", e.Port)
		ports(at+".port", fmt.Sprint(e.Port))
		s.checkTarget(c, at, e)
		if e.ApplicationPort != 0 {
			targets(at+".applicationPort", fmt.Sprint(e.ApplicationPort))
		}
		c.optional(at+".protocol", e.Protocol, ProtocolHTTP, ProtocolGRPC, ProtocolWebSocket, ProtocolTCP)
		if e.Policy != nil {
			s.checkPolicy(c, at+".policy", *e.Policy)
		}
		if e.Policy != nil && e.Protocol == ProtocolTCP {
			c.add(at+".policy", "protocol tcp has no requests to judge", "use another protocol, or take the policy out")
		}
	}
}

func (s Specification) checkTarget(c *checks, at string, e Endpoint) {
	if e.ApplicationPort != 0 {
		c.port(at+".applicationPort", e.ApplicationPort)
	}
	ports := s.Application.Ports
	switch {
	case len(ports) > 0 && !slices.Contains(ports, e.Target()):
		c.add(at, fmt.Sprintf("the application has no port %d", e.Target()), "add it to the application's ports, or correct the endpoint")
	case s.Network.Egress == EgressUnguarded && slices.ContainsFunc(s.Endpoints, func(o Endpoint) bool { return o.Port == e.Target() }):
		c.add(at, fmt.Sprintf("port %d is taken by an endpoint: with egress unguarded runtime and application share a network", e.Target()), "give the application a port of its own with applicationPort")
	}
}
