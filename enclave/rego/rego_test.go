package rego

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloister/enclave/launch"
	"cloister/internal/fault"
)

// program is cloister-rego, built as it is.
var program string

func TestMain(m *testing.M) {
	launch.Init()
	if len(os.Args) == 3 && os.Args[1] == "decide" { // as another user: see TestOtherUser
		program = os.Args[2]
		if err := decideOnce(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(withProgram(m))
}

func withProgram(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rego")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for other users
		panic(err)
	}
	program = filepath.Join(dir, "cloister-rego")
	build := exec.Command("go", "build", "-o", program, "cloister/cmd/cloister-rego")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building cloister-rego: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const engineUser = 65533

func engine(t testing.TB) *Engine {
	e := New(Config{Program: program, UID: engineUser, GID: engineUser})
	t.Cleanup(e.Close)
	return e
}

func prepare(t testing.TB, e *Engine, module string) *Policy {
	t.Helper()
	p, err := e.Prepare(t.Context(), "test.rego", []byte(module))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const api = `package api
default allow := false
allow if {
	input.method == "GET"
	startswith(input.path, "/public/")
}
reason := "only what is public may be read" if not allow
`

func decideOnce() error {
	e := New(Config{Program: program})
	defer e.Close()
	p, err := e.Prepare(context.Background(), "api", []byte(api))
	if err != nil {
		return err
	}
	d, err := p.Decide(context.Background(), map[string]any{"method": "GET", "path": "/public/x"})
	if err != nil || !d.Allow {
		return fmt.Errorf("%+v, %w", d, err)
	}
	return nil
}

func TestDecide(t *testing.T) {
	e := engine(t)
	p := prepare(t, e, api)
	for path, want := range map[string]Decision{
		"/public/x": {Allow: true}, "/private": {Reason: "only what is public may be read"},
	} {
		d, err := p.Decide(t.Context(), map[string]any{"method": "GET", "path": path})
		if err != nil || d != want {
			t.Errorf("%s: %+v, %v; want %+v", path, d, err, want)
		}
	}
	other := prepare(t, e, "package other\nallow := input.n > 2")
	for n, want := range map[int]bool{1: false, 3: true} {
		if d, err := other.Decide(t.Context(), map[string]any{"n": n}); err != nil || d.Allow != want {
			t.Errorf("%d: %+v, %v", n, d, err)
		}
	}
}

// TestOtherUser: a runtime without privileges asks too.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // TestDecide is that
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "test")
	if err := os.WriteFile(copied, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "decide", program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNotAllowed: whatever is not a clear yes is a no.
func TestNotAllowed(t *testing.T) {
	e := engine(t)
	for _, module := range []string{
		"package p\nallow if false", "package p\nallow := \"true\"", "package p\nallow := 1", "package p\nallow contains \"x\"",
		"package p\nallow := null", "package p\ndefault allow := false", "package p\nallow := {\"allow\": true}",
	} {
		if d, err := prepare(t, e, module).Decide(t.Context(), map[string]any{}); err != nil || d.Allow {
			t.Errorf("%s: %+v, %v", module, d, err)
		}
	}
	// What cannot be evaluated is an error, or its opposite would be true.
	p := prepare(t, e, "package p\nallow if not to_number(input.n) > 5")
	if d, err := p.Decide(t.Context(), map[string]any{"n": "x"}); fault.KindOf(err) != fault.Refused || d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
	// Nor is one that contradicts itself.
	p = prepare(t, e, "package p\nallow := true\nallow := input.n")
	if d, err := p.Decide(t.Context(), map[string]any{"n": false}); err == nil || d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestNoPolicy(t *testing.T) {
	e := engine(t)
	for name, module := range map[string]string{
		"empty": "", "no allow": "package p\nx := 1", "no Rego": "not Rego", "a function": "package p\nallow(x) := true",
		"http":    `package p` + "\n" + `allow if http.send({"method": "GET", "url": "http://192.0.2.1"}).status_code == 200`,
		"lookup":  `package p` + "\n" + `allow if net.lookup_ip_addr("example.com")`,
		"runtime": `package p` + "\n" + `allow if opa.runtime().env.HOME`,
		"old":     "package p\nallow { true }",
		"long":    "package p\nallow := true\n#" + strings.Repeat("x", MaxFrame),
	} {
		if _, err := e.Prepare(t.Context(), name, []byte(module)); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	prepare(t, e, api) // and the engine goes on
}

// TestBusy: an input that keeps a policy busy is refused, and holds up nobody.
func TestBusy(t *testing.T) {
	e := engine(t)
	busy := prepare(t, e, "package p\nallow if count([1 | some i in numbers.range(1, input.n); some j in numbers.range(1, input.n); i == j]) < 0")
	quick := prepare(t, e, api)
	var all sync.WaitGroup
	for range Lanes / 2 {
		all.Go(func() {
			if d, err := busy.Decide(t.Context(), map[string]any{"n": 100000}); err == nil || d.Allow {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
	if d, err := quick.Decide(t.Context(), map[string]any{"method": "GET", "path": "/public/x"}); err != nil || !d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
	all.Wait()
}

// TestGreedy: one that takes all memory ends the process; what comes next is
// asked of another.
func TestGreedy(t *testing.T) {
	e := engine(t)
	greedy := prepare(t, e, `package p
allow if count(concat("", [input.text | some i in numbers.range(1, 10000)])) < 0`)
	quick := prepare(t, e, api)
	if d, err := greedy.Decide(t.Context(), map[string]any{"text": strings.Repeat("x", 1<<19)}); err == nil || d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := quick.Decide(t.Context(), map[string]any{"method": "GET", "path": "/public/x"}); err != nil || !d.Allow {
		t.Errorf("after it: %+v, %v", d, err)
	}
}

// TestKilled: with the process killed under load, each question is answered
// rightly or refused, and later ones are answered.
func TestKilled(t *testing.T) {
	e := engine(t)
	p := prepare(t, e, api)
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				path := []string{"/public/x", "/private"}[i%2]
				if d, err := p.Decide(t.Context(), map[string]any{"method": "GET", "path": path}); err != nil && d.Allow || err == nil && d.Allow != (i%2 == 0) {
					t.Errorf("%s: %+v, %v", path, d, err)
				}
			}
		})
	}
	for range 3 {
		running, err := e.running(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		running.kill()
		<-running.ended
	}
	close(done)
	all.Wait()
	if d, err := p.Decide(t.Context(), map[string]any{"method": "GET", "path": "/public/x"}); err != nil || !d.Allow {
		t.Errorf("after it: %+v, %v", d, err)
	}
}

func TestTooMuch(t *testing.T) {
	p := prepare(t, engine(t), api)
	if d, err := p.Decide(t.Context(), strings.Repeat("x", MaxFrame)); fault.KindOf(err) != fault.Refused || d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := p.Decide(t.Context(), func() {}); err == nil || d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestClosed(t *testing.T) {
	e := New(Config{Program: program, UID: engineUser, GID: engineUser})
	p := prepare(t, e, api)
	e.Close()
	if d, err := p.Decide(t.Context(), map[string]any{"method": "GET", "path": "/public/x"}); err == nil || d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := New(Config{Program: "/absent/cloister-rego", UID: engineUser, GID: engineUser}).Prepare(t.Context(), "api", []byte(api)); err == nil {
		t.Error("a program that is not there answered")
	}
}

// BenchmarkDecide is a decision as a proxy asks for it.
func BenchmarkDecide(b *testing.B) {
	p := prepare(b, engine(b), api)
	input := map[string]any{"method": "GET", "path": "/public/x", "headers": map[string]any{"accept": []string{"*/*"}, "host": []string{"api.example"}}, "body": map[string]any{"size": 1000}}
	var worst time.Duration
	for b.Loop() {
		begun := time.Now()
		if d, err := p.Decide(b.Context(), input); err != nil || !d.Allow {
			b.Fatal(d, err)
		}
		worst = max(worst, time.Since(begun))
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
}
