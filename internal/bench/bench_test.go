package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
)

func TestRowsAreNamedOnce(t *testing.T) {
	rows, err := choose("", "")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.name] {
			t.Errorf("two rows are called %q", r.name)
		}
		seen[r.name] = true
		if len(r.against) == 0 || r.ours.measure == nil {
			t.Errorf("row %q measures nothing, or shows nothing", r.name)
		}
	}
	if _, err := choose("no such row", ""); err == nil {
		t.Error("a choice of no rows is accepted")
	}
}

func TestBars(t *testing.T) {
	for _, test := range []struct {
		bar          bar
		ours, theirs float64
		want         string
	}{
		{atLeast(2), 10, 5, "reached"}, {atLeast(2), 9, 5, "missed"},
		{atMost(1.3), 13, 10, "reached"}, {atMost(1.3), 14, 10, "missed"},
		{beyond(1, "s"), 4, 3, "reached"}, {beyond(1, "s"), 4.5, 3, "missed"},
		{within(384, "MiB"), 384, 0, "reached"}, {within(384, "MiB"), 385, 0, "missed"},
		{reach(1000, "/s"), 1000, 0, "reached"}, {reach(1000, "/s"), 999, 0, "missed"},
		{shown, 1, 2, ""}, {alone, 1, 0, ""},
	} {
		if got := test.bar.verdict(test.bar.value(test.ours, test.theirs)); got != test.want {
			t.Errorf("%g against %g at the bar %q: %q, want %q", test.ours, test.theirs, test.bar.text, got, test.want)
		}
	}
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("the median of 3, 1, 2 is %g", got)
	}
}

// A reference that fails is named, and leaves the others their turns.
func TestReferenceThatFails(t *testing.T) {
	turns := map[string]int{}
	taking := func(name string, err error) side {
		return side{name, func(context.Context, *lab) (float64, error) { turns[name]++; return 1, err }}
	}
	broken := errors.New("input/output error")
	r := row{"a row", "s", taking("ours", nil), []reference{{taking("broken", broken), atLeast(1)}, {taking("sound", nil), atLeast(1)}}}
	err := r.measure(t.Context(), &lab{config: config{rounds: 3}})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "measuring broken") {
		t.Errorf("the error is %v", err)
	}
	if want := map[string]int{"ours": 3, "broken": 1, "sound": 3}; !maps.Equal(turns, want) {
		t.Errorf("turns were %v, want %v", turns, want)
	}
	r.ours = taking("ours", broken)
	if err := r.measure(t.Context(), &lab{config: config{rounds: 3}}); !errors.Is(err, broken) || turns["sound"] != 3 {
		t.Errorf("a row that we fail: %v, %v", err, turns)
	}
}

// What goes through the proxy comes out whole and in order, both ways, and its
// end too.
func TestProxyCarries(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		c, err := echo.Accept()
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Close()
	}()
	p, err := startProxy(echo.Addr().String(), link{rate: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	c, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	go func() {
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back (%v), not the %d that were sent", len(got), err, len(sent))
	}
}
