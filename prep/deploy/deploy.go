// Package deploy starts and ends clean rooms: container groups of Azure Container
// Instances, or pods and jobs of Kubernetes.
//
// Life of a deployment: the caller makes a Room of a template's resources, in a
// resource group or in a namespace. Status looks at each. Up makes what is missing,
// after a look, in the order of the template, and waits until all run or have
// ended; what is there and otherwise is refused with the difference, as it may be
// somebody's run. Interrupted anywhere, Up goes on when it is called again, and
// makes nothing twice: each resource has one name. Down deletes each and waits
// until it is gone; again, it finds nothing. Keys and data are no part of it.
//
// Nothing that a platform says of a room is proof of anything: what runs is what
// its attestation and the ledger say.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cloister/internal/fault"
	"cloister/policy/template"
)

// What a resource is found to be.
const (
	Missing   = "missing"
	Pending   = "pending"   // made, and nothing of it runs yet
	Running   = "running"   //
	Succeeded = "succeeded" // its containers have ended, with exit code 0
	Failed    = "failed"    // it could not be started, or ended with another exit code
	Stopped   = "stopped"   // it was ended by hand, and is still there
	There     = "there"     // of what does not run
	Differs   = "differs"   // another deployment has the name; Detail has the difference
	Deleting  = "deleting"
)

// Unit is one resource of a room, as the platform shows it.
type Unit struct {
	Kind       string      `json:"kind"`
	Name       string      `json:"name"` // an id in ARM, NAMESPACE/NAME in Kubernetes
	State      string      `json:"state"`
	Detail     string      `json:"detail,omitempty"`
	Containers []Container `json:"containers,omitempty"`
	Changed    bool        `json:"changed,omitempty"` // made, or taken, by this call
}

// Container is one of a unit's.
type Container struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Exit     *int   `json:"exit,omitempty"` // once it has ended
	Restarts int    `json:"restarts,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Ended tells whether nothing of the unit runs, nor will.
func (u Unit) Ended() bool { return u.State == Succeeded || u.State == Failed || u.State == Stopped }

// settled tells whether there is nothing more to wait for when it is started.
func (u Unit) settled() bool { return u.Ended() || u.State == Running || u.State == There }

// ExitCode returns the first exit code of ended containers that is not 0.
func ExitCode(units []Unit) int {
	for _, u := range units {
		for _, c := range u.Containers {
			if c.Exit != nil && *c.Exit != 0 {
				return *c.Exit
			}
		}
	}
	return 0
}

// platform is what keeps and runs resources.
type platform interface {
	look(context.Context, template.Resource) (Unit, error) // one that is not there is no error
	make(context.Context, template.Resource) error
	take(context.Context, template.Resource) error // one that is not there is no error
	// logs writes what the containers of a resource have said, at most tail lines of
	// each; 0 is all that is kept.
	logs(ctx context.Context, r template.Resource, container string, tail int, w io.Writer) error
}

// Room is a clean room's deployment.
type Room struct {
	platform
	resources []template.Resource
	// Pause is the longest between two looks while waiting.
	Pause time.Duration
}

// pauses are from a twentieth of the longest on: what is quick is seen soon, and what
// takes long is not asked for often.
func (r *Room) pauses() func() <-chan time.Time {
	next := r.Pause / 20
	return func() <-chan time.Time {
		defer func() { next = min(2*next, r.Pause) }()
		return time.After(next)
	}
}

// Status returns what there is, in the template's order.
func (r *Room) Status(ctx context.Context) (list []Unit, err error) {
	for _, resource := range r.resources {
		u, err := r.look(ctx, resource)
		if err != nil {
			return list, err
		}
		list = append(list, u)
	}
	return list, nil
}

// Up makes what is missing and waits until everything runs or has ended. Names that
// another deployment has are of kind fault.Conflict, before anything is made.
func (r *Room) Up(ctx context.Context) ([]Unit, error) {
	before, err := r.Status(ctx)
	if err != nil {
		return before, err
	}
	for _, u := range before {
		if u.State == Differs {
			return before, fault.Errorf(fault.Conflict, "see whose run it is; `cloister deploy down` of its own template ends it, or give the specification another name",
				"%s %s is there and not this deployment's: %s", u.Kind, u.Name, u.Detail)
		}
		if u.State == Deleting {
			return before, fault.Errorf(fault.Unavailable, "give the command again when it is gone", "%s %s is being deleted", u.Kind, u.Name)
		}
	}
	made := map[int]bool{}
	for i, u := range before {
		if u.State != Missing {
			continue
		}
		if err := r.make(ctx, r.resources[i]); err != nil {
			return before, err
		}
		made[i], before[i].Changed = true, true
	}
	after, err := r.wait(ctx, Unit.settled, "run")
	for i := range after {
		after[i].Changed = made[i]
	}
	return after, err
}

// WaitEnded waits until everything has ended.
func (r *Room) WaitEnded(ctx context.Context) ([]Unit, error) {
	return r.wait(ctx, func(u Unit) bool { return u.Ended() || u.State == There }, "have ended")
}

// wait looks until all units are as wanted. The end of ctx is of kind
// fault.Unavailable.
func (r *Room) wait(ctx context.Context, enough func(Unit) bool, what string) (list []Unit, err error) {
	for pause := r.pauses(); ; {
		now, err := r.Status(ctx)
		switch {
		case err == nil:
			list = now
		case ctx.Err() == nil:
			return now, err
		}
		var left []string
		for _, u := range list {
			if u.State == Missing {
				return list, fault.Errorf(fault.Incomplete, "give the command again", "%s %s went while it was waited for", u.Kind, u.Name)
			}
			if !enough(u) {
				left = append(left, fmt.Sprintf("%s %s is %s", u.Kind, u.Name, strings.TrimSpace(u.State+" "+u.Detail)))
			}
		}
		if left == nil && err == nil {
			return list, nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return list, ctx.Err()
			}
			return list, fault.Errorf(fault.Unavailable, "look with `cloister deploy status`; the same command again goes on, or wait longer with --timeout",
				"not all of it does %s yet: %s", what, strings.Join(left, "; "))
		case <-pause():
		}
	}
}

// Down deletes what there is, the last made first, and waits until it is gone. With
// all also what another template made under these names; without, that is left.
// What could not be deleted does not keep the rest.
func (r *Room) Down(ctx context.Context, all bool) ([]Unit, error) {
	list := make([]Unit, len(r.resources))
	var errs []error
	for i := len(list) - 1; i >= 0; i-- {
		u, err := r.down(ctx, r.resources[i], all)
		list[i], errs = u, append(errs, err)
	}
	return list, errors.Join(errs...)
}

func (r *Room) down(ctx context.Context, resource template.Resource, all bool) (Unit, error) {
	u, err := r.look(ctx, resource)
	if err != nil || u.State == Missing {
		return u, err
	}
	if u.State == Differs && !all {
		return u, fault.Errorf(fault.Conflict, "give the template that it was made from, or --all", "%s %s is left, as this template did not make it: %s", u.Kind, u.Name, u.Detail)
	}
	if u.State != Deleting {
		if err := r.take(ctx, resource); err != nil {
			return u, err
		}
	}
	for pause := r.pauses(); ; {
		if u, err = r.look(ctx, resource); err != nil || u.State == Missing {
			u.Changed = err == nil
			return u, err
		}
		select {
		case <-ctx.Done():
			u.State = Deleting
			if errors.Is(ctx.Err(), context.Canceled) {
				return u, ctx.Err()
			}
			return u, fault.Errorf(fault.Unavailable, "give the command again, or wait longer with --timeout", "%s %s is not gone yet", u.Kind, u.Name)
		case <-pause():
		}
	}
}

// Logs writes what the containers have said; of one container alone where it is
// named.
func (r *Room) Logs(ctx context.Context, container string, tail int, w io.Writer) error {
	for _, resource := range r.resources {
		if err := r.logs(ctx, resource, container, tail, w); err != nil {
			return err
		}
	}
	return nil
}
