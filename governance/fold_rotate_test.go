package governance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// rotate is a rotation of alice's key signed with the keys of these names.
func (w *world) rotate(next string, signers ...string) []byte {
	w.Helper()
	return w.signAll(&statement.Rotate{Key: w.keys[next].Public().SPKI(), Party: "alice"}, signers...)
}

func (w *world) signAll(body statement.Body, signers ...string) []byte {
	w.Helper()
	var signatures []statement.Signature
	for _, name := range signers {
		w.counter++
		signatures = append(signatures, statement.Signature{Signer: w.keys[name], Counter: w.counter})
	}
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: w.now, Version: 1}, signatures...)
	if err != nil {
		w.Fatalf("signing %s: %v", body.Type(), err)
	}
	return entry
}

// recovering is a contract in which alice has a recovery key.
func (w *world) recovering(version uint64, parties ...string) statement.Contract {
	k := w.contract(version, parties...)
	for i := range k.Parties {
		if k.Parties[i].Name == "alice" {
			k.Parties[i].Recovery = w.keys["recovery"].Public().SPKI()
		}
	}
	return k
}

func TestAfterARotationTheOldKeySaysNothingMore(t *testing.T) {
	w := newWorld(t, "alice", "bob", "recovery", "alice2", "alice3")
	k := w.recovering(1, "alice", "bob")
	approve := func(name string) []byte { return w.by(name, 1, &statement.Approve{Digest: w.digest(k)}) }
	s := fold(t, w.by("alice", 1, &statement.Propose{Contract: k}), approve("alice"))
	byRecovery := w.rotate("alice2", "alice", "alice2", "recovery")
	if _, err := s.Apply(2, byRecovery); err != nil {
		t.Fatal(err)
	}
	if got := s.Approved(); !slices.Equal(got, []string{"alice"}) {
		t.Errorf("the approval given before does not stay: %v", got)
	}
	if _, err := s.Apply(3, approve("bob")); err != nil || s.Status() != Accepted {
		t.Fatalf("%s, %v", s.Status(), err)
	}
	grant := &statement.ConsentGrant{Scopes: execution()}
	wantErr(t, s.Check(w.by("alice", 1, grant)), RetiredKey, "was replaced by "+w.keys["alice2"].Public().Fingerprint())
	wantErr(t, s.Check(byRecovery), RetiredKey, "was replaced")
	if _, err := s.Apply(4, w.by("alice2", 1, grant)); err != nil {
		t.Fatal(err)
	}
	// Twice: the contract still names the first key, and stays what was measured.
	if _, err := s.Apply(5, w.rotate("alice3", "alice2", "alice3", "bob")); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Check(w.by("alice2", 1, grant)), RetiredKey, "was replaced")
	if ok, why := s.Consent("alice", statement.ScopeExecution, w.now); !ok {
		t.Error("consent given before does not stay: " + why)
	}
	trust := Trust{Specification: digestA, ContainerPolicy: digestA, Parties: []string{w.keys["alice"].Public().Fingerprint(), w.keys["bob"].Public().Fingerprint()}}
	if err := trust.check(s); err != nil {
		t.Error(err)
	}
	// An amendment may name the old key, and gives it nothing back; or the new one.
	for i, name := range []string{"alice", "alice3"} {
		next := w.recovering(uint64(i+2), "alice", "bob")
		next.Parties[0].Key = w.keys[name].Public().SPKI()
		if _, err := s.Apply(int64(6+i), w.by("alice3", next.Version, &statement.Amend{Contract: next})); err != nil {
			t.Fatal(err)
		}
		wantErr(t, s.Check(w.by("alice", next.Version, &statement.Withdraw{})), RetiredKey, "was replaced")
	}
	// Dropped, a party comes back with the key that it has, not one it had.
	dropped := w.contract(4, "bob")
	dropped.Volumes = nil
	for _, e := range [][]byte{w.by("alice3", 4, &statement.Amend{Contract: func() statement.Contract {
		k := w.recovering(4, "alice", "bob")
		k.Volumes = nil
		return k
	}()}), w.by("bob", 5, &statement.Amend{Contract: func() statement.Contract { k := dropped; k.Version = 5; return k }()})} {
		if _, err := s.Apply(8, e); err != nil {
			t.Fatal(err)
		}
	}
	back := w.recovering(6, "alice", "bob")
	back.Volumes = nil
	wantErr(t, s.Check(w.by("bob", 6, &statement.Amend{Contract: back})), RetiredKey, `of party "alice" was replaced`)
}

func TestRotationRefusals(t *testing.T) {
	w := newWorld(t, "alice", "bob", "eve", "recovery", "alice2", "recovery2", "sock")
	k := w.recovering(1, "alice", "bob")
	base := [][]byte{w.by("alice", 1, &statement.Propose{Contract: k}), w.by("bob", 1, &statement.Approve{Digest: w.digest(k)})}
	stale, err := statement.Sign(statement.Statement{Body: &statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "alice"}, Contract: "trial", Time: w.now, Version: 2},
		statement.Signature{Signer: w.keys["alice"], Counter: 90}, statement.Signature{Signer: w.keys["alice2"], Counter: 90}, statement.Signature{Signer: w.keys["recovery"], Counter: 90})
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := statement.Sign(statement.Statement{Body: &statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "alice"}, Contract: "trial", Time: w.now, Version: 1},
		statement.Signature{Signer: w.keys["alice"], Counter: 1}, statement.Signature{Signer: w.keys["alice2"], Counter: 90}, statement.Signature{Signer: w.keys["recovery"], Counter: 90})
	if err != nil {
		t.Fatal(err)
	}
	withdrawn := append(base[:2:2], w.by("bob", 1, &statement.Withdraw{}))
	for _, tc := range []struct {
		name   string
		after  [][]byte
		entry  []byte
		reason Reason
		text   string
	}{
		{"old and new key only", base, w.rotate("alice2", "alice", "alice2"), HalfSigned, "three keys"},
		{"without the old key", base, w.rotate("alice2", "alice2", "recovery"), HalfSigned, "three keys"},
		{"two vouchers, no old key", base, w.rotate("alice2", "alice2", "recovery", "bob"), HalfSigned, "three keys"},
		{"without the new key", base, w.rotate("alice2", "alice", "recovery"), HalfSigned, "three keys"},
		{"four signers", base, w.rotate("alice2", "alice", "alice2", "recovery", "bob"), HalfSigned, "three keys"},
		{"vouched for by an outsider", base, w.rotate("alice2", "alice", "alice2", "eve"), NotAParty, "cannot vouch"},
		{"by an outsider alone", base, w.rotate("alice2", "eve"), NotAParty, "cannot vouch"},
		{"a broken signature", base, reseal(t, w.rotate("alice2", "alice", "alice2", "recovery"), func(_ map[string]any, p string) string {
			return strings.Replace(p, `"version":1`, `"version":2`, 1)
		}), WrongSignature, "wrong signature"},
		{"of a party that is not there", base, w.signAll(&statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "eve"}, "eve", "alice2", "bob"), NotAParty, `"eve" is no party`},
		{"to another's key", base, w.rotate("bob", "alice", "bob", "recovery"), WrongState, "in use"},
		{"to the recovery key", base, w.rotate("recovery", "alice", "recovery", "bob"), WrongState, "in use"},
		{"to the same key", base, w.rotate("alice", "alice", "recovery", "bob"), HalfSigned, "three keys"},
		{"of another version", base, stale, StaleVersion, "version 2, the newest is 1"},
		{"an old counter", base, replayed, Replayed, "counter is 1"},
		{"of a withdrawn contract", withdrawn, w.rotate("alice2", "alice", "alice2", "recovery"), WrongState, "withdrawn"},
		{"before a proposal", nil, w.rotate("alice2", "alice", "alice2", "recovery"), WrongState, "no contract is proposed"},
		{"a recovery key where there is none", base, w.signAll(&statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "bob", Recovery: w.keys["recovery2"].Public().SPKI()}, "bob", "alice2", "alice"), WrongState, "has no recovery key"},
		{"a recovery key in use", base, w.signAll(&statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "alice", Recovery: w.keys["bob"].Public().SPKI()}, "alice", "alice2", "bob"), WrongState, "in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fold(t, tc.after...)
			before := fmt.Sprintf("%+v", s)
			wantErr(t, s.Check(tc.entry), tc.reason, tc.text)
			if _, err := s.Apply(9, tc.entry); err == nil {
				t.Error("Apply accepts it")
			}
			if after := fmt.Sprintf("%+v", s); after != before {
				t.Errorf("a refused rotation changed the state:\n%s\n%s", before, after)
			}
		})
	}
	t.Run("signed by one of three", func(t *testing.T) {
		whole := w.rotate("alice2", "alice", "alice2", "recovery")
		half := reseal(t, whole, func(env map[string]any, p string) string {
			env["signatures"] = env["signatures"].([]any)[:1]
			return p
		})
		wantErr(t, fold(t, base...).Check(half), Malformed, "1 signatures for 3 signers")
	})
	t.Run("vouched for by whom a stolen key brought in", func(t *testing.T) {
		sock := w.recovering(2, "alice", "bob", "sock")
		s := fold(t, append(base[:2:2], w.by("alice", 2, &statement.Amend{Contract: sock}))...)
		entry, err := statement.Sign(statement.Statement{Body: &statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "alice"}, Contract: "trial", Time: w.now, Version: 2},
			statement.Signature{Signer: w.keys["alice"], Counter: 91}, statement.Signature{Signer: w.keys["alice2"], Counter: 91}, statement.Signature{Signer: w.keys["sock"], Counter: 91})
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, s.Check(entry), NotAParty, "cannot vouch")
	})
	t.Run("the recovery key, replaced, vouches no more", func(t *testing.T) {
		s := fold(t, append(base[:2:2], w.signAll(&statement.Rotate{Key: w.keys["alice2"].Public().SPKI(), Party: "alice", Recovery: w.keys["recovery2"].Public().SPKI()}, "alice", "alice2", "recovery"))...)
		next := w.signAll(&statement.Rotate{Key: w.keys["eve"].Public().SPKI(), Party: "alice"}, "alice2", "eve", "recovery")
		wantErr(t, s.Check(next), RetiredKey, "was replaced")
		if _, err := s.Apply(3, w.signAll(&statement.Rotate{Key: w.keys["eve"].Public().SPKI(), Party: "alice"}, "alice2", "eve", "recovery2")); err != nil {
			t.Error(err)
		}
	})
}

func TestProvisioningIsTheOwnersToSay(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	s := fold(t, w.accepted("alice", "bob")...)
	put := func(entry []byte) {
		t.Helper()
		if _, err := s.Apply(9, entry); err != nil {
			t.Fatal(err)
		}
	}
	in := []statement.Resource{{Kind: statement.ResourceKEK, Name: "in", Reference: "https://vault/keys/in"}}
	wantErr(t, s.Check(w.by("bob", 1, &statement.Provisioned{Resources: in})), NotOwner, `volume "in" is of party "alice"`)
	wantErr(t, s.Check(w.by("bob", 1, &statement.ProvisionDecline{Volumes: []string{"in"}})), NotOwner, `volume "in" is of party "alice"`)
	wantErr(t, s.Check(w.by("bob", 1, &statement.ProvisionRequest{Volumes: []string{"no"}})), UnknownVolume, `no volume "no"`)
	wantErr(t, s.Check(w.by("alice", 1, &statement.Provisioned{Resources: []statement.Resource{{Kind: "kek", Name: "no", Reference: "r"}}})), UnknownVolume, `no volume "no"`)
	put(w.by("bob", 1, &statement.ProvisionRequest{Volumes: []string{"in"}}))
	put(w.by("alice", 1, &statement.ProvisionDecline{Reason: "on Monday", Volumes: []string{"in"}}))
	if p := s.Provisioning()[0]; p.Declined != "alice declined: on Monday" || !slices.Equal(p.Requested, []string{"bob"}) || p.Owner != "alice" {
		t.Errorf("%+v", p)
	}
	put(w.by("alice", 1, &statement.Provisioned{Resources: in}))
	if p := s.Provisioning()[0]; p.Declined != "" || !slices.Equal(p.Resources, in) {
		t.Errorf("%+v", p)
	}
	put(w.by("alice", 2, &statement.Amend{Contract: w.contract(2, "alice", "bob")}))
	if p := s.Provisioning()[0]; p.Resources != nil || p.Requested != nil {
		t.Errorf("it does not lapse with the version: %+v", p)
	}
	wantErr(t, s.Check(w.by("bob", 2, &statement.ProvisionRequest{Volumes: []string{"in"}})), WrongState, "the contract is proposed")
}

func TestAProposalCarriesItsOwnSpecification(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	k := w.contract(1, "alice", "bob")
	canonical := []byte(`{"apiVersion":"cloister/v1"}`)
	wantErr(t, (&State{}).Check(w.by("alice", 1, &statement.Propose{Contract: k, Specification: canonical})), WrongDigest, "comes with "+spec.DigestOf(canonical))
	k.Specification = spec.DigestOf(canonical)
	s := fold(t, w.by("alice", 1, &statement.Propose{Contract: k, Specification: canonical}))
	if string(s.Specification()) != string(canonical) {
		t.Errorf("%q", s.Specification())
	}
	k.Version = 2
	wantErr(t, s.Check(w.by("alice", 2, &statement.Amend{Contract: k, Specification: []byte("{}")})), WrongDigest, "comes with")
	if _, err := s.Apply(1, w.by("alice", 2, &statement.Amend{Contract: k})); err != nil || s.Specification() != nil {
		t.Errorf("%v: an earlier version's specification stays: %q", err, s.Specification())
	}
}

func TestARunFromAnUnapprovedContainerIsRefused(t *testing.T) {
	w := newWorld(t, "alice", "bob", "run")
	s := fold(t, w.accepted("alice", "bob")...)
	begin := w.begin("run", runA, 1, 1, w.digest(w.contract(1, "alice", "bob")))
	cause := fault.Errorf(fault.Refused, "", "HOST_DATA is another policy's")
	s.Evidence = func(b *statement.RunBegin, k statement.Contract) error {
		if b.Run.ID != runA || k.Version != 1 {
			t.Errorf("asked about run %s of version %d", b.Run.ID, k.Version)
		}
		return cause
	}
	err := s.Check(begin)
	wantErr(t, err, Unapproved, "the evidence of run "+runA+": HOST_DATA is another policy's")
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if n, err := s.CheckAll([][]byte{begin, begin}); n != 0 || ReasonOf(err) != Unapproved {
		t.Errorf("several at once: %d, %v", n, err)
	}
	s.Evidence = func(*statement.RunBegin, statement.Contract) error { return nil }
	if err := s.Check(begin); err != nil {
		t.Error(err)
	}
}
