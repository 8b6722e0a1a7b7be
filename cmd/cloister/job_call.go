package main

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"cloister/attested"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

// calledJobs is a clean room that has proven itself, and its one run.
type calledJobs struct {
	spec      spec.Specification
	address   string
	run       string
	transport *attested.Transport
}

func calledRoom(c *urfave.Context, endpoint string) (*calledJobs, error) {
	address, err := targetOf(endpoint)
	if err != nil {
		return nil, err
	}
	want, s, err := agreedRoom(c)
	if err != nil {
		return nil, err
	}
	if want.Run, err = attested.New(want).Run(c.Context, address); err != nil {
		return nil, err
	}
	return &calledJobs{s, address, want.Run, attested.New(want).Transport(c.Bool("http2"))}, nil // to that run alone
}

func (r *calledJobs) close() { r.transport.CloseIdleConnections() }

// jobAnswer is a clean room's yes.
type jobAnswer struct {
	header http.Header
	body   []byte
}

// call signs a call and sends it; what is not answered with a yes is an error, in the
// clean room's words.
func (r *calledJobs) call(c *urfave.Context, method, target string, body []byte) (*jobAnswer, error) {
	request, err := r.signed(c, method, target, body)
	if err != nil {
		return nil, err
	}
	resp, err := r.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, spec.MaxResults+1))
	if err != nil {
		return nil, fault.Errorf(fault.Incomplete, "ask for its status", "the answer ended early: %w", err)
	}
	if resp.StatusCode >= 300 {
		return nil, jobError(resp.StatusCode, answer)
	}
	return &jobAnswer{resp.Header, answer}, nil
}

func (r *calledJobs) signed(c *urfave.Context, method, target string, body []byte) (*http.Request, error) {
	_, key, err := readParty(c, c.String("party"))
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	call, err := statement.SignCall(statement.Call{Method: method, Target: target, Run: r.run}, body, time.Now(), key)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(c.Context, method, "https://"+r.address+"/.well-known/cloister/"+target, bytes.NewReader(body))
	if err == nil {
		request.Header.Set("Authorization", "Cloister-Party "+call)
	}
	return request, err
}

// jobError is a clean room's no.
func jobError(status int, answer []byte) error {
	words := cli.Printable(string(bytes.TrimSpace(answer[:min(len(answer), 600)])))
	switch status {
	case http.StatusConflict:
		return fault.Errorf(fault.Conflict, "ask for its status", "it is not at that point: %s", words)
	case http.StatusGone:
		return fault.Errorf(fault.Refused, "", "%s", words)
	}
	return fault.Errorf(fault.KindOf(statusError(status)), "", "the clean room answered %d: %s", status, words)
}
