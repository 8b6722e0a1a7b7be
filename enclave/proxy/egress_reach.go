package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"cloister/policy/spec"
)

// forbidden are addresses at which there is never a party's service: the machine's
// own, and those at which platforms answer whoever runs on them, with tokens
// among other things. Of RFC 6890 (special purpose), and of the platforms'
// documents. Addresses of private networks are not among them: a service of the
// parties may have one.
var forbidden = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
	"::/96", "fe80::/10", "ff00::/8", "fec0::/10",
	"64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", // addresses of IPv4 in other clothes
	"168.63.129.16/32",   // Azure's wire server
	"fd00:ec2::/32",      // AWS's metadata
	"100.100.100.200/32", // Alibaba's
	"192.0.0.0/24",       // Oracle's, and protocol assignments
	"fd20:ce::254/128",   // Google's
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

var (
	errForbidden = errors.New("that address is the machine's own or its platform's")
	errUnknown   = errors.New("the name has no address")
)

// address returns where to connect to for a destination that is let out. It is
// resolved once; if any of its addresses is one that may not be reached, none is
// taken: such a name was made to get there. An address that the specification
// names itself was agreed on.
func (e *Egress) address(ctx context.Context, d spec.Destination) (netip.AddrPort, error) {
	port := uint16(d.Port)
	if ip, err := netip.ParseAddr(d.Host); err == nil {
		if ip.Zone() != "" || unreachable(ip) && !e.allowed[d] {
			return netip.AddrPort{}, errForbidden
		}
		return netip.AddrPortFrom(ip, port), nil
	}
	if d.Host == "localhost" && e.allowed[d] { // so it is a simulated clean room's
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), nil
	}
	found, err := e.Resolve(ctx, d.Host+".") // a search domain is not in the list
	if err != nil || len(found) == 0 {
		return netip.AddrPort{}, errUnknown
	}
	if slices.ContainsFunc(found, unreachable) {
		return netip.AddrPort{}, errForbidden
	}
	return netip.AddrPortFrom(found[0].Unmap(), port), nil
}

// unreachable reports whether an address is forbidden, or one of the machine's.
func unreachable(ip netip.Addr) bool {
	if ip = ip.Unmap(); ip.Zone() != "" || !ip.IsValid() {
		return true
	}
	if slices.ContainsFunc(forbidden, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return true
	}
	own, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(net.IP(ip.AsSlice()))
	})
}

// connect connects to a destination that was decided about.
func (e *Egress) connect(ctx context.Context, d spec.Destination) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	to, err := e.address(ctx, d)
	if err != nil {
		if errors.Is(err, errForbidden) {
			e.tally.count(d, ForbiddenAddress)
		}
		return nil, err
	}
	return e.Dial(ctx, "tcp", to.String())
}

// parseDestination reads what a request names: a host, letter for letter as the
// specification would write it, and a port.
func parseDestination(host, port string) (spec.Destination, bool) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || host == "" || len(host) > 253 {
		return spec.Destination{}, false
	}
	host = strings.ToLower(host)
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Zone() == "":
		host = ip.Unmap().String()
	case strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.HasSuffix(host, "."):
		return spec.Destination{}, false
	case endsInNumber(host): // an address to some resolvers: inet_aton(3)
		return spec.Destination{}, false
	}
	return spec.Destination{Host: host, Port: uint32(number)}, true
}

// endsInNumber is the test of the URL standard for what was meant as an IPv4
// address ("ends in a number"): 2130706433, 0x7f.1, 127.1.
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}
