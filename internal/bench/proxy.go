package main

import (
	"net"
	"time"
)

// link is what a proxy adds to each direction of each connection.
type link struct {
	latency time.Duration
	rate    int64 // bytes a second
}

// distance is a store in another region, as the bar has it.
var distance = link{latency: 10 * time.Millisecond, rate: 10 << 20}

// proxy passes connections on to an address.
type proxy struct {
	listener net.Listener
	target   string
	link     link
}

// startProxy listens on a free loopback port.
func startProxy(target string, l link) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, link: l}
	go p.serve()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// close ends listening; connections end with their clients.
func (p *proxy) close() error { return p.listener.Close() }

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		// Half the latency each way: it is that of a round trip.
		way := link{p.link.latency / 2, p.link.rate}
		go way.carry(server, client)
		go way.carry(client, server)
	}
}

// packet is bytes on their way, and when they arrive.
type packet struct {
	data []byte
	due  time.Time
}

// carry moves bytes from one end to the other until either closes. Packets are
// short enough (1.5 ms at 10 MiB/s) that pacing is even, and as many may be on
// their way as latency and rate have room for.
func (l link) carry(to, from net.Conn) {
	const packetSize = 16 << 10
	inFlight := int(l.rate*int64(l.latency)/int64(time.Second))/packetSize + 1
	way := make(chan packet, inFlight)
	go l.deliver(to, way)
	defer close(way)
	free := time.Now() // when the link has sent what it was given
	for {
		b := make([]byte, packetSize)
		n, err := from.Read(b)
		if n > 0 {
			now := time.Now()
			if free.Before(now) {
				free = now
			}
			free = free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
			way <- packet{b[:n], free.Add(l.latency)}
		}
		if err != nil {
			return
		}
	}
}

func (l link) deliver(to net.Conn, way <-chan packet) {
	var err error
	for p := range way {
		if err == nil {
			time.Sleep(time.Until(p.due))
			_, err = to.Write(p.data)
		}
	}
	if c, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		c.CloseWrite()
		return
	}
	to.Close()
}
