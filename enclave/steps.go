package enclave

import (
	"context"
	"errors"
	"fmt"

	"cloister/enclave/envelope"

	"golang.org/x/sync/errgroup"
)

// step is one thing that is done, and what it is called in errors and refusals.
type step struct {
	name string
	do   func(ctx context.Context) error
}

// failure is the end of a start: which step, and why.
type failure struct {
	step string
	error
}

func (f *failure) Error() string { return f.step + ": " + f.error.Error() }

func (f *failure) Unwrap() error { return f.error }

func (s step) run(ctx context.Context) *failure {
	// A start that was called off takes no further step, even one that would not
	// notice.
	err := ctx.Err()
	if err == nil {
		err = s.do(ctx)
	}
	var part *failure // of a step of several parts, the one that failed
	switch {
	case err == nil:
		return nil
	case errors.As(err, &part):
		return part
	default:
		return &failure{s.name, err}
	}
}

// steps is the order. Nothing in this package does any of it elsewhere.
func (g *Gate) steps(p Plan) (steps []step) {
	first := []Event{{Kind: EventConsent, Name: "starting " + p.Application}}
	attest := []step{{"attesting this machine", g.Keys.Attest}}
	for _, stage := range []struct {
		kind    string
		volumes []Volume
	}{{EventCode, p.Code}, {EventData, p.Data}} {
		if len(stage.volumes) == 0 {
			continue
		}
		steps = append(steps,
			g.record(append(first, each(stage.volumes, accessWrappedDEK)...)...),
			together(each(stage.volumes, g.fetch)),
			g.record(each(stage.volumes, accessKEK)...))
		steps = append(steps, attest...)
		steps = append(steps,
			g.record(each(stage.volumes, consentToRelease)...),
			together(each(stage.volumes, g.release)),
			g.record(each(stage.volumes, access(stage.kind))...),
			g.mount(stage.kind, stage.volumes))
		first, attest = nil, nil // once a start
	}
	return append(steps,
		g.record(append(first, Event{Kind: EventConsent, Name: "executing " + p.Application}, Event{Kind: EventExecution, Name: p.Application})...),
		step{"starting " + p.Application, g.Start})
}

func each[T any](volumes []Volume, of func(Volume) T) []T {
	var list []T
	for _, v := range volumes {
		list = append(list, of(v))
	}
	return list
}

// maxAtOnce is how many volumes take a step together. Vaults throttle: a Managed
// HSM serves some 10 releases a second, a vault 200 secrets (Azure's published
// service limits).
const maxAtOnce = 8

// together is a step whose parts are taken at once. The first that fails calls
// the others off, and all have ended when it returns.
func together(parts []step) step {
	return step{parts[0].name, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(maxAtOnce)
		for _, part := range parts {
			group.Go(func() error {
				if f := part.run(ctx); f != nil {
					return f
				}
				return nil
			})
		}
		return group.Wait()
	}}
}

// record asks and records events as one step, which is taken when all of them
// are accepted.
func (g *Gate) record(events ...Event) step {
	return step{events[0].step(), func(ctx context.Context) error {
		accepted, err := g.Governance.Record(ctx, events...)
		if err != nil && accepted < len(events) {
			return &failure{events[accepted].step(), err}
		}
		return err
	}}
}

func (g *Gate) fetch(v Volume) step {
	return step{"fetching the wrapped DEK of " + v.Name, func(ctx context.Context) error {
		wrapped, err := g.Keys.WrappedDEK(ctx, v)
		if err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.wrapped[v.Name] = wrapped
		return nil
	}}
}

// release also unwraps, so that a KEK lives no longer than it takes to open one
// box.
func (g *Gate) release(v Volume) step {
	return step{"releasing the KEK of " + v.Name, func(ctx context.Context) error {
		g.mu.Lock()
		wrapped := g.wrapped[v.Name]
		g.mu.Unlock()
		kek, err := g.Keys.Release(ctx, v, wrapped)
		if err != nil {
			return err
		}
		defer kek.Destroy()
		dek, err := kek.Unwrap(wrapped, v.Key)
		if err != nil {
			return fmt.Errorf("unwrapping the DEK: %w", err)
		}
		return g.keep(v.Name, dek)
	}}
}

func (g *Gate) mount(kind string, volumes []Volume) step {
	return step{"mounting " + kind, func(ctx context.Context) error {
		opened, err := g.opened(volumes)
		if err != nil {
			return err
		}
		return g.Mount(ctx, opened)
	}}
}

func (g *Gate) opened(volumes []Volume) ([]Opened, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deks == nil {
		return nil, errors.New("the gate is closed")
	}
	return each(volumes, func(v Volume) Opened { return Opened{v.Name, g.deks[v.Name]} }), nil
}

// keep holds a DEK until Close. A gate that was closed meanwhile holds none.
func (g *Gate) keep(name string, dek *envelope.DEK) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deks == nil {
		dek.Destroy()
		return errors.New("the gate is closed")
	}
	g.deks[name] = dek
	return nil
}
