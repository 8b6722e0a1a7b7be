package proxy

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"cloister/governance/statement"
)

// refusals counts for what an endpoint turned clients away, so that a client that
// is refused a thousand times a second makes a line now and then of the record, and
// not a thousand.
type refusals struct {
	mu     sync.Mutex // guards what follows
	counts map[string]uint64
	all    uint64
}

func (r *refusals) add(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]uint64{}
	}
	r.counts[reason]++
	r.all++
}

// total is of the endpoint's whole life.
func (r *refusals) total() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// take returns what was counted since it last did.
func (r *refusals) take() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.counts
	r.counts = nil
	return taken
}

// restore gives back what was taken and not recorded.
func (r *refusals) restore(counts map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]uint64{}
	}
	for reason, n := range counts {
		r.counts[reason] += n
	}
}

// ReportIngress records what endpoints refused since it last did, each reason at
// each of them with its count: one record, or none. What could not be recorded is
// kept for the next time.
func ReportIngress(ctx context.Context, endpoints []*Ingress, record func(context.Context, []statement.IngressRefusal) error) error {
	var list []statement.IngressRefusal
	taken := make([]map[string]uint64, len(endpoints))
	for i, g := range endpoints {
		taken[i] = g.refused.take()
		for reason, n := range taken[i] {
			list = append(list, statement.IngressRefusal{Count: n, Endpoint: g.Endpoint.Name, Reason: reason})
		}
	}
	slices.SortFunc(list, statement.IngressRefusal.Compare)
	for some := range slices.Chunk(list, statement.MaxIngress) {
		if err := record(ctx, some); err != nil {
			for i, g := range endpoints {
				g.refused.restore(taken[i])
			}
			return err
		}
		for i, g := range endpoints {
			maps.DeleteFunc(taken[i], func(reason string, _ uint64) bool {
				return slices.ContainsFunc(some, func(r statement.IngressRefusal) bool {
					return r.Endpoint == g.Endpoint.Name && r.Reason == reason
				})
			})
		}
	}
	return nil
}

// watched is a connection of which is seen whether what it brought was a request.
// It hides from net/http that it is TLS, whose handshake is made by now: with it,
// ALPN's word would decide on the protocol.
type watched struct {
	net.Conn
	brought, served atomic.Bool // bytes, and a request, since it was idle
	http2           atomic.Bool // whose connections say more than requests
	began           bool        // to be read; the server reads from one goroutine at a time
}

// prefaceStart begins every connection of HTTP/2 (RFC 9113, 3.4).
var prefaceStart = []byte("PRI ")

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 && !w.began {
		w.began = true
		w.http2.Store(bytes.HasPrefix(b[:n], prefaceStart))
	}
	if n > 0 {
		w.brought.Store(true)
	}
	return n, err
}

type watchedKey struct{}

func withWatched(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, watchedKey{}, c)
}

// serves notes that a connection brought a request.
func serves(ctx context.Context) {
	if w, ok := ctx.Value(watchedKey{}).(*watched); ok {
		w.served.Store(true)
	}
}

// observe is http.Server.ConnState. Where bytes came and the connection is closed
// before they were a request that was served, net/http has answered by itself, or
// not at all.
func (g *Ingress) observe(c net.Conn, state http.ConnState) {
	w, ok := c.(*watched)
	switch {
	case !ok:
	case state == http.StateIdle:
		w.brought.Store(false)
		w.served.Store(false)
	case state == http.StateClosed && g.ctx.Err() == nil && w.brought.Load() && !w.served.Load() && !w.http2.Load():
		g.refused.add(statement.IngressUnreadable)
	}
}

// statusSeen keeps the status that a handler answers with.
type statusSeen struct {
	http.ResponseWriter
	status int
}

// Unwrap is for http.ResponseController.
func (s *statusSeen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *statusSeen) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}
