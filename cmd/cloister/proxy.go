package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"cloister/attested"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// proxyCommand is "cloister proxy": a port of this machine for clients that know
// nothing of attested TLS.
func proxyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "proxy", Usage: "give ordinary clients a loopback port to a clean room's endpoint; prints \"ready ADDRESS\"", ArgsUsage: "HOST:PORT",
		Description: "The room is verified before the port opens, and again for each connection to it,\n" +
			"before a byte is passed on. Whatever the endpoint speaks goes through: HTTP/1.1\n" +
			"(curl http://ADDRESS/…), HTTP/2 and gRPC in plain with prior knowledge, WebSockets,\n" +
			"bytes. Every user of this machine can connect.",
		Flags:  append(roomFlags(), &urfave.StringFlag{Name: "listen", Usage: "the loopback `ADDRESS` to listen at", Value: "127.0.0.1:0"}),
		Action: action(runProxy, "HOST:PORT"),
	}
}

func runProxy(c *urfave.Context, args []string) error {
	target, err := targetOf(args[0])
	if err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(c.String("listen")); err != nil || !net.ParseIP(host).IsLoopback() {
		return fault.Errorf(fault.Usage, "give a loopback address, such as 127.0.0.1:8080", "--listen %.80q: what is behind it is not encrypted", c.String("listen"))
	}
	client, err := roomClient(c)
	if err != nil {
		return err
	}
	first, err := client.DialContext(c.Context, "tcp", target)
	if err != nil {
		return err
	}
	first.Close()
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return fault.Errorf(fault.Unavailable, "choose another port with --listen", "opening the port: %w", err)
	}
	fmt.Fprintf(c.App.Writer, "ready http://%s\n", l.Addr())
	p := forwarding{client, target, c.App.ErrWriter}
	return p.serve(c.Context, l)
}

// targetOf takes HOST:PORT, also out of https://HOST:PORT.
func targetOf(arg string) (string, error) {
	if u, err := url.Parse(arg); err == nil && u.Scheme == "https" && u.Host != "" {
		if arg = u.Host; u.Port() == "" {
			arg = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	if _, _, err := net.SplitHostPort(arg); err != nil {
		return "", fault.Errorf(fault.Usage, "write HOST:PORT", "%.80q is not an endpoint's address", arg)
	}
	return arg, nil
}

// forwarding passes connections on to a clean room.
type forwarding struct {
	client *attested.Client
	target string
	errs   io.Writer
}

// serve passes on what comes until ctx ends.
func (f forwarding) serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // out of descriptors, say
			time.Sleep(10 * time.Millisecond)
			continue
		}
		all.Go(func() { f.pass(ctx, conn) })
	}
}

// pass verifies the room and joins the two connections. Where it is refused the
// client's is closed, and the reasons are said here.
func (f forwarding) pass(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	room, err := f.client.DialContext(ctx, "tcp", f.target)
	if err != nil {
		if ctx.Err() == nil {
			fmt.Fprintln(f.errs, err)
		}
		return
	}
	defer room.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); room.Close() })()
	var both sync.WaitGroup
	both.Go(func() { carry(room, conn) })
	both.Go(func() { carry(conn, room) })
	both.Wait()
}

// carry passes bytes on and their end too; where one side breaks, both end.
func carry(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		from.Close()
		to.Close()
	}
}
