package enclave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloister/enclave/envelope"
	"cloister/internal/fault"
)

// world records everything the gate does, and fails where it is told to.
type world struct {
	mu      sync.Mutex // guards log, keks and keys
	log     []string
	fail    string // the entry at which to fail
	cancel  context.CancelFunc
	stopAt  string // the entry at which the start is called off
	deks    map[string]*envelope.DEK
	keks    []*fakeKEK
	keys    [][]byte // the DEKs' bytes, aliased
	appends int      // how often Record was called; never at once
}

var errTold = fault.Errorf(fault.Refused, "", "told to fail")

func (w *world) do(format string, args ...any) error {
	entry := fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, entry)
	if entry == w.stopAt {
		w.cancel()
	}
	if entry == w.fail {
		return errTold
	}
	return nil
}

func (w *world) Record(ctx context.Context, events ...Event) (int, error) {
	w.appends++
	for i, e := range events {
		if err := w.record(ctx, e); err != nil {
			return i, err
		}
	}
	return len(events), nil
}

func (w *world) record(ctx context.Context, e Event) error {
	switch e.Kind {
	case EventConsent:
		return w.do("consent: %s", e.Name)
	case EventRefusal:
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return w.do("refusal: %s: %s", e.Name, e.Detail)
	default:
		return w.do("record %s %s %s", e.Kind, e.Name, e.Volume)
	}
}

func (w *world) WrappedDEK(_ context.Context, v Volume) ([]byte, error) {
	return []byte("wrapped " + v.Name), w.do("fetch %s", v.Name)
}

func (w *world) Attest(context.Context) error { return w.do("attest") }

func (w *world) Release(_ context.Context, v Volume, wrapped []byte) (KEK, error) {
	if err := w.do("release %s for %s", v.Name, wrapped); err != nil {
		return nil, err
	}
	kek := &fakeKEK{world: w, name: v.Name}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keks = append(w.keks, kek)
	return kek, nil
}

type fakeKEK struct {
	world     *world
	name      string
	destroyed bool
}

func (k *fakeKEK) Unwrap(wrapped []byte, want envelope.Expected) (*envelope.DEK, error) {
	if err := k.world.do("unwrap %s as %d", wrapped, want.KeyVersion); err != nil {
		return nil, err
	}
	dek, err := envelope.NewDEK(bytes.Repeat([]byte{7}, 32))
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	k.world.keys = append(k.world.keys, dek.Bytes())
	return dek, err
}

func (k *fakeKEK) Destroy() { k.destroyed = true }

func (w *world) gate() *Gate {
	w.deks = map[string]*envelope.DEK{}
	return &Gate{
		Governance: w, Keys: w,
		Mount: func(_ context.Context, volumes []Opened) error {
			var names []string
			for _, v := range volumes {
				if v.DEK.Bytes()[0] != 7 {
					return errors.New("mounted with a zero key")
				}
				w.deks[v.Name] = v.DEK
				names = append(names, v.Name)
			}
			return w.do("mount %s", strings.Join(names, ", "))
		},
		Start: func(context.Context) error { return w.do("start") },
	}
}

func plan() Plan {
	v := func(name string, version uint32) Volume {
		return Volume{Name: name, WrappedDEK: "s/" + name, KEK: "k/" + name, Key: envelope.Expected{KeyVersion: version}}
	}
	return Plan{Code: []Volume{v("model", 1)}, Data: []Volume{v("sales", 2), v("out", 3)}, Application: "app"}
}

// order is the one in which things happen. What stands in one line happens
// together: events of one append in their order, volumes' parts in any.
var order = [][]string{
	{"consent: starting app", "record wrapped-dek s/model model"},
	{"fetch model"},
	{"record kek k/model model"},
	{"attest"},
	{"consent: releasing the KEK of model"},
	{"release model for wrapped model", "unwrap wrapped model as 1"},
	{"record code model model"},
	{"mount model"},
	{"record wrapped-dek s/sales sales", "record wrapped-dek s/out out"},
	{"fetch sales", "fetch out"},
	{"record kek k/sales sales", "record kek k/out out"},
	{"consent: releasing the KEK of sales", "consent: releasing the KEK of out"},
	{"release sales for wrapped sales", "unwrap wrapped sales as 2", "release out for wrapped out", "unwrap wrapped out as 3"},
	{"record data sales sales", "record data out out"},
	{"mount sales, out"},
	{"consent: executing app", "record execution app "},
	{"start"},
}

// appends is how many of those lines are said to the ledger.
const appends = 9

// inOrder reports whether a log is the order up to some place: every line whole
// but the last.
func inOrder(log []string) bool {
	for _, line := range order {
		n := min(len(line), len(log))
		if n < len(line) && n == len(log) {
			// The last line: any part of it, of an append the first.
			return !slices.ContainsFunc(log, func(entry string) bool { return !slices.Contains(line, entry) }) &&
				(!said(line) || slices.Equal(log, line[:n]))
		}
		if said(line) && !slices.Equal(log[:n], line) || !slices.Equal(slices.Sorted(slices.Values(log[:n])), slices.Sorted(slices.Values(line))) {
			return false
		}
		log = log[n:]
	}
	return len(log) == 0
}

func said(line []string) bool {
	return strings.HasPrefix(line[0], "record ") || strings.HasPrefix(line[0], "consent: ")
}

func TestOrder(t *testing.T) {
	w := &world{}
	g := w.gate()
	if err := g.Open(t.Context(), plan()); err != nil {
		t.Fatal(err)
	}
	if !inOrder(w.log) || len(w.log) != len(slices.Concat(order...)) || w.appends != appends {
		t.Errorf("the gate did, in %d appends,\n%s\nwant, in %d,\n%q", w.appends, strings.Join(w.log, "\n"), appends, order)
	}
	for _, name := range []string{"sales", "out"} {
		if slices.Index(w.log, "release "+name+" for wrapped "+name) > slices.IndexFunc(w.log, func(e string) bool { return strings.HasPrefix(e, "unwrap wrapped "+name) }) {
			t.Errorf("%s is unwrapped before it is released", name)
		}
	}
	for _, kek := range w.keks {
		if !kek.destroyed {
			t.Errorf("the KEK of %s is not destroyed", kek.name)
		}
	}
	for name, dek := range w.deks {
		if dek.Bytes()[0] != 7 {
			t.Errorf("the DEK of %s is gone before Close", name)
		}
	}
	g.Close()
	g.Close()
	wantZeroed(t, w)
	if err := g.Open(t.Context(), plan()); err == nil {
		t.Error("the gate opens twice")
	}
}

func wantZeroed(t *testing.T, w *world) {
	t.Helper()
	for i, key := range w.keys {
		if !bytes.Equal(key, make([]byte, envelope.DEKSize)) {
			t.Errorf("DEK %d is not zeroed", i)
		}
	}
	for _, kek := range w.keks {
		if !kek.destroyed {
			t.Errorf("the KEK of %s is not destroyed", kek.name)
		}
	}
}

// everyEntry calls f with each thing that happens, and how many happen at least
// and at most when it is the last: what happens together may or may not.
func everyEntry(f func(entry string, least, most int)) {
	before := 0
	for _, line := range order {
		for i, entry := range line {
			if said(line) {
				f(entry, before+i+1, before+i+1)
			} else {
				f(entry, before+1, before+len(line))
			}
		}
		before += len(line)
	}
}

// Each step fails in turn: nothing after it happens but the refusal's record,
// and no key is left.
func TestEveryStepFailsClosed(t *testing.T) {
	everyEntry(func(entry string, least, most int) {
		w := &world{fail: entry}
		err := w.gate().Open(t.Context(), plan())
		if err == nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), ": told to fail") {
			t.Errorf("%q: %v", entry, err)
			return
		}
		did := w.log[:len(w.log)-1]
		if len(did) < least || len(did) > most || !inOrder(did) || !strings.HasPrefix(w.log[len(w.log)-1], "refusal: ") {
			t.Errorf("%q failed, and the gate did %q", entry, w.log)
		}
		if !strings.Contains(w.log[len(w.log)-1], strings.SplitN(err.Error(), ":", 2)[0]) {
			t.Errorf("refusal %q does not name the step of %q", w.log[len(w.log)-1], err)
		}
		wantZeroed(t, w)
	})
}

func TestErrorsNameTheStep(t *testing.T) {
	for entry, want := range map[string]string{
		"fetch sales":                       "fetching the wrapped DEK of sales: told to fail",
		"attest":                            "attesting this machine: told to fail",
		"consent: releasing the KEK of out": "asking for consent before releasing the KEK of out: told to fail",
		"unwrap wrapped model as 1":         "releasing the KEK of model: unwrapping the DEK: told to fail",
		"record data out out":               "recording data of out: told to fail",
		"record execution app ":             "recording execution of app: told to fail",
		"mount sales, out":                  "mounting data: told to fail",
		"start":                             "starting app: told to fail",
	} {
		w := &world{fail: entry}
		if err := w.gate().Open(t.Context(), plan()); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", entry, err, want)
		}
	}
}

// A start that is called off stops before the next step, and still records it.
func TestCancelledStart(t *testing.T) {
	last := order[len(order)-1]
	everyEntry(func(entry string, least, most int) {
		if slices.Contains(last, entry) {
			return // then it has started
		}
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{stopAt: entry, cancel: cancel}
		err := w.gate().Open(ctx, plan())
		did := w.log[:len(w.log)-1]
		for _, line := range order {
			if said(line) && slices.Contains(line, entry) {
				most = max(most, least+len(line)-1) // one append is not cut in two
			}
		}
		if !errors.Is(err, context.Canceled) || len(did) < least || len(did) > most || !inOrder(did) || !strings.HasPrefix(w.log[len(w.log)-1], "refusal: ") {
			t.Errorf("called off at %q: %v, did %q", entry, err, w.log)
		}
		wantZeroed(t, w)
	})
}

// Two volumes of a stage are with the key source at once: each waits there for
// the other.
func TestVolumesOfAStageGoTogether(t *testing.T) {
	w := &world{}
	g := w.gate()
	g.Keys = &meeting{world: w, fetches: newRendezvous(2), releases: newRendezvous(2)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := plan()
	p.Code = nil
	if err := g.Open(ctx, p); err != nil {
		t.Fatal(err)
	}
	g.Close()
	wantZeroed(t, w)
}

// meeting is a key source that answers about a volume when another has come.
type meeting struct {
	*world
	fetches, releases *rendezvous
}

func (m *meeting) WrappedDEK(ctx context.Context, v Volume) ([]byte, error) {
	if err := m.fetches.meet(ctx); err != nil {
		return nil, err
	}
	return m.world.WrappedDEK(ctx, v)
}

func (m *meeting) Release(ctx context.Context, v Volume, wrapped []byte) (KEK, error) {
	if err := m.releases.meet(ctx); err != nil {
		return nil, err
	}
	return m.world.Release(ctx, v, wrapped)
}

type rendezvous struct {
	missing atomic.Int32
	all     chan struct{}
}

func newRendezvous(n int32) *rendezvous {
	r := &rendezvous{all: make(chan struct{})}
	r.missing.Store(n)
	return r
}

func (r *rendezvous) meet(ctx context.Context) error {
	if r.missing.Add(-1) == 0 {
		close(r.all)
	}
	select {
	case <-r.all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the other did not come: %w", ctx.Err())
	}
}

// The volume that fails calls off the one that would wait for ever, and no key
// that came out meanwhile is left.
func TestAFailureCallsOffTheOthers(t *testing.T) {
	w := &world{fail: "release out for wrapped out"}
	g := w.gate()
	g.Keys = &endless{w}
	p := plan()
	p.Code = nil
	err := g.Open(t.Context(), p)
	if err == nil || err.Error() != "releasing the KEK of out: told to fail" {
		t.Errorf("got %v", err)
	}
	wantZeroed(t, w)
}

type endless struct{ *world }

func (e *endless) Release(ctx context.Context, v Volume, wrapped []byte) (KEK, error) {
	if v.Name == "sales" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return e.world.Release(ctx, v, wrapped)
}

func TestCloseDuringOpen(t *testing.T) {
	w := &world{}
	g := w.gate()
	mount := g.Mount
	g.Mount = func(ctx context.Context, volumes []Opened) error {
		if volumes[0].Name == "model" {
			defer g.Close()
		}
		return mount(ctx, volumes)
	}
	if err := g.Open(t.Context(), plan()); err == nil {
		t.Error("a closed gate goes on")
	}
	wantZeroed(t, w)
}

func TestARefusalThatCannotBeRecordedIsSaid(t *testing.T) {
	w := &world{fail: "fetch model"}
	g := w.gate()
	g.Governance = deaf{w}
	err := g.Open(t.Context(), plan())
	if err == nil || !strings.Contains(err.Error(), "fetching the wrapped DEK of model: told to fail") ||
		!strings.Contains(err.Error(), "recording that refusal: the ledger is gone") || fault.KindOf(err) != fault.Refused {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

type deaf struct{ *world }

func (d deaf) Record(ctx context.Context, events ...Event) (int, error) {
	if events[0].Kind == EventRefusal {
		return 0, errors.New("the ledger is gone")
	}
	return d.world.Record(ctx, events...)
}

func TestPlansThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Plan){
		"no application": func(p *Plan) { p.Application = "" },
		"no name":        func(p *Plan) { p.Data[0].Name = "" },
		"a name twice":   func(p *Plan) { p.Data[0].Name = "model" },
	} {
		w, p := &world{}, plan()
		change(&p)
		if err := w.gate().Open(t.Context(), p); err == nil || len(w.log) > 0 {
			t.Errorf("%s: %v, did %q", name, err, w.log)
		}
	}
	if err := (&Gate{}).Open(t.Context(), plan()); err == nil {
		t.Error("a gate without parts opens")
	}
}
