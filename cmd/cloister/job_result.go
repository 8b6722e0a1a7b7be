package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func jobResultCommand() *urfave.Command {
	return &urfave.Command{
		Name: "result", Usage: "have the result of a job that has ended, as a party that the contract gives it to", ArgsUsage: "HOST:PORT",
		Description: jobDescription + "The result goes to standard output, or to --out. The record tells the digest and the\n" +
			"size, and that it was handed over, to whom; what is printed of the digest's salt lets\n" +
			"who has the result show that it is the one. A job that left none, or one that is\n" +
			"larger than the contract lets out, gives an error.\n\n" +
			"JSON, with --out: file, digest, size, salt.",
		Flags: jobFlags(text("job", "the job's `ID`, as start prints it; that of an application that starts by itself is its run's"),
			&urfave.StringFlag{Name: "out", Usage: "write it to this new `FILE`"},
			&urfave.DurationFlag{Name: "wait", Usage: "wait for the job's end so `LONG`"}),
		Action: action(func(c *urfave.Context, args []string) error {
			if c.Bool("json") && c.String("out") == "" {
				return fault.Errorf(fault.Usage, "give --out", "the result itself goes to standard output")
			}
			r, err := calledRoom(c, args[0])
			if err != nil {
				return err
			}
			defer r.close()
			answer, err := awaitResult(c, r)
			if err != nil {
				return err
			}
			return keepResult(c, answer)
		}, "--party", "--job", "HOST:PORT"),
	}
}

// resultPause is how long a job has before it is asked about again.
const resultPause = 500 * time.Millisecond

// awaitResult asks for the result until there is one, or never will be.
func awaitResult(c *urfave.Context, r *calledJobs) (*jobAnswer, error) {
	if err := r.hasJobs(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(c.Duration("wait"))
	for {
		answer, err := r.call(c, http.MethodGet, "jobs/"+c.String("job")+"/result", nil)
		if err == nil || fault.KindOf(err) != fault.Conflict || time.Now().After(deadline) {
			return answer, err
		}
		select {
		case <-c.Context.Done():
			return nil, c.Context.Err()
		case <-time.After(resultPause):
		}
	}
}

// keepResult holds the result to what the clean room says stands in the record.
func keepResult(c *urfave.Context, answer *jobAnswer) error {
	digest, salt := answer.header.Get("Cloister-Result-Digest"), answer.header.Get("Cloister-Result-Salt")
	raw, err := hex.DecodeString(salt)
	if err != nil || len(raw) != 32 || statement.HandedDigest([32]byte(raw), answer.body) != digest {
		return fault.Errorf(fault.Refused, "ask for it again", "the result is not of the digest %.80q", digest)
	}
	path := c.String("out")
	if path == "" {
		_, err := c.App.Writer.Write(answer.body)
		return err
	}
	if err := createFile(path, answer.body, 0o600); err != nil {
		return err
	}
	return printResult(c, map[string]any{"file": path, "digest": digest, "size": len(answer.body), "salt": salt}, func(stdout, _ io.Writer) {
		fmt.Fprintf(stdout, "%s: %d bytes, in the record as %s\n", path, len(answer.body), digest)
	})
}
