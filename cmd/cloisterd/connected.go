package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	"cloister/policy/spec"
)

// startedByConnection says that nobody can call for a start but by connecting: no
// endpoint speaks HTTP, in which a party would.
func startedByConnection(s spec.Specification) bool {
	return s.Application.Start == spec.StartManual && !slices.ContainsFunc(s.Endpoints, func(e spec.Endpoint) bool { return e.Protocol != spec.ProtocolTCP })
}

const (
	// heldTime bounds how long a connection is held for an application that was started
	// for it: the gate, mounts and its own start take seconds, inputs that are fetched
	// whole minutes. As long, a client of HTTP would ask again.
	heldTime = 10 * time.Minute
	// listenInterval is how often it is looked whether the application listens, which
	// nothing tells.
	listenInterval = 50 * time.Millisecond
)

// dialFor connects a client of an endpoint with the application. Where connections
// start it, the first one does, and each is held until it listens.
func (r *room) dialFor(ctx context.Context, e spec.Endpoint) (net.Conn, error) {
	if !startedByConnection(r.spec) {
		return r.dial(ctx, e.Target())
	}
	if r.job.start() {
		r.log.Info("the job is called", "endpoint", e.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, heldTime)
	defer cancel()
	for {
		conn, err := r.dial(ctx, e.Target())
		if !errors.Is(err, syscall.ECONNREFUSED) || !sleep(ctx, listenInterval) {
			return conn, err
		}
	}
}
