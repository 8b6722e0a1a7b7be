package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	rpc "google.golang.org/grpc/status"
)

// socket is a client of WebSockets as programs have one: text, a message of many
// frames' size, a ping, and an end that both agree on.
func socket(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+address+"/socket", nil)
	must(t, err)
	defer c.CloseNow()
	c.SetReadLimit(4 << 20)
	for kind, message := range map[websocket.MessageType][]byte{websocket.MessageText: []byte("ping"), websocket.MessageBinary: bytes.Repeat([]byte{7}, 2<<20)} {
		must(t, c.Write(ctx, kind, message))
		got, back, err := c.Read(ctx)
		if err != nil || got != kind || !bytes.Equal(back, message) {
			t.Fatalf("WebSocket: %d bytes came back as %d of %s, %v", len(message), len(back), got, err)
		}
	}
	reading := c.CloseRead(ctx) // pongs are read
	must(t, c.Ping(ctx))
	must(t, c.Close(websocket.StatusNormalClosure, "enough"))
	<-reading.Done()
}

// calls is a client of gRPC as programs have one: every kind of call, a status, and
// what stands in headers and trailers.
func calls(t *testing.T, address string, security credentials.TransportCredentials) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(security))
	must(t, err)
	defer conn.Close()
	client := pb.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var trailer metadata.MD
	one := &pb.Payload{Body: bytes.Repeat([]byte{7}, 1<<20)}
	said, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-said", "tried"), &pb.SimpleRequest{Payload: one}, grpc.Trailer(&trailer))
	if err != nil || !bytes.Equal(said.GetPayload().GetBody(), one.Body) || trailer.Get("x-heard")[0] != "tried" {
		t.Fatalf("unary: %d bytes, %v, trailer %v", len(said.GetPayload().GetBody()), err, trailer)
	}
	_, err = client.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "not yet: 100 %"}})
	if s := rpc.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not yet: 100 %" {
		t.Errorf("a status: %v", err)
	}
	if _, err = client.EmptyCall(ctx, &pb.Empty{}); rpc.Code(err) != codes.Unimplemented {
		t.Errorf("what is not there: %v", err)
	}

	answers, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 3}, {Size: 300_000}, {Size: 0}}})
	must(t, err)
	for _, want := range []int{3, 300_000, 0} {
		if got, err := answers.Recv(); err != nil || len(got.GetPayload().GetBody()) != want {
			t.Fatalf("server streaming: %d of %d bytes, %v", len(got.GetPayload().GetBody()), want, err)
		}
	}
	if _, err := answers.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("server streaming ends with %v", err)
	}

	parts, err := client.StreamingInputCall(ctx)
	must(t, err)
	for range 5 {
		must(t, parts.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 1000)}}))
	}
	if sum, err := parts.CloseAndRecv(); err != nil || sum.GetAggregatedPayloadSize() != 5000 {
		t.Errorf("client streaming: %v, %v", sum, err)
	}

	both, err := client.FullDuplexCall(ctx)
	must(t, err)
	for _, size := range []int32{31415, 9, 2653, 58979} { // each is answered before the next is sent
		must(t, both.Send(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: size}}}))
		if got, err := both.Recv(); err != nil || len(got.GetPayload().GetBody()) != int(size) {
			t.Fatalf("both ways: %d of %d bytes, %v", len(got.GetPayload().GetBody()), size, err)
		}
	}
	must(t, both.CloseSend())
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("both ways end with %v", err)
	}

	// A call that its client gives up ends, and the next is answered.
	left, leave := context.WithCancel(ctx)
	gone, err := client.FullDuplexCall(left)
	must(t, err)
	leave()
	if _, err := gone.Recv(); rpc.Code(err) != codes.Canceled {
		t.Errorf("a call that was given up: %v", err)
	}
	short, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	waits, err := client.FullDuplexCall(short)
	must(t, err)
	if _, err := waits.Recv(); rpc.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call whose time is over: %v", err)
	}
	if _, err := client.UnaryCall(ctx, &pb.SimpleRequest{}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// plain is for what a local proxy makes attested; whoever asks for TLS alone is
// served too.
var (
	plain  = insecure.NewCredentials()
	itself = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // to verify is the client's interest
)
