package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// jobCommand is "cloister job": DoWork() of the user flow.
func jobCommand() *urfave.Command {
	return &urfave.Command{
		Name: "job", Usage: "start a clean room's job, ask how far it is, have its result, and end it, as a party of the contract",
		Subcommands: []*urfave.Command{
			jobStartCommand(),
			jobDoes("status", http.MethodGet, "whether it waits, has started, runs or ends"),
			jobDoes("cancel", http.MethodDelete, "end it; what it wrote is kept, marked partial"),
			jobListCommand(),
			jobResultCommand(),
			jobFinishCommand(),
		},
	}
}

// jobFlags are those of all these commands.
func jobFlags(more ...urfave.Flag) []urfave.Flag {
	return append(append(roomFlags(), more...), &urfave.BoolFlag{Name: "http2", Usage: "speak HTTP/2"}, jsonFlag())
}

func jobFlag() urfave.Flag {
	return text("job", "the job's `ID`, as start prints it, where the contract has jobs")
}

const jobDescription = "HOST:PORT is any endpoint of the room that speaks HTTP, or gRPC with --http2. The\n" +
	"room is verified first; the call is signed with --party, for its one run.\n\n"

func jobStartCommand() *urfave.Command {
	return &urfave.Command{
		Name: "start", Usage: "have a clean room begin that waits for a call (application.start manual), or a job of a contract that has jobs", ArgsUsage: "HOST:PORT",
		Description: jobDescription + "Where the contract has jobs, each start is another job, and --job is an ID of 32\n" +
			"random hexadecimal digits to be sure that a start which is repeated is the same one.\n\n" +
			"JSON: run, application, state; of a job run, id, party, state, salt.",
		Flags: jobFlags(jobFlag(), text("parameters", "send what is in this `FILE`, at most 64 KiB, to the job; - is standard input")),
		Action: action(func(c *urfave.Context, args []string) error {
			r, err := calledRoom(c, args[0])
			if err != nil {
				return err
			}
			defer r.close()
			if r.spec.Jobs == nil {
				return startRun(c, r)
			}
			return startJob(c, r)
		}, "--party", "HOST:PORT"),
	}
}

func startRun(c *urfave.Context, r *calledJobs) error {
	if c.IsSet("parameters") || c.IsSet("job") {
		return fault.Errorf(fault.Usage, "agree on a specification with jobs, or take --parameters and --job out", "the contract has no jobs: the run's application is the one")
	}
	return sayRun(c, r, http.MethodPost)
}

func startJob(c *urfave.Context, r *calledJobs) error {
	parameters, err := parametersOf(c)
	if err != nil {
		return err
	}
	id := c.String("job")
	if id == "" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		id = hex.EncodeToString(random)
	}
	return sayJob(c, r, http.MethodPut, "jobs/"+id, parameters)
}

// maxParameters is what a clean room takes, in bytes.
const maxParameters = 64 << 10

func parametersOf(c *urfave.Context) ([]byte, error) {
	in := c.App.Reader
	switch path := c.String("parameters"); path {
	case "":
		return nil, nil
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return nil, fault.Errorf(fault.NotFound, "", "--parameters: %w", err)
		}
		defer f.Close()
		in = f
	}
	parameters, err := io.ReadAll(io.LimitReader(in, maxParameters+1))
	if err == nil && len(parameters) > maxParameters {
		err = fault.Errorf(fault.Usage, "put what is larger into a datasource", "--parameters has more than %d bytes", maxParameters)
	}
	return parameters, err
}

// jobDoes is of the run, or of one of its jobs.
func jobDoes(name, method, usage string) *urfave.Command {
	return &urfave.Command{
		Name: name, Usage: usage, ArgsUsage: "HOST:PORT",
		Description: jobDescription + "JSON: run, application, state; with --job run, id, party, state, why, exit, length, progress, salt.",
		Flags:       jobFlags(jobFlag()),
		Action: action(func(c *urfave.Context, args []string) error {
			r, err := calledRoom(c, args[0])
			if err != nil {
				return err
			}
			defer r.close()
			if id := c.String("job"); id != "" {
				return sayJob(c, r, method, "jobs/"+id, nil)
			}
			return sayRun(c, r, method)
		}, "--party", "HOST:PORT"),
	}
}

func jobFinishCommand() *urfave.Command {
	return &urfave.Command{
		Name: "finish", Usage: "have a run take no further job; it completes when those have ended that run", ArgsUsage: "HOST:PORT",
		Description: jobDescription + "JSON: run, application, state.",
		Flags:       jobFlags(),
		Action: action(func(c *urfave.Context, args []string) error {
			r, err := calledRoom(c, args[0])
			if err != nil {
				return err
			}
			defer r.close()
			answer, err := r.call(c, http.MethodDelete, "jobs", nil)
			if err != nil {
				return err
			}
			return printRun(c, answer)
		}, "--party", "HOST:PORT"),
	}
}

func jobListCommand() *urfave.Command {
	return &urfave.Command{
		Name: "list", Usage: "the jobs of a run, in the order in which they were called for", ArgsUsage: "HOST:PORT",
		Description: jobDescription + "JSON: run, jobs, each as status --job prints it.",
		Flags:       jobFlags(),
		Action: action(func(c *urfave.Context, args []string) error {
			r, err := calledRoom(c, args[0])
			if err != nil {
				return err
			}
			defer r.close()
			answer, err := r.call(c, http.MethodGet, "jobs", nil)
			if err != nil {
				return err
			}
			var said struct {
				Run  string    `json:"run"`
				Jobs []jobSaid `json:"jobs"`
			}
			if err := answer.read(&said); err != nil {
				return err
			}
			return printResult(c, said, func(stdout, _ io.Writer) {
				for _, j := range said.Jobs {
					fmt.Fprintln(stdout, j)
				}
			})
		}, "--party", "HOST:PORT"),
	}
}

// runSaid is what a clean room says of its run.
type runSaid struct {
	Run         string `json:"run"`
	Application string `json:"application"`
	State       string `json:"state"`
}

func sayRun(c *urfave.Context, r *calledJobs, method string) error {
	answer, err := r.call(c, method, "job", nil)
	if err != nil {
		return err
	}
	return printRun(c, answer)
}

func printRun(c *urfave.Context, answer *jobAnswer) error {
	var said runSaid
	if err := answer.read(&said); err != nil {
		return err
	}
	return printResult(c, said, func(stdout, _ io.Writer) {
		fmt.Fprintf(stdout, "run %s of %s: %s\n", said.Run, cli.Printable(said.Application), cli.Printable(said.State))
	})
}

// jobSaid is what a clean room says of one of its jobs.
type jobSaid struct {
	Run      string `json:"run"`
	ID       string `json:"id"`
	Party    string `json:"party,omitempty"`
	State    string `json:"state"`
	Why      string `json:"why,omitempty"`
	Exit     *int   `json:"exit,omitempty"`
	Length   *int   `json:"length,omitempty"`
	Progress *int   `json:"progress,omitempty"`
	Salt     string `json:"salt,omitempty"`
}

func (j jobSaid) String() string {
	text := "job " + j.ID + ": " + j.State
	if j.Exit != nil {
		text += fmt.Sprintf(", exit code %d", *j.Exit)
	}
	if j.Progress != nil {
		text += fmt.Sprintf(", %d %%", *j.Progress)
	}
	if j.Length != nil {
		text += fmt.Sprintf(", a result of %d bytes", *j.Length)
	}
	if j.Why != "" {
		text += " (" + j.Why + ")"
	}
	return cli.Printable(text)
}

// sayJob prints what came of a call about a job.
func sayJob(c *urfave.Context, r *calledJobs, method, target string, body []byte) error {
	if err := r.hasJobs(); err != nil {
		return err
	}
	answer, err := r.call(c, method, target, body)
	if err != nil {
		return err
	}
	var said jobSaid
	if err := answer.read(&said); err != nil {
		return err
	}
	return printResult(c, said, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, said) })
}

func (r *calledJobs) hasJobs() error {
	if r.spec.Jobs == nil {
		return fault.Errorf(fault.Usage, "take --job out: the run is the job", "the contract has no jobs")
	}
	return nil
}

// read takes an answer's JSON.
func (a *jobAnswer) read(v any) error {
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(v); err != nil {
		return fault.Errorf(fault.Refused, "", "the clean room's answer is not what it should be: %w", err)
	}
	return nil
}
