package statement

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
)

func TestPartialIsAnEntryOnceAllHaveSigned(t *testing.T) {
	old, recovery, next := testKey(t, P256), testKey(t, Ed25519), testKey(t, P256)
	s := Statement{Body: &Rotate{Key: next.Public().SPKI(), Party: "alice"}, Contract: "trial", Time: when, Version: 1}
	for i, k := range []*PrivateKey{old, recovery, next} {
		s.Signers = append(s.Signers, SignerID{uint64(i + 1), k.Public().Fingerprint()})
	}
	p, err := NewPartial(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Sign(testKey(t, P256)); err == nil || !strings.Contains(err.Error(), "does not ask for") {
		t.Errorf("a stranger signs: %v", err)
	}
	for i, k := range []*PrivateKey{old, recovery, next} {
		if missing := p.Missing(); len(missing) != 3-i {
			t.Fatalf("%d of 3 have signed, missing %v", i, missing)
		}
		raw, err := p.Entry()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(raw); err == nil {
			t.Errorf("signed by %d of 3, it opens as an entry", i)
		}
		if p, err = ParsePartial(raw); err != nil { // as another machine does
			t.Fatal(err)
		}
		if err := p.Sign(k); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := p.Entry()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]PublicKey{}
	for _, k := range []*PrivateKey{old, recovery, next} {
		keys[k.Public().Fingerprint()] = k.Public()
	}
	for i, id := range opened.Signers {
		if err := opened.Verify(i, keys[id.Key]); err != nil {
			t.Error(err)
		}
	}
}

func TestRotateRules(t *testing.T) {
	spki := testKey(t, P256).Public().SPKI()
	for name, tc := range map[string]struct {
		body Rotate
		want string
	}{
		"no key":             {Rotate{Party: "alice"}, "the new key"},
		"no party":           {Rotate{Key: spki}, "party"},
		"bad recovery":       {Rotate{Key: spki, Party: "alice", Recovery: []byte("x")}, "the new recovery key"},
		"the same key twice": {Rotate{Key: spki, Party: "alice", Recovery: spki}, "is the recovery key too"},
	} {
		if err := tc.body.check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}

func TestProposalBounds(t *testing.T) {
	k := testContract(t)
	for _, body := range []Body{&Propose{k, make([]byte, MaxSpecification+1)}, &Amend{k, make([]byte, MaxSpecification+1)}} {
		if err := body.check(); err == nil || !strings.Contains(err.Error(), "at most 28672") {
			t.Errorf("%s: %v", body.Type(), err)
		}
	}
	for _, body := range []Body{&ProvisionRequest{}, &ProvisionDecline{}, &ProvisionRequest{[]string{"b", "a"}}, &ProvisionDecline{"", []string{"../a"}}} {
		if err := body.check(); err == nil {
			t.Errorf("%s of %+v is accepted", body.Type(), body)
		}
	}
}

// FuzzPartial: what parses has one form, and what it says is what would be
// signed.
func FuzzPartial(f *testing.F) {
	key, err := newPrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	p, err := NewPartial(Statement{Body: &Rotate{Key: key.Public().SPKI(), Party: "alice"}, Contract: "trial", Time: when, Version: 1,
		Signers: []SignerID{{1, key.Public().Fingerprint()}, {2, dig}}})
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		raw, err := p.Entry()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		if err := p.Sign(key); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePartial(raw)
		if err != nil {
			return
		}
		if again, err := p.Entry(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%q is written again as %q, %v", raw, again, err)
		}
		payload, err := p.Statement.payload()
		if err != nil || !bytes.Equal(payload, p.payload) || !json.Valid(payload) {
			t.Errorf("it shows %q and signs %q, %v", payload, p.payload, err)
		}
	})
}
