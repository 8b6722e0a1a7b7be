package governance

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"cloister/governance/statement"
)

// Line is an entry as people read it.
type Line struct {
	Entry    int64
	Time     time.Time // UTC, by the signer's clock
	Type     statement.Type
	Contract string
	Version  uint64
	By       string // the party, or Enclave
	Run      string // of the enclave that speaks
	Sequence uint64 // its record's, or the party's counter
	Words    string
}

// Enclave is who speaks in a run.
const Enclave = "enclave"

// LineOf puts a seen entry into words; seen.Statement is not nil. s is the state
// right after it.
func LineOf(seen Seen, s *State) Line {
	st := seen.Statement
	l := Line{Entry: seen.Index, Time: st.Time.UTC(), Type: st.Body.Type(), Contract: st.Contract, Version: st.Version,
		Sequence: st.Signers[0].Counter, Words: wordsOf(st.Body)}
	if body, ok := st.Body.(statement.RunBody); ok {
		l.By, l.Run = Enclave, body.Header().ID
		if check, ok := body.(*statement.ConsentCheck); ok {
			r, _ := s.run(l.Run)
			if a, _ := r.answer(check.Scope); a.Allowed {
				l.Words += ": yes"
			} else {
				l.Words += ": no, " + a.Reason
			}
		}
		return l
	}
	if rotate, ok := st.Body.(*statement.Rotate); ok {
		l.By = rotate.Party // its first signer's key may be the one that was replaced
		return l
	}
	l.By, _ = s.Party(st.Signers[0].Key)
	return l
}

func wordsOf(body statement.Body) string {
	switch b := body.(type) {
	case *statement.Propose:
		return contractWords("proposes", b.Contract)
	case *statement.Amend:
		return contractWords("amends to", b.Contract)
	case *statement.Approve:
		return "approves " + b.Digest
	case *statement.Reject:
		return because("rejects "+b.Digest, b.Reason)
	case *statement.Withdraw:
		return because("withdraws the contract", b.Reason)
	case *statement.ConsentGrant:
		return grantWords(b)
	case *statement.ConsentWithdraw:
		return because("withdraws consent to "+strings.Join(b.Scopes, ", "), b.Reason)
	case *statement.Rotate:
		return "replaces its signing key by " + statement.Digest(b.Key)
	case *statement.ProvisionRequest:
		return "asks for the keys of " + strings.Join(b.Volumes, ", ")
	case *statement.ProvisionDecline:
		return because("will not provision "+strings.Join(b.Volumes, ", "), b.Reason)
	case *statement.Provisioned:
		return fmt.Sprintf("has provisioned %d resource(s)", len(b.Resources))
	default:
		return runWords(body)
	}
}

func runWords(body statement.Body) string {
	switch b := body.(type) {
	case *statement.RunBegin:
		return "begins run " + b.Run.ID + " on " + b.Evidence.Platform + " for " + b.ContractDigest
	case *statement.ConsentCheck:
		return because("asks for consent to "+b.Scope, b.What)
	case *statement.RecordAccess:
		return because("accesses "+b.What+" "+b.Name+inVolume(b.Volume), b.Detail)
	case *statement.RecordExecution:
		if b.Exit != nil {
			return fmt.Sprintf("%s ended with exit code %d", b.Application, *b.Exit) + outputWords(b.Outputs)
		}
		return because("starts "+b.Application, b.Detail)
	case *statement.RunRefusal:
		return because("did not take step "+b.Step, b.Reason)
	case *statement.JournalHead:
		return fmt.Sprintf("output %s is at epoch %d, record %d", b.Volume, b.Epoch, b.Sequence)
	case *statement.Completion:
		if !b.Complete {
			return because("ends INCOMPLETE", b.Detail)
		}
		return "is complete" + outputWords(b.Outputs)
	case *statement.AppEvent:
		return "the application says of " + b.ID + ": " + statement.Text(string(b.Data))
	case *statement.Job:
		return jobWords(b)
	case *statement.Egress:
		return egressWords(b.Decisions)
	case *statement.Ingress:
		return "endpoints refused: " + refusalWords(b.Refusals)
	default:
		return string(body.Type())
	}
}

// jobWords say what a job does next, or came to.
func jobWords(b *statement.Job) string {
	switch b.Phase {
	case statement.PhaseStart:
		return "starts job " + b.ID + handedWords(" with parameters", b.Parameters) + forParty(b.Party)
	case statement.PhaseResult:
		return "hands over of job " + b.ID + handedWords(" the result", b.Result) + " to party " + b.Party
	}
	return because(fmt.Sprintf("job %s ended with exit code %d", b.ID, *b.Exit)+handedWords(" and the result", b.Result), b.Detail)
}

func handedWords(what string, h *statement.Handed) string {
	if h == nil {
		return ""
	}
	return fmt.Sprintf("%s %s of %d bytes", what, h.Digest, h.Size)
}

func forParty(name string) string {
	if name == "" {
		return ""
	}
	return ", called by party " + name
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + " (" + why + ")"
}

// egressWords say what the application reached and did not.
func egressWords(decisions []statement.EgressDecision) string {
	var words []string
	for _, d := range decisions {
		where := ""
		if d.Host != "" {
			where = " " + net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port)))
		}
		words = append(words, fmt.Sprintf("%s%s, %d times", d.Decision, where, d.Count))
	}
	return "egress: " + strings.Join(words, "; ")
}

// refusalWords say for what endpoints turned clients away.
func refusalWords(refusals []statement.IngressRefusal) string {
	var words []string
	for _, r := range refusals {
		words = append(words, fmt.Sprintf("%s at %s, %d times", r.Reason, r.Endpoint, r.Count))
	}
	return strings.Join(words, "; ")
}

func inVolume(name string) string {
	if name == "" {
		return ""
	}
	return " of volume " + name
}

func outputWords(outputs []statement.Output) string {
	text := ""
	for _, o := range outputs {
		text += ", output " + o.Name + " " + o.Reference
	}
	return text
}

func contractWords(does string, k statement.Contract) string {
	var parties, volumes []string
	for _, p := range k.Parties {
		parties = append(parties, p.Name)
	}
	for _, v := range k.Volumes {
		volumes = append(volumes, v.Kind+" "+v.Name+" of "+v.Owner)
	}
	return fmt.Sprintf("%s version %d of %s: parties %s; %s", does, k.Version, k.ID, strings.Join(parties, ", "), strings.Join(volumes, ", "))
}

func grantWords(b *statement.ConsentGrant) string {
	text := "consents to " + strings.Join(b.Scopes, ", ")
	if b.Runs > 0 {
		text += fmt.Sprintf(", for %d run(s)", b.Runs)
	}
	if b.Expires != nil {
		text += ", until " + b.Expires.Format(time.RFC3339)
	}
	return text
}

// Table writes lines as CSV (RFC 4180).
type Table struct{ out *csv.Writer }

// NewTable begins a table with the names of its columns.
func NewTable(w io.Writer) *Table {
	t := &Table{csv.NewWriter(w)}
	_ = t.out.Write([]string{"entry", "time", "type", "contract", "version", "by", "run", "sequence", "words"}) // Flush tells
	return t
}

// Add writes a line.
func (t *Table) Add(l Line) error {
	return t.out.Write([]string{strconv.FormatInt(l.Entry, 10), l.Time.Format("2006-01-02T15:04:05.000Z"), string(l.Type), plainCell(l.Contract),
		strconv.FormatUint(l.Version, 10), plainCell(l.By), plainCell(l.Run), strconv.FormatUint(l.Sequence, 10), plainCell(l.Words)})
}

// Flush writes what is left and returns what went wrong since the beginning.
func (t *Table) Flush() error {
	t.out.Flush()
	return t.out.Error()
}

// plainCell keeps a spreadsheet from taking another party's words for a formula:
// an apostrophe before what would begin one (OWASP, CSV Injection).
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(s)[0]) {
		return "'" + s
	}
	return s
}
