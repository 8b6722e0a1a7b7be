package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"cloister/enclave/kbs"
	"cloister/fs/format"
	"cloister/policy/spec"
	"cloister/prep/provision"

	urfave "github.com/urfave/cli/v2"
)

// volumesAtOnce is how many volumes are worked on at a time. Each asks some twenty
// times, one after the other, and mostly waits; the tightest limit is a Managed HSM's,
// of about ten keys made in ten seconds.
// https://learn.microsoft.com/azure/key-vault/general/service-limits
const volumesAtOnce = 4

// eachVolume does something for n volumes, and goes on with the others after a
// failure. Errors are in the order of the volumes.
func eachVolume(n int, do func(i int) error) error {
	errs := make([]error, n)
	var group errgroup.Group
	group.SetLimit(volumesAtOnce)
	for i := range n {
		group.Go(func() error { errs[i] = do(i); return nil })
	}
	group.Wait() //nolint:errcheck // there are none
	return errors.Join(errs...)
}

// applyAll provisions the volumes, several at a time. After a failure the others
// are gone on with; what is in place then is returned with the error.
func (o *owner) applyAll(c *urfave.Context, s spec.Specification, volumes []spec.Source, root *format.RootSecret) ([]provisioned, error) {
	work := make([]func(context.Context) (provisioned, error), len(volumes))
	for i, v := range volumes {
		do, release, err := o.prepare(c, s, v, root)
		if err != nil {
			return nil, fmt.Errorf("provisioning %s: %w", v.Name, err)
		}
		defer release()
		work[i] = do
	}
	p := startCounter(c, "volumes")
	p.Total(int64(len(volumes)))
	all := make([]provisioned, len(volumes))
	err := eachVolume(len(volumes), func(i int) (err error) {
		if all[i], err = work[i](c.Context); err != nil {
			all[i] = provisioned{}
			return fmt.Errorf("provisioning %s: %w", volumes[i].Name, err)
		}
		p.Done(1)
		return nil
	})
	p.stop()
	var done []provisioned
	for _, a := range all {
		if a.Volume != "" {
			done = append(done, a)
		}
	}
	if err != nil && len(volumes) > 1 {
		err = fmt.Errorf("%d of %d volumes are in place, and the next apply goes on: %w", len(done), len(volumes), err)
	}
	return done, err
}

// prepare returns what makes a volume's keys, and what ends it.
func (o *owner) prepare(c *urfave.Context, s spec.Specification, v spec.Source, root *format.RootSecret) (do func(context.Context) (provisioned, error), release func(), err error) {
	if v.Key.Broker == nil {
		want, release, err := o.volume(c.Context, c, s, v, root)
		return func(ctx context.Context) (provisioned, error) { return o.applyVault(ctx, want) }, release, err
	}
	id, dek, err := o.dek(v, root)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) (provisioned, error) { return o.applyBroker(ctx, v, id, dek) }, dek.Destroy, nil
}

func (o *owner) applyVault(ctx context.Context, want provision.Volume) (provisioned, error) {
	done, err := o.vaults.Apply(ctx, want)
	p := provisioned{Volume: want.Name, KEK: done.KEK, KEKChanged: done.KEKChanged, Secret: done.Secret, SecretChanged: done.SecretChanged}
	for _, i := range done.Items {
		if i.Kind != provision.KindKEK && i.Kind != provision.KindSecret {
			p.Access = append(p.Access, i)
		}
	}
	return p, err
}

// brokerItems are a volume's keys at a key broker, of which an owner sees nothing.
func brokerItems(v spec.Source) []provision.Item {
	const blind = "a key broker shows an owner nothing: apply places both keys anew each time, and the clean room sees whether they are there"
	b := v.Key.Broker
	return []provision.Item{
		{Volume: v.Name, Kind: provision.KindKEK, Resource: kbs.Address(b.URL, b.KEK), State: provision.Unknown, Detail: blind},
		{Volume: v.Name, Kind: provision.KindSecret, Resource: kbs.Address(b.URL, b.Resource), State: provision.Unknown, Detail: blind},
	}
}
