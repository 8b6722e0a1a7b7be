package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

// contractStatus is what status reports.
type contractStatus struct {
	Status   governance.Status            `json:"status"`
	Digest   string                       `json:"digest"`
	Ended    string                       `json:"ended,omitempty"`
	Approved []string                     `json:"approved"`
	Consent  map[string]map[string]string `json:"consent"` // by scope and party: "granted", or why not
	Volumes  []governance.Provision       `json:"volumes"`
	Runs     []governance.RunStatus       `json:"runs"`
	Contract statement.Contract           `json:"contract"`
}

func contractStatusCommand() *urfave.Command {
	return &urfave.Command{
		Name: "status", Usage: "where the contract stands",
		Flags: append(readerFlags(), specificationFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			_, view, done, err := openView(c)
			defer done()
			if err != nil {
				return err
			}
			st := statusOf(view.State(), time.Now())
			return printResult(c, st, func(stdout, _ io.Writer) { printStatus(stdout, st) })
		}, "--ledger"),
	}
}

func statusOf(s *governance.State, now time.Time) contractStatus {
	k, digest := s.Contract()
	st := contractStatus{s.Status(), digest, s.Ended(), s.Approved(), map[string]map[string]string{}, s.Provisioning(), s.Runs(), k}
	for _, scope := range allScopes {
		st.Consent[scope] = map[string]string{}
		for _, p := range k.Parties {
			st.Consent[scope][p.Name] = "granted"
			if ok, why := s.Consent(p.Name, scope, now); !ok {
				st.Consent[scope][p.Name] = why
			}
		}
	}
	return st
}

func printStatus(w io.Writer, st contractStatus) {
	if st.Contract.Version == 0 {
		fmt.Fprintln(w, "nothing has been proposed yet")
		return
	}
	fmt.Fprintf(w, "contract %s version %d is %s\n", st.Contract.ID, st.Contract.Version, st.Status)
	if st.Ended != "" {
		fmt.Fprintln(w, cli.Printable(st.Ended))
	}
	fmt.Fprintf(w, "approved by %s\n", cmp.Or(strings.Join(st.Approved, ", "), "nobody"))
	for _, scope := range allScopes {
		for _, p := range st.Contract.Parties {
			fmt.Fprintf(w, "%s, %s: %s\n", scope, p.Name, st.Consent[scope][p.Name])
		}
	}
	for _, v := range st.Volumes {
		fmt.Fprintf(w, "keys of %s, %s: %s\n", v.Volume, v.Owner, cli.Printable(provisionWords(v)))
	}
}

func provisionWords(p governance.Provision) string {
	switch {
	case p.Declined != "":
		return p.Declined
	case len(p.Resources) > 0:
		return "provisioned"
	case len(p.Requested) > 0:
		return "asked for by " + strings.Join(p.Requested, ", ")
	default:
		return "nothing said yet"
	}
}
