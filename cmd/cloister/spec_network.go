package main

import (
	"net"

	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func addEndpointCommand() *urfave.Command {
	return &urfave.Command{
		Name: "endpoint", Usage: "a port of the clean room that clients may call", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("name", "the endpoint's `NAME`"),
			text("port", "the `PORT` that clients call, over TLS"),
			text("application-port", "the `PORT` that the application listens on, where it is another"),
			text("protocol", "`WORD` for what is spoken over TLS: http, grpc, websocket or tcp; http when not given"),
			text("policy", "a Rego `FILE` that judges each request and response, beside the specification"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"name", "port"}, "FILE")
			if err != nil {
				return err
			}
			endpoint, err := endpointOf(c, args[0])
			if err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.Append("endpoints", endpoint, func(s *spec.Specification) { s.Endpoints = append(s.Endpoints, endpoint) })
			})
		},
	}
}

func endpointOf(c *urfave.Context, file string) (e spec.Endpoint, err error) {
	e = spec.Endpoint{Name: c.String("name"), Protocol: c.String("protocol")}
	if e.Port, err = portOf(c.String("port")); err != nil {
		return e, err
	}
	if own := c.String("application-port"); own != "" {
		if e.ApplicationPort, err = portOf(own); err != nil {
			return e, err
		}
	}
	e.Policy, err = policyFileOf(file, c.String("policy"))
	return e, err
}

func setNetworkCommand() *urfave.Command {
	return &urfave.Command{
		Name: "network", Usage: "what the application reaches: closed, list, policy, or unguarded in the distributed model", ArgsUsage: "FILE EGRESS",
		Flags: []urfave.Flag{
			&urfave.StringSliceFlag{Name: "allow", Usage: "list: a `HOST:PORT` that it reaches; may be repeated"},
			text("policy", "policy: the Rego `FILE` that judges each request, beside the specification"),
			text("proxy", "`MODE` of the proxy: secure reads requests, open passes bytes; as it was when not given"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE", "EGRESS")
			if err != nil {
				return err
			}
			n := spec.Network{Egress: args[1], Proxy: c.String("proxy")}
			if n.Allow, err = destinations(c.StringSlice("allow")); err != nil {
				return err
			}
			if n.Policy, err = policyFileOf(args[0], c.String("policy")); err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) { return setNetwork(d, n) })
		},
	}
}

func destinations(given []string) (list []spec.Destination, err error) {
	for _, address := range given {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fault.Errorf(fault.Usage, "write --allow HOST:PORT, an address with colons in brackets", "--allow %.200q is not a host and a port", address)
		}
		number, err := portOf(port)
		if err != nil {
			return nil, err
		}
		list = append(list, spec.Destination{Host: host, Port: number})
	}
	return list, nil
}

// setNetwork replaces what is let out. The proxy's mode stays unless given.
func setNetwork(d *yaml.Document, n spec.Network) (*yaml.Document, error) {
	e := edits{d: d}
	e.set(true, "network", "egress", n.Egress, func(s *spec.Specification) { s.Network.Egress = n.Egress })
	e.put(len(n.Allow) > 0, "network", "allow", n.Allow, func(s *spec.Specification) { s.Network.Allow = n.Allow })
	e.put(n.Policy != nil, "network", "policy", n.Policy, func(s *spec.Specification) { s.Network.Policy = n.Policy })
	e.set(n.Proxy != "", "network", "proxy", n.Proxy, func(s *spec.Specification) { s.Network.Proxy = n.Proxy })
	return e.d, e.err
}
