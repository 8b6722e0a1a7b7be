package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// service is gRPC's own for tests between implementations, as far as a client needs
// it to see each kind of call.
type service struct {
	pb.UnimplementedTestServiceServer
}

func newService() *grpc.Server {
	s := grpc.NewServer()
	pb.RegisterTestServiceServer(s, service{})
	return s
}

// UnaryCall answers with what was sent, or with the status that is asked for.
func (service) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if want := in.GetResponseStatus(); want != nil {
		return nil, status.Error(codes.Code(want.GetCode()), want.GetMessage())
	}
	if sent, ok := metadata.FromIncomingContext(ctx); ok {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-heard", first(sent.Get("x-said"))))
	}
	return &pb.SimpleResponse{Payload: in.GetPayload()}, nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// StreamingOutputCall answers in parts of the sizes that are asked for.
func (service) StreamingOutputCall(in *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	return answer(in, out.Send)
}

// StreamingInputCall sums up what comes.
func (service) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		part, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(part.GetPayload().GetBody())
	}
}

// FullDuplexCall answers each part as it comes.
func (service) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		in, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := answer(in, both.Send); err != nil {
			return err
		}
	}
}

func answer(in *pb.StreamingOutputCallRequest, send func(*pb.StreamingOutputCallResponse) error) error {
	for _, p := range in.GetResponseParameters() {
		if err := send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}
