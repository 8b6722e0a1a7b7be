package sidecarapi

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// What one application is served with. It is a stranger to the runtime, whose
// memory these bound: 64 connections of some 20 KiB, and on them 16 calls under
// way, each with an event of 16 KiB. An append takes 100 ms at the least, so the
// runtime's own record waits for less than 2 s behind them.
const (
	maxConnections = 64
	maxCalls       = 16
	maxHeader      = 8 << 10          // bytes
	readTime       = 10 * time.Second // for a call to come
	idleTime       = 30 * time.Second
)

// Serve serves the calls at l until that is closed, and returns why it ended.
func Serve(l net.Listener, run Run, contract string) error {
	server := &http.Server{Handler: atMost(maxCalls, Handler(run, contract)), ReadTimeout: readTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader}
	defer server.Close()
	return server.Serve(&limited{l, make(chan struct{}, maxConnections)})
}

var errTooManyCalls = errors.New("other calls are under way: wait for their answers")

// atMost answers so many calls at once, and refuses those beyond.
func atMost(n int, h http.Handler) http.Handler {
	calls := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case calls <- struct{}{}:
			defer func() { <-calls }()
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusTooManyRequests, "TooManyCalls", errTooManyCalls)
		}
	})
}

// limited is a listener that accepts no more than so many connections at once.
type limited struct {
	net.Listener
	open chan struct{}
}

// Accept implements net.Listener. That a connection waits for room is no error.
func (l *limited) Accept() (net.Conn, error) {
	l.open <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &counted{Conn: c, done: func() { <-l.open }}, nil
}

type counted struct {
	net.Conn
	once sync.Once
	done func()
}

func (c *counted) Close() error {
	defer c.once.Do(c.done)
	return c.Conn.Close()
}
