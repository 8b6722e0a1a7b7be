package main

import (
	"encoding/json"
	"fmt"

	"cloister/governance/ledger"
	"cloister/governance/partyfile"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func initCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "init",
		Usage:     "make a log in DIR; prints its verifier key, for the specification",
		ArgsUsage: "DIR",
		Flags: []urfave.Flag{
			&urfave.StringSliceFlag{Name: "party", Usage: "one of the parties of `DOCUMENT` may propose the log's contract, and reads before there is one"},
			&urfave.BoolFlag{Name: "json", Usage: "print JSON: key"},
		},
		Action: func(c *urfave.Context) error {
			if c.NArg() != 1 {
				return fault.Errorf(fault.Usage, "cloister-ledger init --party DOCUMENT DIR", "init takes one directory, %d are given", c.NArg())
			}
			parties, err := fingerprints(c)
			if err != nil {
				return err
			}
			key, err := ledger.Init(c.Args().First(), "", parties...)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return json.NewEncoder(c.App.Writer).Encode(map[string]string{"key": key})
			}
			fmt.Fprintln(c.App.Writer, key)
			return nil
		},
	}
}

// fingerprints are those of the keys in the documents of --party.
func fingerprints(c *urfave.Context) (parties []string, err error) {
	for _, path := range c.StringSlice("party") {
		p, err := partyfile.ReadDocument(path)
		if err != nil {
			return nil, err
		}
		parties = append(parties, p.Fingerprint())
	}
	return parties, nil
}
