package proxy

import (
	"net"
	"sync"
	"time"
)

// clients counts connections, and bounds those of all and of each.
type clients struct {
	all, ofOne int

	mu    sync.Mutex // guards what follows
	conns map[*clientConn]struct{}
	count map[string]int // by address
	// requests are those of this minute, by address.
	minute   int64
	requests map[string]int
}

// clientConn is a connection that is counted until it is closed.
type clientConn struct {
	net.Conn
	address string
	once    sync.Once
	clients *clients
}

func newClients(all, ofOne int) *clients {
	return &clients{all: all, ofOne: ofOne, conns: map[*clientConn]struct{}{}, count: map[string]int{}, requests: map[string]int{}}
}

// maxCounted bounds the addresses whose requests are counted in a minute. Beyond
// them all count as one.
const maxCounted = 1 << 16

// asks counts a request, and returns how many the address has made this minute.
func (c *clients) asks(address string, now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if minute := now.Unix() / 60; minute != c.minute {
		c.minute = minute
		clear(c.requests)
	}
	if len(c.requests) >= maxCounted && c.requests[address] == 0 {
		address = ""
	}
	c.requests[address]++
	return c.requests[address]
}

// hold counts a connection, or says that there are enough.
func (c *clients) hold(conn net.Conn) (*clientConn, bool) {
	address, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		address = conn.RemoteAddr().String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.conns) >= c.all || c.count[address] >= c.ofOne {
		return nil, false
	}
	held := &clientConn{Conn: conn, address: address, clients: c}
	c.conns[held] = struct{}{}
	c.count[address]++
	return held, true
}

func (c *clients) letGo(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
	if c.count[conn.address]--; c.count[conn.address] == 0 {
		delete(c.count, conn.address)
	}
}

// closeAll closes what is left: hijacked connections are no server's.
func (c *clients) closeAll() {
	c.mu.Lock()
	var conns []*clientConn
	for conn := range c.conns {
		conns = append(conns, conn)
	}
	c.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.clients.letGo(c) })
	return err
}
