package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cloister/attested/proof"
	"cloister/enclave/launch"
	"cloister/enclave/proxy"
	"cloister/enclave/snp"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// ingress is a room's endpoints. They answer from before the gate on: clients see
// which run they talk to, and are told that the application does not listen yet.
type ingress struct {
	identity  proxy.IngressIdentity
	endpoints []*proxy.Ingress
	closing   sync.Once
	inside    atomic.Pointer[launch.Network] // of the application that runs, or ran last
	inPod     atomic.Bool                    // it is in the pod's network, and runs or ran
}

// identityOf is what clients are shown: the evidence that the run's record has,
// in a certificate of the key that it binds.
func identityOf(key *ecdsa.PrivateKey, about snp.Identity, e *snp.Evidence) (proxy.IngressIdentity, error) {
	certificate, err := proof.Certificate(key, proof.NewEvidence(about, e))
	if err != nil {
		return proxy.IngressIdentity{}, fmt.Errorf("making the endpoints' certificate: %w", err)
	}
	return proxy.IngressIdentity{Certificate: certificate, Contract: about.ContractDigest}, nil
}

// openEndpoints listens at all of the specification's endpoints, before keys are
// asked for; a policy that does not compile ends the run there too.
func (r *room) openEndpoints(ctx context.Context) error {
	r.identity.Checkpoint = r.record.Checkpoint
	for _, e := range r.spec.Endpoints {
		if err := r.openEndpoint(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *room) openEndpoint(ctx context.Context, e spec.Endpoint) error {
	config := proxy.IngressConfig{Endpoint: e, Identity: r.identity, Log: r.log, Runtime: r.calls(),
		Dial: func(ctx context.Context) (net.Conn, error) { return r.dialFor(ctx, e) }}
	if e.Policy != nil {
		policy, err := r.policy(ctx, *e.Policy)
		if err != nil {
			return err
		}
		config.Policy = policy
	}
	host := ""
	if r.platform.simulated { // which protects nothing: nobody outside is to come
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(e.Port))))
	if err != nil {
		return fault.Errorf(fault.Unavailable, "end what listens there, or take another port in the specification", "opening endpoint %s: %w", e.Name, err)
	}
	g, err := proxy.NewIngress(config)
	if err != nil {
		l.Close()
		return err
	}
	r.endpoints = append(r.endpoints, g)
	r.log.Info("endpoint is open", "endpoint", e.Name, "address", l.Addr())
	go func() {
		if err := g.Serve(l); !errors.Is(err, net.ErrClosed) {
			r.log.Error("an endpoint ended", "endpoint", e.Name, "error", err)
		}
	}()
	return nil
}

// dial connects to a port of the application, in its network.
func (r *room) dial(ctx context.Context, port uint32) (net.Conn, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	if r.inPod.Load() {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	n := r.inside.Load()
	if n == nil {
		return nil, fmt.Errorf("the application is not there yet: %w", syscall.ECONNREFUSED)
	}
	return n.DialContext(ctx, "tcp", address)
}

// letIn has an application's network reached by the endpoints.
func (r *room) letIn(app *launch.Application) {
	if len(r.endpoints) == 0 {
		return
	}
	others := app.Network
	app.Network = func(n *launch.Network) error {
		r.inside.Store(n)
		if others == nil {
			return nil
		}
		return others(n)
	}
}

// lastResponses is how long responses of an application that has ended may take to
// reach their clients.
const lastResponses = 5 * time.Second

// errEnded is for closing what a run left open that did not come to its end.
var errEnded = errors.New("the run has ended")

// closeEndpointsWith closes the endpoints as soon as the runtime ends the
// application, because consent is gone, say: what it answers while it still may run
// does not go out. A signal lets it finish what it was asked.
func (r *room) closeEndpointsWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		if why := context.Cause(ctx); !errors.Is(why, context.Canceled) {
			r.closeEndpoints(why)
		}
	})
}

// closeEndpoints ends all endpoints, once: those of an application that has come
// to its own end pass its last responses on, others nothing more.
func (r *room) closeEndpoints(why error) { r.closing.Do(func() { r.endEndpoints(why) }) }

func (r *room) endEndpoints(why error) {
	ctx, cancel := context.WithTimeout(context.Background(), lastResponses)
	defer cancel()
	if why != nil {
		cancel()
	}
	for _, g := range r.endpoints {
		if err := g.Close(ctx); err != nil && why == nil {
			r.log.Warn("clients did not take their last responses", "error", err)
		}
	}
}
