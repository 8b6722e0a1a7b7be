package adversary

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cloister/governance"
	"cloister/internal/fault"
)

// The checks, by what they say.
const (
	cosignatures = "has the cosignatures of 0 witnesses, 1 are needed"
	root         = "do not have the root of its checkpoint"
	rolledBack   = "it was rolled back"
	notHeld      = "its log does not hold the record there"
)

// refused demands that a check stopped somebody.
func refused(t *testing.T, err error, check string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), check) || fault.KindOf(err) != fault.Refused {
		t.Errorf("got %v, want a refusal with %q", err, check)
	}
}

// running is a run that has asked once and got a yes.
func running(t *testing.T, witnesses int) (*operator, *party, *log, *governance.Run) {
	t.Helper()
	o, p := newOperator(t, witnesses), newParty(t)
	l := o.shows(p.agrees()...)
	r, err := o.begins(l, p)
	check(t, err)
	check(t, asks(t, r))
	return o, p, l, r
}

func TestHonestLedgerWithWitnessesIsBelieved(t *testing.T) {
	o, p, l, r := running(t, 3)
	check(t, asks(t, r))
	_, err := l.Append(t.Context(), p.withdraws())
	check(t, err)
	if err := asks(t, r); err == nil || !strings.Contains(err.Error(), "withdrew its consent") {
		t.Errorf("after the withdrawal: %v", err)
	}
	view := governance.NewCosignedView(o.key, o.witnesses)
	check(t, view.AdvanceToNewest(t.Context(), l, nil))
	if view.Time().IsZero() {
		t.Error("a cosigned log without a time")
	}
}

func TestForkStopsTheRun(t *testing.T) {
	o, p, l, r := running(t, 1)
	hidden := l.forkAt(len(l.entries))
	_, err := l.Append(t.Context(), p.withdraws())
	check(t, err)
	// From now on the enclave is shown the log without the withdrawal.
	l.entries, l.hashes, l.state, l.published = hidden.entries, hidden.hashes, hidden.state, hidden.published
	refused(t, asks(t, r), cosignatures)
	// It may be shown the old cosigned checkpoint at its beginning; its first
	// question comes after that.
	begun, err := o.begins(hidden, p)
	check(t, err)
	refused(t, asks(t, begun), cosignatures)
	// Nor is a log begun with that was never cosigned.
	never := l.forkAt(3)
	never.published = never.sign()
	_, err = o.begins(never, p)
	refused(t, err, cosignatures)
}

func TestWhatIsReadMustHaveTheRoot(t *testing.T) {
	for name, bend := range map[string]func([][]byte) [][]byte{
		"drop":    func(list [][]byte) [][]byte { return append(list[1:], list[0]) },
		"reorder": func(list [][]byte) [][]byte { list[0], list[1] = list[1], list[0]; return list },
		"rewrite": func(list [][]byte) [][]byte {
			list[0] = bytes.Replace(list[0], []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
			return list
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, p, l, r := running(t, 1)
			// Somebody else's statements come between the run's questions.
			_, err := l.Append(t.Context(), p.grants(nil))
			check(t, err)
			_, err = l.Append(t.Context(), p.withdraws())
			check(t, err)
			// The ledger takes the question under its true state, and hides why it is a no.
			l.read = func(_ int64, list [][]byte) [][]byte { return bend(list) }
			refused(t, asks(t, r), root)
		})
	}
}

func TestRewrittenHistoryIsNotCosigned(t *testing.T) {
	o, p, l, _ := running(t, 1)
	rewritten := l.forkAt(3)
	for range len(l.entries) {
		rewritten.add(p.grants(nil))
	}
	if err := rewritten.publish(t.Context()); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "422") {
		t.Fatalf("the witness of another history: %v", err)
	}
	_, err := o.begins(rewritten, p)
	refused(t, err, cosignatures)
}

func TestReplayedCheckpointIsARollback(t *testing.T) {
	o, p, l, r := running(t, 1)
	old := l.published
	check(t, asks(t, r))
	view := follow(t, o, l)
	_, err := l.Append(t.Context(), p.withdraws())
	check(t, err)
	l.shown = func() []byte { return old }
	refused(t, view.AdvanceToNewest(t.Context(), l, nil), rolledBack)
	l.receipt = func(got governance.Receipt) governance.Receipt {
		return governance.Receipt{Index: got.Index, Count: got.Count, Checkpoint: old}
	}
	refused(t, asks(t, r), rolledBack)
}

func TestConsentFromThePastIsNoAnswer(t *testing.T) {
	_, p, l, r := running(t, 1)
	past, at := l.published, int64(len(l.entries))
	_, err := l.Append(t.Context(), p.withdraws())
	check(t, err)
	// The checkpoint covers the run's last question, to which the answer was yes.
	l.receipt = func(got governance.Receipt) governance.Receipt {
		return governance.Receipt{Index: at - 1, Count: got.Count, Checkpoint: past}
	}
	refused(t, asks(t, r), notHeld)
}

func TestAnotherRunsAnswerIsNoAnswer(t *testing.T) {
	o, p, l, r := running(t, 1)
	other, err := o.begins(l, p)
	check(t, err)
	check(t, asks(t, other))
	yes, at := l.published, int64(len(l.entries))
	_, err = l.Append(t.Context(), p.withdraws())
	check(t, err)
	l.receipt = func(got governance.Receipt) governance.Receipt {
		return governance.Receipt{Index: at - 1, Count: got.Count, Checkpoint: yes}
	}
	refused(t, asks(t, r), notHeld)
}

func TestWithheldWithdrawalIsNotAcknowledged(t *testing.T) {
	o, p, l, r := running(t, 1)
	apart := l.forkAt(len(l.entries)) // for the party alone
	check(t, asks(t, r))
	receipt, err := apart.Append(t.Context(), p.withdraws())
	check(t, err)
	view := governance.NewCosignedView(o.key, o.witnesses)
	refused(t, view.Advance(t.Context(), apart, receipt.Checkpoint, nil), cosignatures)
}

func TestWithdrawnWitnessStopsTheRun(t *testing.T) {
	o, _, _, r := running(t, 2)
	check(t, o.served[1].Withdraw("the ledger takes no withdrawal"))
	refused(t, asks(t, r), "has the cosignatures of 0 witnesses, 2 are needed")
}

func TestSilenceEndsTheRun(t *testing.T) {
	_, _, l, r := running(t, 1)
	l.read = func(int64, [][]byte) [][]byte { return nil }
	refused(t, asks(t, r), "the ledger returned 0 entries")
}

// TestOperatorWithEveryWitnessCanFork has the one witness's directory copied,
// which is what a witness that helps the operator comes to.
func TestOperatorWithEveryWitnessCanFork(t *testing.T) {
	o, p, l, _ := running(t, 1)
	fork := l.forkAt(len(l.entries))
	accomplice := o.copied(0)
	_, err := l.Append(t.Context(), p.withdraws())
	check(t, err)
	o.group = accomplice
	r, err := o.begins(fork, p)
	check(t, err)
	if err := asks(t, r); err != nil {
		t.Errorf("listed as possible, and is not: %v", err)
	}
}

// TestDocumentNamesTests holds ADVERSARY.md to the tests that there are.
func TestDocumentNamesTests(t *testing.T) {
	document, err := os.ReadFile("ADVERSARY.md")
	check(t, err)
	files, err := filepath.Glob("*_test.go")
	check(t, err)
	above, err := filepath.Glob("../*_test.go")
	check(t, err)
	var source []byte
	for _, file := range append(files, above...) {
		raw, err := os.ReadFile(file)
		check(t, err)
		source = append(source, raw...)
	}
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllSubmatch(document, -1)
	if len(names) < 15 {
		t.Fatalf("ADVERSARY.md names %d tests", len(names))
	}
	for _, name := range names {
		if !bytes.Contains(source, []byte("func "+string(name[1])+"(")) {
			t.Errorf("ADVERSARY.md names %s, which there is not", name[1])
		}
	}
}
