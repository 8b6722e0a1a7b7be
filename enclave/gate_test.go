package enclave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloister/enclave/envelope"
	"cloister/internal/fault"
)

// world records everything the gate does, and fails where it is told to.
type world struct {
	log    []string
	fail   string // the entry at which to fail
	cancel context.CancelFunc
	stopAt string // the entry at which the start is called off
	deks   map[string]*envelope.DEK
	keks   []*fakeKEK
	keys   [][]byte // the DEKs' bytes, aliased
}

var errTold = fault.Errorf(fault.Refused, "", "told to fail")

func (w *world) do(format string, args ...any) error {
	entry := fmt.Sprintf(format, args...)
	w.log = append(w.log, entry)
	if entry == w.stopAt {
		w.cancel()
	}
	if entry == w.fail {
		return errTold
	}
	return nil
}

func (w *world) CheckConsent(_ context.Context, scope, what string) error {
	return w.do("consent %s: %s", scope, what)
}

func (w *world) Record(ctx context.Context, e Event) error {
	if e.Kind == EventRefusal {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return w.do("refusal: %s: %s", e.Name, e.Detail)
	}
	return w.do("record %s %s %s", e.Kind, e.Name, e.Volume)
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
	k.world.keys = append(k.world.keys, dek.Bytes())
	return dek, err
}

func (k *fakeKEK) Destroy() { k.destroyed = true }

func (w *world) gate() *Gate {
	w.deks = map[string]*envelope.DEK{}
	return &Gate{
		Governance: w, Keys: w,
		Mount: func(_ context.Context, volume string, dek *envelope.DEK) error {
			if dek.Bytes()[0] != 7 {
				return errors.New("mounted with a zero key")
			}
			w.deks[volume] = dek
			return w.do("mount %s", volume)
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

var order = []string{
	"consent execution: starting app",
	"record wrapped-dek s/model model", "fetch model",
	"record kek k/model model", "attest",
	"consent execution: releasing the KEK of model", "release model for wrapped model", "unwrap wrapped model as 1",
	"record code model model", "mount model",
	"record wrapped-dek s/sales sales", "fetch sales",
	"record kek k/sales sales",
	"consent execution: releasing the KEK of sales", "release sales for wrapped sales", "unwrap wrapped sales as 2",
	"record data sales sales", "mount sales",
	"record wrapped-dek s/out out", "fetch out",
	"record kek k/out out",
	"consent execution: releasing the KEK of out", "release out for wrapped out", "unwrap wrapped out as 3",
	"record data out out", "mount out",
	"consent execution: executing app", "record execution app ", "start",
}

func TestOrder(t *testing.T) {
	w := &world{}
	g := w.gate()
	if err := g.Open(t.Context(), plan()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.log, order) {
		t.Errorf("the gate did\n%s\nwant\n%s", strings.Join(w.log, "\n"), strings.Join(order, "\n"))
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

// Each step fails in turn: nothing after it happens but the refusal's record,
// and no key is left.
func TestEveryStepFailsClosed(t *testing.T) {
	for i, entry := range order {
		w := &world{fail: entry}
		err := w.gate().Open(t.Context(), plan())
		if err == nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), ": told to fail") {
			t.Errorf("%q: %v", entry, err)
			continue
		}
		if len(w.log) != i+2 || !slices.Equal(w.log[:i+1], order[:i+1]) || !strings.HasPrefix(w.log[i+1], "refusal: ") {
			t.Errorf("%q failed and then came %q", entry, w.log[i+1:])
		}
		if !strings.Contains(w.log[len(w.log)-1], strings.SplitN(err.Error(), ":", 2)[0]) {
			t.Errorf("refusal %q does not name the step of %q", w.log[len(w.log)-1], err)
		}
		wantZeroed(t, w)
	}
}

func TestErrorsNameTheStep(t *testing.T) {
	for entry, want := range map[string]string{
		"fetch sales": "fetching the wrapped DEK of sales: told to fail",
		"attest":      "attesting this machine: told to fail",
		"consent execution: releasing the KEK of out": "asking for consent before releasing the KEK of out: told to fail",
		"unwrap wrapped model as 1":                   "releasing the KEK of model: unwrapping the DEK: told to fail",
		"record data out out":                         "recording data of out: told to fail",
		"record execution app ":                       "recording execution of app: told to fail",
		"start":                                       "starting app: told to fail",
	} {
		w := &world{fail: entry}
		if err := w.gate().Open(t.Context(), plan()); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", entry, err, want)
		}
	}
}

// A start that is called off stops before the next step, and still records it.
func TestCancelledStart(t *testing.T) {
	for i, entry := range order[:len(order)-1] {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{stopAt: entry, cancel: cancel}
		err := w.gate().Open(ctx, plan())
		if strings.HasPrefix(entry, "release ") {
			i++ // releasing and unwrapping are one step
		}
		if !errors.Is(err, context.Canceled) || len(w.log) != i+2 || !strings.HasPrefix(w.log[i+1], "refusal: ") {
			t.Errorf("called off at %q: %v, then %q", entry, err, w.log[i+1:])
		}
		wantZeroed(t, w)
	}
}

func TestCloseDuringOpen(t *testing.T) {
	w := &world{}
	g := w.gate()
	mount := g.Mount
	g.Mount = func(ctx context.Context, volume string, dek *envelope.DEK) error {
		if volume == "sales" {
			g.Close()
		}
		return mount(ctx, volume, dek)
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

func (d deaf) Record(ctx context.Context, e Event) error {
	if e.Kind == EventRefusal {
		return errors.New("the ledger is gone")
	}
	return d.world.Record(ctx, e)
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
