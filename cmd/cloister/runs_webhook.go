package main

import (
	"context"
	"fmt"
	"time"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/webhook"

	urfave "github.com/urfave/cli/v2"
)

// ended is what a webhook is told of a run's end. It goes to a service outside, so
// it has no words of the application's or of a party's.
type ended struct {
	Ledger   string `json:"ledger"` // digest of its verifier key
	Entry    uint64 `json:"entry"`  // of the completion
	Run      string `json:"run"`
	Version  uint64 `json:"version"`
	Complete bool   `json:"complete"`
	time     time.Time
}

// teller tells the webhook, one end after the other, beside what is printed.
type teller struct {
	sender *webhook.Sender
	where  *cursor
	queue  chan ended
	stop   context.CancelFunc
	gone   chan struct{}
}

// maxUntold is how many ends wait for a webhook that does not take them; then the
// log is not read on.
const maxUntold = 1024

// startTeller returns nil where there is no --webhook. What ends it but its caller
// is told to failed.
func startTeller(ctx context.Context, c *urfave.Context, where *cursor, failed context.CancelCauseFunc) (*teller, error) {
	if (c.String("webhook") == "") != (c.String("webhook-key") == "") {
		return nil, fault.Errorf(fault.Usage, "give both, or none", "runs watch takes --webhook and --webhook-key together")
	}
	if c.String("webhook") == "" {
		return nil, nil
	}
	roots, err := caRoots(c)
	if err != nil {
		return nil, err
	}
	key, err := webhook.ReadKey(c.String("webhook-key"))
	if err != nil {
		return nil, err
	}
	say := func(err error) {
		fmt.Fprintln(c.App.ErrWriter, "cloister: telling it again:", cli.Printable(err.Error()))
	}
	t := &teller{where: where, queue: make(chan ended, maxUntold), gone: make(chan struct{})}
	if t.sender, err = webhook.New(webhook.Options{URL: c.String("webhook"), Key: key, Roots: roots, Failed: say}); err != nil {
		key.Destroy()
		return nil, err
	}
	ctx, t.stop = context.WithCancel(ctx)
	go func() {
		defer close(t.gone)
		defer key.Destroy()
		for e := range t.queue {
			if err := t.one(ctx, e); err != nil {
				failed(err)
				return
			}
		}
	}()
	return t, nil
}

// one tells of an end. That it is of this run's is the message's id: a run has one.
func (t *teller) one(ctx context.Context, e ended) error {
	if err := t.sender.Deliver(ctx, webhook.Message{ID: "run-ended-" + e.Run, Type: "run.ended", Time: e.time, Data: e}); err != nil {
		return err
	}
	return t.where.told(e.Entry)
}

// add queues an end.
func (t *teller) add(ctx context.Context, e ended) error {
	t.where.telling(e.Entry)
	select {
	case t.queue <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish ends it: once all is told, or at once.
func (t *teller) finish(all bool) {
	if t == nil {
		return
	}
	close(t.queue)
	if !all {
		t.stop()
	}
	<-t.gone
	t.stop()
}
