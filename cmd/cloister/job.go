package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"cloister/attested"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// jobCommand is "cloister job": DoWork() of the user flow.
func jobCommand() *urfave.Command {
	return &urfave.Command{
		Name: "job", Usage: "start a clean room's job, ask how far it is, and end it, as a party of the contract",
		Subcommands: []*urfave.Command{
			jobDoes("start", http.MethodPost, "have a clean room that waits for a call (application.start manual) begin"),
			jobDoes("status", http.MethodGet, "whether it waits, has started, runs or ends"),
			jobDoes("cancel", http.MethodDelete, "end it; what it wrote is kept, marked partial"),
		},
	}
}

func jobDoes(name, method, usage string) *urfave.Command {
	return &urfave.Command{
		Name: name, Usage: usage, ArgsUsage: "HOST:PORT",
		Description: "HOST:PORT is any endpoint of the room that speaks HTTP, or gRPC with --http2. The\n" +
			"room is verified first; the call is signed with --party, for its one run.\n\n" +
			"JSON: run, application, state.",
		Flags: append(roomFlags(), &urfave.BoolFlag{Name: "http2", Usage: "speak HTTP/2"}, jsonFlag()),
		Action: action(func(c *urfave.Context, args []string) error {
			said, err := callJob(c, method, args[0])
			if err != nil {
				return err
			}
			return printResult(c, said, func(stdout, _ io.Writer) {
				fmt.Fprintf(stdout, "run %s of %s: %s\n", said.Run, cli.Printable(said.Application), cli.Printable(said.State))
			})
		}, "--ledger", "--party", "HOST:PORT"),
	}
}

// jobSaid is what a clean room says of its job.
type jobSaid struct {
	Run         string `json:"run"`
	Application string `json:"application"`
	State       string `json:"state"`
}

func callJob(c *urfave.Context, method, endpoint string) (said jobSaid, err error) {
	address, err := targetOf(endpoint)
	if err != nil {
		return said, err
	}
	want, err := agreedRoom(c)
	if err != nil {
		return said, err
	}
	if want.Run, err = attested.New(want).Run(c.Context, address); err != nil {
		return said, err
	}
	request, err := signedCall(c, method, "https://"+address+"/.well-known/cloister/job", want.Run)
	if err != nil {
		return said, err
	}
	transport := attested.New(want).Transport(c.Bool("http2")) // to that run alone
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(request)
	if err != nil {
		return said, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return said, fault.Errorf(fault.Incomplete, "ask for its status", "the answer ended early: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		return said, json.Unmarshal(body, &said)
	case http.StatusConflict:
		return said, fault.Errorf(fault.Conflict, "ask for its status", "the job was started before: %.200s", cli.Printable(string(body)))
	}
	return said, fmt.Errorf("%.200s: %w", cli.Printable(string(body)), statusError(resp.StatusCode))
}

func signedCall(c *urfave.Context, method, url, run string) (*http.Request, error) {
	_, key, err := readParty(c, c.String("party"))
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	call, err := statement.SignCall(statement.Call{Method: method, Target: "job", Run: run}, nil, time.Now(), key)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(c.Context, method, url, nil)
	if err == nil {
		r.Header.Set("Authorization", "Cloister-Party "+call)
	}
	return r, err
}
