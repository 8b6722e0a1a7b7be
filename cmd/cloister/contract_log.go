package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/cli"

	urfave "github.com/urfave/cli/v2"
)

// saidLine is one statement of a party, in words.
type saidLine struct {
	Entry   int64          `json:"entry"`
	Time    statement.Time `json:"time"` // by the signer's clock
	Type    statement.Type `json:"type"`
	Party   string         `json:"party"`
	Version uint64         `json:"version"`
	Words   string         `json:"words"`
}

func contractLogCommand() *urfave.Command {
	return &urfave.Command{
		Name: "log", Usage: "what the parties said, a line each; what runs did is in `cloister audit list`",
		Flags: append(readerFlags(), specificationFlag(), jsonFlag()),
		Action: action(func(c *urfave.Context, _ []string) error {
			lines, err := readLog(c)
			if err != nil {
				return err
			}
			out := json.NewEncoder(c.App.Writer)
			for _, l := range lines {
				if c.Bool("json") {
					if err := out.Encode(l); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(c.App.Writer, "%4d %s version %d: %s %s\n", l.Entry, l.Time.UTC().Format("2006-01-02 15:04:05"), l.Version, l.Party, cli.Printable(l.Words))
			}
			return nil
		}, "--ledger"),
	}
}

// readLog returns what was said only once all of it is verified.
func readLog(c *urfave.Context) (lines []saidLine, err error) {
	l, key, done, err := findLog(c)
	defer done()
	if err != nil {
		return nil, err
	}
	key, witnesses, err := trusted(c, key)
	if err != nil {
		return nil, err
	}
	view, err := newWatched(c, key, witnesses)
	if err != nil {
		return nil, err
	}
	err = view.follow(c.Context, l, func(seen governance.Seen) {
		if seen.Statement == nil {
			return
		}
		if _, run := seen.Statement.Body.(statement.RunBody); run {
			return
		}
		lines = append(lines, lineOf(seen, view.State()))
	})
	return lines, err
}

func lineOf(seen governance.Seen, after *governance.State) saidLine {
	s := seen.Statement
	line := saidLine{Entry: seen.Index, Time: statement.NewTime(s.Time), Type: s.Body.Type(), Version: s.Version, Words: inWords(s.Body)}
	if b, ok := s.Body.(*statement.Rotate); ok {
		line.Party = b.Party
		return line
	}
	line.Party, _ = after.Party(s.Signers[0].Key)
	return line
}

// inWords says what a party's statement does, to go behind the party's name.
func inWords(body statement.Body) string {
	switch b := body.(type) {
	case *statement.Propose:
		return "proposed the contract"
	case *statement.Amend:
		return "amended the contract; earlier approvals, consent and provisioning lapsed"
	case *statement.Approve:
		return "approved " + b.Digest
	case *statement.Reject:
		return because("rejected "+b.Digest, b.Reason)
	case *statement.Withdraw:
		return because("withdrew the contract", b.Reason)
	case *statement.Rotate:
		return "signs with " + statement.Digest(b.Key) + " from here on"
	case *statement.ConsentGrant:
		return grantWords(b)
	case *statement.ConsentWithdraw:
		return because("withdrew consent to "+strings.Join(b.Scopes, ", "), b.Reason)
	case *statement.ProvisionRequest:
		return "asked for the keys of " + strings.Join(b.Volumes, ", ")
	case *statement.ProvisionDecline:
		return because("declined to provision "+strings.Join(b.Volumes, ", "), b.Reason)
	case *statement.Provisioned:
		var what []string
		for _, r := range b.Resources {
			what = append(what, r.Kind+" of "+r.Name+" at "+r.Reference)
		}
		return "provisioned " + strings.Join(what, ", ")
	default:
		return "said " + string(body.Type())
	}
}

func because(did, reason string) string {
	if reason == "" {
		return did
	}
	return did + ": " + reason
}

func grantWords(b *statement.ConsentGrant) string {
	words := "consented to " + strings.Join(b.Scopes, ", ")
	if b.Runs > 0 {
		words += fmt.Sprintf(", for %d run(s)", b.Runs)
	}
	if b.Expires != nil {
		words += ", until " + b.Expires.UTC().Format("2006-01-02 15:04:05")
	}
	return words
}
