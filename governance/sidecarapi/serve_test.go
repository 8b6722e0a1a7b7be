package sidecarapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"cloister/internal/fault"
)

// stuck is a run whose ledger answers when it is let.
type stuck struct {
	asked chan context.Context
	let   chan struct{}
}

func (s stuck) CheckConsent(ctx context.Context, _, _ string) error {
	s.asked <- ctx
	<-s.let
	return fault.Errorf(fault.Refused, "", "no")
}

func (s stuck) RecordAppEvent(ctx context.Context, _, _ string, _ []byte) error {
	return s.CheckConsent(ctx, "", "")
}

// served serves a stuck run on loopback.
func served(t *testing.T) (stuck, string) {
	t.Helper()
	run := stuck{make(chan context.Context, 2*maxCalls), make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Serve(l, run, "study") }()
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; err == nil {
			t.Error("no reason for the end")
		}
	})
	return run, l.Addr().String()
}

func post(address string) (int, string) {
	res, err := http.Post("http://"+address+"/consentcheck/execution", "", nil)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(raw)
}

// TestMoreCallsThanAreAnsweredAreRefused: those under way come to their end.
func TestMoreCallsThanAreAnsweredAreRefused(t *testing.T) {
	run, address := served(t)
	codes := make(chan int, maxCalls)
	for range maxCalls {
		go func() { code, _ := post(address); codes <- code }()
	}
	for range maxCalls {
		<-run.asked
	}
	if code, said := post(address); code != http.StatusTooManyRequests || !strings.Contains(said, "TooManyCalls") {
		t.Errorf("one more: %d %s", code, said)
	}
	close(run.let)
	for range maxCalls {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a call under way: %d", code)
		}
	}
}

// TestACallThatIsGivenUpComesToItsEnd: the record is not told to give it up too.
func TestACallThatIsGivenUpComesToItsEnd(t *testing.T) {
	run, address := served(t)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "POST /consentcheck/logging HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	ctx := <-run.asked
	c.Close()
	if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
		t.Errorf("bounded %t, %v", bounded, ctx.Err())
	}
	close(run.let)
}

// TestMoreConnectionsThanAreHeldWait: and are served once there is room.
func TestMoreConnectionsThanAreHeldWait(t *testing.T) {
	run, address := served(t)
	close(run.let)
	var held []net.Conn
	for range maxConnections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil { // it is served, and kept
			t.Fatal(err)
		}
		held = append(held, c)
	}
	answered := make(chan int, 1)
	go func() { code, _ := post(address); answered <- code }()
	for _, c := range held {
		select {
		case <-answered:
			t.Error("a connection beyond the limit was served")
		default:
		}
		c.Close()
		break
	}
	if code := <-answered; code != http.StatusOK {
		t.Errorf("once there was room: %d", code)
	}
	for _, c := range held[1:] {
		c.Close()
	}
}
