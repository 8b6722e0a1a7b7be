package main

import (
	"context"
	"path"
	"strings"
	"sync"

	"cloister/enclave/sidecar"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

// serveCommand is run, for an application in a container beside this one.
func serveCommand() *urfave.Command {
	c := runCommand()
	c.Name = "serve"
	c.Usage = "attest, pass the gate, mount for the application's container, finish"
	c.Description = "As run, with --share too on the measured command line; but the application is\n" +
		"started by the shim in its own container, on the mounts that both share, in a\n" +
		"network that the shim makes for it, and ends when it ends, or when SIGTERM or a\n" +
		"withdrawn consent ends it. A shim that may make no network starts nothing,\n" +
		"unless the specification has egress unguarded: the pod's network.\n" +
		"The specification's mounts must lie below --share, which this container mounts\n" +
		"with Bidirectional propagation, and the application's read-only with\n" +
		"HostToContainer."
	c.Flags = append(c.Flags, &urfave.StringFlag{Name: "share", Usage: "the `DIR` that both containers share", Required: true})
	return c
}

// modelOf returns the model that a command carries out: to serve is to share.
func modelOf(c *urfave.Context) string {
	if c.String("share") != "" {
		return spec.Distributed
	}
	return spec.Monolithic
}

// shareOf returns the shared directory of a command that has one.
func shareOf(c *urfave.Context, s spec.Specification) (string, error) {
	share := c.String("share")
	if share == "" {
		return "", nil
	}
	if !path.IsAbs(share) || path.Clean(share) != share {
		return "", fault.Errorf(fault.Usage, "give the path at which both containers mount it", "--share %q is not a clean absolute path", share)
	}
	for _, v := range volumesOf(s) {
		if !strings.HasPrefix(v.Mount, share+"/") || v.Mount == sidecar.Socket(share) || v.Mount == path.Join(share, egressAuthority) {
			return "", fault.Errorf(fault.Usage, "mount it elsewhere below the shared directory in the specification",
				"%s is mounted at %s, which the application's container cannot see below %s", v.Name, v.Mount, share)
		}
	}
	return share, nil
}

// closeDoor lets the shim end, where the run is done, or wait for the next.
func (r *room) closeDoor(done bool) {
	if r.door == nil {
		return
	}
	if err := r.door.Close(done); err != nil {
		r.log.Warn("the application's container was not told of the end", "error", err)
	}
}

// watch ends the application when one of its mounts goes: it would go on without
// its input, or write where nothing is sealed.
func (m *mounts) watch(ctx context.Context, stop context.CancelCauseFunc) {
	var all sync.WaitGroup
	for _, v := range m.open {
		all.Go(func() {
			select {
			case <-ctx.Done():
			case <-v.mount.Done():
				m.log.Error("a mount went away", "volume", v.name)
				stop(fault.Errorf(fault.Incomplete, "find out who unmounted it, and run it again",
					"the application was ended: the mount of %s went away", v.name))
			}
		})
	}
	all.Wait()
}
