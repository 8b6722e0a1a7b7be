package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"cloister/enclave/launch"
	"cloister/enclave/sidecar"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// startBeside lets the shim in and does not wait for it.
func (r *room) startBeside(ctx context.Context, specification string) (err error) {
	if err := r.shareAuthority(); err != nil {
		return err
	}
	if r.door, err = sidecar.Open(r.share, r.grace); err != nil {
		return err
	}
	r.log.Info("application may start", "application", r.spec.Application.Name, "share", r.share)
	go func() {
		if err := r.door.Greet(ctx, sidecar.Message{Run: r.record.ID(), Specification: specification, Replica: r.replica}); err != nil {
			r.ended <- ending{err: err}
			return
		}
		r.application(ctx)
	}()
	return nil
}

// launchBeside has the shim run the application once, in a network that it makes
// and that is served as in a container of the runtime's own, or in the pod's where
// the parties agreed on that.
func (r *room) launchBeside(ctx context.Context, app launch.Application, p *printed) (exit int, started bool, err error) {
	files := []*os.File{app.Stdout, app.Stderr}
	ready := func() error { r.inPod.Store(true); return nil }
	if r.spec.Network.Egress != spec.EgressUnguarded {
		network, sockets, err := launch.NewNetwork()
		if err != nil {
			return 0, false, err
		}
		defer network.Close()
		files, ready = append(files, sockets), func() error { return app.Serve(network) }
	}
	exit, started, err = r.door.Launch(ctx, sidecar.Start{Environment: r.besideEnvironment()}, files, ready)
	if err != nil {
		p.cut()
	}
	return exit, started, err
}

// besideEnvironment is what the measured command line does not say.
func (r *room) besideEnvironment() (list []string) {
	if r.egress == nil {
		return nil
	}
	for name, value := range r.egressVariables() {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// shareAuthority puts the authority of the egress proxy's certificates where the
// application finds it, which may not write there.
func (r *room) shareAuthority() error {
	if r.egress == nil || r.egress.Certificate() == nil {
		return nil
	}
	if err := os.WriteFile(r.authorityFile(), r.egress.Certificate(), 0o644); err != nil {
		return fault.Errorf(fault.Denied, "share a directory that the runtime may write to", "sharing the authority of the egress proxy: %w", err)
	}
	return nil
}

// authorityFile is where the application finds it.
func (r *room) authorityFile() string {
	if r.share != "" {
		return filepath.Join(r.share, egressAuthority)
	}
	return filepath.Join("/dev", egressAuthority)
}
