package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"cloister/enclave/launch"
	"cloister/governance/sidecarapi"
)

// listenTime bounds making a socket in the application's network, which is a
// message to its init and back.
const listenTime = 10 * time.Second

// network serves inside the application's network what the specification has it
// offered; nil where that is nothing.
func (r *room) network() func(*launch.Network) error {
	port := r.spec.Application.GovernanceAPI
	if port == 0 {
		return nil
	}
	return func(n *launch.Network) error {
		ctx, cancel := context.WithTimeout(context.Background(), listenTime)
		defer cancel()
		l, err := n.Listen(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err != nil {
			return fmt.Errorf("offering the governance calls: %w", err)
		}
		go func() { // until the application has ended, and its network with it
			err := sidecarapi.Serve(l, r.record, r.record.Contract().ID)
			r.log.Info("the governance calls are no longer served", "cause", err)
		}()
		return nil
	}
}
