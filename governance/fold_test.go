package governance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

const runA, runB = "000102030405060708090a0b0c0d0e0f", "ff0102030405060708090a0b0c0d0e0f"

// fold applies entries that must all be accepted.
func fold(t failer, entries ...[]byte) *State {
	t.Helper()
	s := &State{}
	for i, e := range entries {
		if _, err := s.Apply(int64(i), e); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	return s
}

func TestAllMustApproveTheSameBytes(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	k := w.contract(1, "alice", "bob")
	s := &State{}
	step := func(entry []byte, want Status) {
		t.Helper()
		if _, err := s.Apply(0, entry); err != nil {
			t.Fatal(err)
		}
		if s.Status() != want {
			t.Fatalf("status %s, want %s", s.Status(), want)
		}
	}
	if s.Status() != Draft {
		t.Fatalf("an empty log is %s", s.Status())
	}
	step(w.by("alice", 1, &statement.Propose{Contract: k}), Proposed)
	step(w.by("alice", 1, &statement.Approve{Digest: w.digest(k)}), Proposed)
	step(w.by("bob", 1, &statement.Approve{Digest: w.digest(k)}), Accepted)
	k2 := w.contract(2, "alice", "bob")
	step(w.by("alice", 2, &statement.Amend{Contract: k2}), Proposed)
	if len(s.Approved()) != 0 {
		t.Errorf("approvals of version 1 hold for version 2: %v", s.Approved())
	}
	step(w.by("bob", 2, &statement.Reject{Digest: w.digest(k2), Reason: "too much"}), Rejected)
	if s.Ended() != "bob rejected the contract: too much" {
		t.Errorf("ended: %q", s.Ended())
	}
	step(w.by("alice", 3, &statement.Amend{Contract: w.contract(3, "alice", "bob")}), Proposed)
	step(w.by("bob", 3, &statement.Withdraw{}), Withdrawn)
	_, err := s.Apply(0, w.by("alice", 4, &statement.Amend{Contract: w.contract(4, "alice", "bob")}))
	wantErr(t, err, WrongState, "withdrawn")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, "alice", "bob", "eve")
	k := w.contract(1, "alice", "bob")
	propose := w.by("alice", 1, &statement.Propose{Contract: k})
	approve := w.by("alice", 1, &statement.Approve{Digest: w.digest(k)})
	base := [][]byte{propose, approve}

	amended := func(change func(*statement.Contract)) []byte {
		next := w.contract(2, "alice", "bob")
		change(&next)
		return w.by("bob", 2, &statement.Amend{Contract: next})
	}
	bobKeepsAlices := func(n *statement.Contract) { n.Volumes = k.Volumes }
	other := w.sign("bob", 1, 99, &statement.Withdraw{})
	otherContract, err := statement.Sign(statement.Statement{Body: &statement.Withdraw{}, Contract: "else", Time: w.now, Version: 1},
		statement.Signature{Signer: w.keys["bob"], Counter: 100})
	if err != nil {
		t.Fatal(err)
	}
	two, err := statement.Sign(statement.Statement{Body: &statement.Withdraw{}, Contract: "trial", Time: w.now, Version: 1},
		statement.Signature{Signer: w.keys["alice"], Counter: 100}, statement.Signature{Signer: w.keys["bob"], Counter: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		entry  []byte
		reason Reason
		text   string
		kind   fault.Kind
	}{
		{"garbage", []byte("{}"), Malformed, "malformed", fault.Refused},
		{"unknown type", retype(t, other), UnknownType, "unknown type", fault.Refused},
		{"another contract", otherContract, WrongContract, `about contract "else"`, fault.Refused},
		{"outsider", w.by("eve", 1, &statement.Approve{Digest: w.digest(k)}), NotAParty, "is of no party", fault.Refused},
		{"broken signature", breakSignature(t, other), WrongSignature, "wrong signature", fault.Refused},
		{"two signers", two, WrongSignature, "2 signers", fault.Refused},
		{"replay", approve, Replayed, "counter is 2 and was 2", fault.Conflict},
		{"old counter", w.sign("alice", 1, 1, &statement.Withdraw{}), Replayed, "counter is 1", fault.Conflict},
		{"stale version", w.by("bob", 2, &statement.Approve{Digest: w.digest(k)}), StaleVersion, "version 2, the newest is 1", fault.Conflict},
		{"other bytes", w.by("bob", 1, &statement.Approve{Digest: digestB}), WrongDigest, "approval of " + digestB, fault.Refused},
		{"reject other bytes", w.by("bob", 1, &statement.Reject{Digest: digestB}), WrongDigest, "rejection of", fault.Refused},
		{"approve twice", w.by("alice", 1, &statement.Approve{Digest: w.digest(k)}), WrongState, "cannot approve", fault.Conflict},
		{"propose twice", w.by("bob", 1, &statement.Propose{Contract: k}), WrongState, "proposed already", fault.Conflict},
		{"consent too early", w.by("bob", 1, &statement.ConsentGrant{Scopes: execution()}), WrongState, "the contract is proposed", fault.Conflict},
		{"provisioned too early", w.by("bob", 1, &statement.Provisioned{Resources: []statement.Resource{{Kind: "kek", Name: "in", Reference: "r"}}}), WrongState, "the contract is proposed", fault.Conflict},
		{"amend skips a version", w.by("alice", 3, &statement.Amend{Contract: w.contract(3, "alice", "bob")}), StaleVersion, "the next is 2", fault.Conflict},
		{"amend from the past", w.by("alice", 1, &statement.Amend{Contract: w.contract(1, "alice", "bob")}), StaleVersion, "the next is 2", fault.Conflict},
		{"amend another's volume", amended(func(*statement.Contract) {}), NotOwner, `volume "in" of party "alice"`, fault.Refused},
		{"drop another's volume", amended(func(n *statement.Contract) { n.Volumes = nil }), NotOwner, `volume "in" of party "alice"`, fault.Refused},
		{"take another's volume over", amended(func(n *statement.Contract) { n.Volumes[0].Owner = "bob" }), NotOwner, `volume "in" of party "alice"`, fault.Refused},
		{"add in another's name", amended(func(n *statement.Contract) {
			bobKeepsAlices(n)
			n.Volumes = append(n.Volumes[:1:1], statement.Volume{Kind: "source", Name: "new", Owner: "alice", Reference: "r"})
		}), NotOwner, `volume "new" of party "alice"`, fault.Refused},
		{"change a key", amended(func(n *statement.Contract) { bobKeepsAlices(n); n.Parties[0].Key = w.keys["eve"].Public().SPKI() }), NotOwner, "cannot change the key", fault.Refused},
		{"change a recipient", amended(func(n *statement.Contract) { bobKeepsAlices(n); n.Parties[0].Recipient = []byte("k") }), NotOwner, "recipient key", fault.Refused},
		{"amend oneself out", amended(func(n *statement.Contract) { bobKeepsAlices(n); n.Parties = n.Parties[:1] }), NotOwner, "amend itself out", fault.Refused},
		{"run before acceptance", w.begin("eve", runA, 1, 1, w.digest(k)), WrongState, "the contract is proposed", fault.Conflict},
		{"record of no run", w.sign("eve", 1, 2, &statement.RecordAccess{Name: "n", Run: runHead(runA, digestA), What: "kek"}), UnknownRun, "did not begin", fault.Refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fold(t, base...)
			before := fmt.Sprintf("%+v", s)
			err := s.Check(tc.entry)
			wantErr(t, err, tc.reason, tc.text)
			if fault.KindOf(err) != tc.kind {
				t.Errorf("kind %v, want %v", fault.KindOf(err), tc.kind)
			}
			if _, again := s.Apply(2, tc.entry); again == nil || again.Error() != err.Error() {
				t.Errorf("Apply says %v, Check %v", again, err)
			}
			if tc.reason == UnknownType {
				if s.Unknown() != 1 {
					t.Error("the unknown type is not counted")
				}
				return
			}
			if after := fmt.Sprintf("%+v", s); after != before {
				t.Errorf("a refused statement changed the state:\n%s\n%s", before, after)
			}
		})
	}
	t.Run("draft", func(t *testing.T) {
		wantErr(t, (&State{}).Check(approve), WrongState, "no contract is proposed")
		wantErr(t, (&State{}).Check(w.by("eve", 1, &statement.Propose{Contract: k})), NotAParty, "of no party of the proposed contract")
		wantErr(t, (&State{}).Check(w.by("alice", 2, &statement.Propose{Contract: w.contract(2, "alice")})), StaleVersion, "the next is 1")
	})
}

// begin is a run-begin signed with the key of that name.
func (w *world) begin(name, id string, version, counter uint64, digest string) []byte {
	return w.sign(name, version, counter, &statement.RunBegin{AuditKey: w.keys[name].Public().SPKI(),
		ContractDigest: digest, Evidence: testEvidence(), Run: runHead(id, "")})
}

// reseal rewrites an entry's envelope.
func reseal(t failer, entry []byte, change func(env map[string]any, payload string) string) []byte {
	t.Helper()
	var env map[string]any
	if err := json.Unmarshal(entry, &env); err != nil {
		t.Fatalf("%v", err)
	}
	payload, err := base64.StdEncoding.DecodeString(env["payload"].(string))
	if err != nil {
		t.Fatalf("%v", err)
	}
	env["payload"] = base64.StdEncoding.EncodeToString([]byte(change(env, string(payload))))
	out, err := json.Marshal(env)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

func retype(t failer, entry []byte) []byte {
	return reseal(t, entry, func(_ map[string]any, p string) string { return strings.Replace(p, `"withdraw"`, `"resign"`, 1) })
}

func breakSignature(t failer, entry []byte) []byte {
	return reseal(t, entry, func(_ map[string]any, p string) string { return strings.Replace(p, `{}`, `{"reason":"x"}`, 1) })
}

func TestRunRefusals(t *testing.T) {
	w := newWorld(t, "alice", "bob", "run", "run2")
	base := w.accepted("alice", "bob")
	k := w.contract(1, "alice", "bob")
	begin := w.begin("run", runA, 1, 1, w.digest(k))
	evidence, err := testEvidence().Digest()
	if err != nil {
		t.Fatal(err)
	}
	nonce := strings.Repeat("00", 32)
	check := w.sign("run", 1, 2, &statement.ConsentCheck{Evidence: evidence, Nonce: nonce, Run: runHead(runA, statement.EntryDigest(begin)), Scope: statement.ScopeExecution})
	started := append(base, begin)
	asked := append(started, check)
	last := statement.EntryDigest(check)
	access := func(counter, version uint64, previous string) []byte {
		return w.sign("run", version, counter, &statement.RecordAccess{Name: "n", Run: runHead(runA, previous), What: "kek"})
	}
	exit := 0
	done := w.sign("run", 1, 3, &statement.Completion{Run: runHead(runA, last)})

	for _, tc := range []struct {
		name   string
		after  [][]byte
		entry  []byte
		reason Reason
		text   string
	}{
		{"other contract bytes", base, w.begin("run", runA, 1, 1, digestB), WrongDigest, "the run carries out"},
		{"other version", base, w.begin("run", runA, 2, 1, w.digest(k)), StaleVersion, "the newest is 1"},
		{"not sequence 1", base, w.begin("run", runA, 1, 2, w.digest(k)), Replayed, "sequence 1"},
		{"run id again", started, w.begin("run2", runA, 1, 1, w.digest(k)), Replayed, "begins again"},
		{"audit key again", started, w.begin("run", runB, 1, 1, w.digest(k)), Replayed, "counter"},
		{"access without asking", started, access(2, 1, statement.EntryDigest(begin)), NoConsent, "has not asked"},
		{"other evidence", started, w.sign("run", 1, 2, &statement.ConsentCheck{Evidence: digestB, Nonce: nonce, Run: runHead(runA, statement.EntryDigest(begin)), Scope: "execution"}), WrongDigest, "consent is asked with evidence"},
		{"record replayed", asked, check, Replayed, "record 2 of run"},
		{"gap in the sequence", asked, access(4, 1, last), BrokenChain, "follows record 2"},
		{"other record before", asked, access(3, 1, digestB), BrokenChain, "names " + digestB},
		{"other version later", asked, access(3, 2, last), StaleVersion, "is about version 2"},
		{"by another run's key", asked, w.sign("run2", 1, 3, &statement.Completion{Run: runHead(runA, last)}), WrongSignature, "was given for signer"},
		{"end without start", asked, w.sign("run", 1, 3, &statement.RecordExecution{Application: "app", Exit: &exit, Phase: "end", Run: runHead(runA, last)}), WrongState, "ends"},
		{"after consent is withdrawn", append(asked[:len(asked):len(asked)], w.by("bob", 1, &statement.ConsentWithdraw{Scopes: execution()})), access(3, 1, last), NoConsent, `party "bob" withdrew its consent to execution (entry 7)`},
		{"after the contract is amended", append(asked[:len(asked):len(asked)], w.by("alice", 2, &statement.Amend{Contract: w.contract(2, "alice", "bob")})), access(3, 1, last), NoConsent, "the contract is proposed"},
		{"after completion", append(asked[:len(asked):len(asked)], done), w.sign("run", 1, 4, &statement.RunRefusal{Reason: "r", Run: runHead(runA, statement.EntryDigest(done)), Step: "s"}), WrongState, "completed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantErr(t, fold(t, tc.after...).Check(tc.entry), tc.reason, tc.text)
		})
	}
	t.Run("all is well otherwise", func(t *testing.T) {
		s := fold(t, append(asked[:len(asked):len(asked)], access(3, 1, last))...)
		if runs := s.Runs(); len(runs) != 1 || runs[0].Records != 3 || runs[0].Completed {
			t.Errorf("%+v", runs)
		}
	})
}

func TestConsentExpiresByTheLatestTimeInTheLog(t *testing.T) {
	w := newWorld(t, "alice", "bob", "run")
	entries := w.accepted("alice", "bob")
	expires := statement.NewTime(w.now.Add(time.Hour))
	entries = append(entries, w.by("bob", 1, &statement.ConsentGrant{Expires: &expires, Scopes: execution()}))
	s := fold(t, entries...)
	if ok, why := s.Consent("bob", statement.ScopeExecution, w.now); !ok {
		t.Error(why)
	}
	if ok, why := s.Consent("bob", statement.ScopeExecution, expires.Time); ok || !strings.Contains(why, "expired at") {
		t.Errorf("%v %s", ok, why)
	}
	// Somebody else's later statement moves the floor of time; an enclave whose
	// clock the host holds back gains nothing.
	back := w.now
	w.now = expires.Time
	s = fold(t, append(entries, w.by("alice", 1, &statement.ConsentGrant{Scopes: execution()}))...)
	if ok, _ := s.Consent("bob", statement.ScopeExecution, back); ok {
		t.Error("a clock held back revives consent")
	}
	if ok, why := s.Consent("bob", statement.ScopeLogging, back); ok || !strings.Contains(why, "has not consented to logging") {
		t.Errorf("%v %s", ok, why)
	}
}

func TestNextCounterRisesEvenWhenTheLogIsHidden(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	s := &State{counters: map[string]uint64{"k": 5, "ahead": 2_000_000}}
	for key, want := range map[string]uint64{"k": 1_000_000, "new": 1_000_000, "ahead": 2_000_001} {
		if got := s.NextCounter(key, now); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}
