package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloister/internal/fault"
)

// transport answers requests without a network, so that time in a test can be
// made up.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

const testSAS = "?sv=2021-08-06&sr=c&sp=rl&sig=c2VjcmV0LXNpZ25hdHVyZQ%3D%3D"

func openFake(t *testing.T, f transport) *Store {
	t.Helper()
	s, err := Open(t.Context(), "https://acct.blob.core.windows.net/cont/vol"+testSAS, Options{Client: &http.Client{Transport: f}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func response(r *http.Request, status int, header http.Header, body io.Reader) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(body), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

func ranged(r *http.Request, body io.Reader, first, last int) *http.Response {
	h := http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/1000", first, last)}, "Etag": {`"1"`}}
	return response(r, http.StatusPartialContent, h, body)
}

// Away for good, a store costs its patience and one stall at most.
func TestTimeToGiveUp(t *testing.T) {
	for name, f := range map[string]transport{
		"refuses":   func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"is silent": func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		"is overloaded": func(r *http.Request) (*http.Response, error) {
			return response(r, 503, http.Header{"Retry-After": {"7"}}, strings.NewReader("")), nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			requests := 0
			s := openFake(t, func(r *http.Request) (*http.Response, error) { requests++; return f(r) })
			start := time.Now()
			err := s.Get(t.Context(), "d/x", 0, make([]byte, 10))
			took := time.Since(start)
			if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "gave up after") {
				t.Errorf("a store that %s: %v", name, err)
			}
			if took > DefaultPatience+DefaultStall || took < DefaultPatience/2 {
				t.Errorf("a store that %s held a reader for %v", name, took)
			}
			if requests < 2 || requests > 30 {
				t.Errorf("a store that %s was asked %d times", name, requests)
			}
		})
	}
}

// Away for 30 s, a store costs a delay and fails nothing.
func TestAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := openFake(t, func(r *http.Request) (*http.Response, error) {
			if time.Since(start) < 30*time.Second {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			}
			return ranged(r, strings.NewReader("0123456789"), 0, 9), nil
		})
		p := make([]byte, 10)
		if err := s.Get(t.Context(), "d/x", 0, p); err != nil || string(p) != "0123456789" {
			t.Errorf("Get: %q, %v", p, err)
		}
		if took := time.Since(start); took > 40*time.Second {
			t.Errorf("it came back after 30 s and was noticed after %v", took)
		}
	})
}

// Who comes when the store has been away for long is told after one attempt, and
// served as soon as it is back; the next outage is another one, even if nobody
// saw the store in between.
func TestAwayForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		requests := 0
		s := openFake(t, func(r *http.Request) (*http.Response, error) {
			if requests++; away.Load() {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return ranged(r, strings.NewReader("x"), 0, 0), nil
		})
		away.Store(true)
		get := func() (error, time.Duration) {
			start := time.Now()
			return s.Get(t.Context(), "d/x", 0, make([]byte, 1)), time.Since(start)
		}
		if err, _ := get(); fault.KindOf(err) != fault.Unavailable {
			t.Fatalf("away: %v", err)
		}
		for range 3 {
			requests = 0
			if err, took := get(); fault.KindOf(err) != fault.Unavailable || took != DefaultStall || requests != 1 {
				t.Errorf("still away: %v after %v and %d requests", err, took, requests)
			}
		}
		away.Store(false)
		if err, took := get(); err != nil || took != 0 {
			t.Errorf("back: %v after %v", err, took)
		}
		away.Store(true)
		time.AfterFunc(DefaultPatience/2, func() { away.Store(false) })
		if err, _ := get(); err != nil {
			t.Errorf("away again, for half of patience: %v", err)
		}
		away.Store(true)
		get()
		time.Sleep(time.Hour)
		time.AfterFunc(DefaultPatience/2, func() { away.Store(false) })
		if err, _ := get(); err != nil {
			t.Errorf("away for half of patience, an hour after an outage that nobody saw end: %v", err)
		}
	})
}

// One object that cannot be had for long says nothing of the others.
func TestOneObjectFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		others := 0
		s := openFake(t, func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/bad") {
				return response(r, 500, nil, strings.NewReader("")), nil
			}
			if others++; others%2 == 0 {
				return response(r, 503, http.Header{"Retry-After": {"9"}}, strings.NewReader("")), nil
			}
			return ranged(r, strings.NewReader("x"), 0, 0), nil
		})
		done := make(chan error)
		go func() { done <- s.Get(t.Context(), "d/bad", 0, make([]byte, 1)) }()
		for range 70 {
			if err := s.Get(t.Context(), "d/good", 0, make([]byte, 1)); err != nil {
				t.Errorf("another object: %v", err)
			}
			time.Sleep(time.Second)
		}
		if err := <-done; fault.KindOf(err) != fault.Unavailable {
			t.Errorf("the bad object: %v", err)
		}
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outage
		want := func(failing, want time.Time) {
			t.Helper()
			if got := o.since(failing, DefaultPatience); got != want {
				t.Errorf("failing since %v, want %v", got, want)
			}
		}
		start := time.Now()
		want(start, start)
		time.Sleep(50 * time.Second)
		want(time.Now(), start) // another operation, the same outage
		o.end()
		over := time.Now()
		want(start, start)     // an operation that failed all the time
		want(time.Now(), over) // another one, which that says nothing of
		time.Sleep(DefaultPatience + time.Second)
		want(time.Now(), time.Now()) // nobody knows what was in between
	})
}

// A slow body is no stalled body, and every byte that arrives renews patience.
func TestSlowBodyIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		s := openFake(t, func(r *http.Request) (*http.Response, error) {
			requests++
			return ranged(r, &drip{ctx: r.Context(), every: DefaultStall - time.Second, left: 100}, 0, 99), nil
		})
		if err := s.Get(t.Context(), "d/x", 0, make([]byte, 100)); err != nil || requests != 1 {
			t.Errorf("Get: %v after %d requests", err, requests)
		}
	})
}

// drip is a body of which one byte comes every so often.
type drip struct {
	ctx   context.Context
	every time.Duration
	left  int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	if err := sleep(d.ctx, d.every); err != nil {
		return 0, err
	}
	d.left--
	return copy(p, "x"), nil
}

// Who waits for a service that has never answered is told why, once and at
// once; one that has answered is known to be there.
func TestWaitingIsSaid(t *testing.T) {
	for name, answers := range map[string]bool{"was never there": false, "has answered": true} {
		synctest.Test(t, func(t *testing.T) {
			var said []string
			start, away := time.Now(), false
			s, err := Open(t.Context(), "https://acct.blob.core.windows.net/cont/vol"+testSAS, Options{
				Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
					if away {
						return nil, errors.New("connection refused")
					}
					return ranged(r, strings.NewReader("0123456789"), 0, 9), nil
				})},
				Waiting: func(line string) {
					said = append(said, line)
					if time.Since(start) > time.Second {
						t.Errorf("said after %v", time.Since(start))
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if answers {
				if err := s.Get(t.Context(), "d/x", 0, make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
			}
			away = true
			for range 2 {
				if err := s.Get(t.Context(), "d/x", 0, make([]byte, 10)); fault.KindOf(err) != fault.Unavailable {
					t.Errorf("a store that is away: %v", err)
				}
			}
			want := []string{"waiting for https://acct.blob.core.windows.net/cont/vol, up to 1m0s: connection refused"}
			if answers {
				want = nil
			}
			if !slices.Equal(said, want) {
				t.Errorf("a store that %s: it says %q, want %q", name, said, want)
			}
		})
	}
}

func TestCancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openFake(t, func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := s.Put(ctx, "d/x", []byte("x"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// A name that never was is told at once; a host that has answered is away.
func TestNameServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unknown := &net.DNSError{Err: "no such host", Name: "acct.blob.core.windows.net", IsNotFound: true}
		there, back := false, time.Time{}
		s := openFake(t, func(r *http.Request) (*http.Response, error) {
			if there || !back.IsZero() && time.Now().After(back) {
				return ranged(r, strings.NewReader("x"), 0, 0), nil
			}
			return nil, &net.OpError{Op: "dial", Err: unknown}
		})
		start := time.Now()
		err := s.Get(t.Context(), "d/x", 0, make([]byte, 1))
		if fault.KindOf(err) != fault.NotFound || time.Since(start) != 0 || !strings.Contains(fault.Hints(err)[0], "account's name") {
			t.Errorf("after %v: %v: %v", time.Since(start), fault.KindOf(err), err)
		}
		there = true
		if err := s.Get(t.Context(), "d/x", 0, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		there, back = false, time.Now().Add(20*time.Second)
		if err := s.Get(t.Context(), "d/x", 0, make([]byte, 1)); err != nil {
			t.Errorf("with its name server away for 20 s: %v", err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			header http.Header
			want   time.Duration
		}{
			{http.Header{"Retry-After": {"12"}}, 12 * time.Second},
			{http.Header{"X-Ms-Retry-After-Ms": {"250"}, "Retry-After": {"1"}}, 250 * time.Millisecond},
			{http.Header{"Retry-After": {"a date"}}, 9 * time.Second},
			{http.Header{"Retry-After": {"soon"}}, 0},
			{http.Header{}, 0},
		} {
			requests, start := 0, time.Now()
			if c.header.Get("Retry-After") == "a date" { // which has whole seconds
				c.header.Set("Retry-After", start.Add(c.want+time.Second).UTC().Format(http.TimeFormat))
			}
			s := openFake(t, func(r *http.Request) (*http.Response, error) {
				if requests++; requests == 1 {
					return response(r, 503, c.header, strings.NewReader("")), nil
				}
				return ranged(r, strings.NewReader("x"), 0, 0), nil
			})
			if err := s.Get(t.Context(), "d/x", 0, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took < c.want || took > c.want+2*time.Second {
				t.Errorf("%v: the second request came after %v, want %v", c.header, took, c.want)
			}
		}
	})
}
