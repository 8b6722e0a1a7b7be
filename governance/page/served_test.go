package page_test

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"cloister/governance/ledger"
	"cloister/governance/remote"
	"cloister/governance/service"
	"cloister/governance/statement"
	"cloister/policy/spec"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// serveLedger serves the ledger itself, as cloister-ledger does.
func (s *site) serveLedger() string {
	h := service.New(service.Options{Logs: map[string]*ledger.Ledger{"study": s.ledger}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Rate: 10_000})
	server := httptest.NewServer(h)
	s.Cleanup(server.Close)
	return server.URL + "/study/page/#key=" + url.QueryEscape(s.key)
}

func (s *site) token(by string, life time.Duration) string {
	token, err := remote.ReadToken(s.key, s.keys[by], time.Now().Add(life))
	s.check(err)
	return token
}

// TestTheLedgersOwnPage: a contract proposed, amended and approved by two parties is
// read with a party's token and verified; a stranger's token shows nothing; and what
// is changed under the running server is shown as such.
func TestTheLedgersOwnPage(t *testing.T) {
	s := newSite(t)
	s.agreed()
	var err error
	s.keys["stranger"], err = statement.GenerateKey(statement.P256)
	s.check(err)
	page := s.serveLedger()
	v := visitWith(t, call{URL: page, Token: s.token("lab", time.Minute)}, call{URL: page, Token: s.token("hospital", time.Minute)},
		call{URL: page, Token: s.token("stranger", time.Minute)}, call{URL: page, Token: "nonsense"})
	for _, seen := range v[:2] {
		contains(t, "before the token", seen.Locked, "Read token", "for its parties", "Give a read token")
		if strings.Contains(seen.Locked, "hospital") {
			t.Errorf("shown before the token: %s", seen.Locked)
		}
		contains(t, "verdict", seen.Verdict, "This record holds.", "All 15 entries are in its tree")
		contains(t, "contract", seen.Contract, "hospital and lab agree that", "version 1", "amended", "version 2", "accepted")
		contains(t, "parties", seen.Parties, "approved", "execution granted", "logging withdrawn")
		if len(seen.Trail) != 15 {
			t.Errorf("%d entries in the trail", len(seen.Trail))
		}
	}
	contains(t, "a stranger", v[2].Verdict, "for its parties", "no party")
	contains(t, "nonsense", v[3].Verdict, "for its parties", "malformed")
	if len(v[2].Trail) > 0 || v[2].Contract != "" {
		t.Errorf("a stranger sees %v %s", v[2].Trail, v[2].Contract)
	}

	s.edit(func(l []string) []string { l[3] = flipSignature(l[3]); return l })(s.dir)
	tampered := visitWith(t, call{URL: page, Token: s.token("lab", time.Minute)})[0]
	contains(t, "verdict", tampered.Verdict, "This record does not hold.", "do not have the root", "Entry 3: its signature is wrong")
	kind, text := tampered.item(3)
	if contains(t, "entry 3", text, "not authentic"); kind != "is-bad" {
		t.Errorf("entry 3 is shown as %q", kind)
	}
}

// TestWitnessesAndSpecificationInTheBrowser: what the specification in the log says
// is said in words, and its witnesses' cosignatures are wanted.
func TestWitnessesAndSpecificationInTheBrowser(t *testing.T) {
	secret, public, err := note.GenerateKey(rand.Reader, "w.one")
	check(t, err)
	witness, err := fnote.VKeyToCosignatureV1(public)
	check(t, err)
	signer, err := fnote.NewSignerForCosignatureV1(secret)
	check(t, err)
	cosign := func(_ context.Context, signed []byte, _ func(context.Context, int64) (tlog.TreeProof, error)) ([]byte, error) {
		text, _, _ := strings.Cut(string(signed), "\n\n")
		cosigned, err := note.Sign(&note.Note{Text: text + "\n"}, signer)
		return append(signed, cosigned[len(text)+2:]...), err
	}
	sp := spec.Specification{APIVersion: spec.APIVersion, Name: "study", Application: spec.Application{Name: "count", Command: []string{"/bin/count", hostile}},
		Network:    spec.Network{Egress: spec.EgressList, Allow: []spec.Destination{{Host: "api.example", Port: 443}}},
		Governance: spec.Governance{Witnesses: []string{witness}}}
	canonical, err := sp.Canonical()
	check(t, err)
	with, without := newSite(t, ledger.WithCosign(cosign)), newSite(t)
	var urls []string
	for _, s := range []*site{with, without} {
		k, _ := s.contract(1)
		k.Specification = spec.DigestOf(canonical)
		s.say("hospital", 1, &statement.Propose{Contract: k, Specification: canonical})
		urls = append(urls, s.serve(func(string) {}))
	}
	v := visit(t, urls...)
	contains(t, "verdict", v[0].Verdict, "This record holds.", "1 of 1 witnesses cosigned")
	contains(t, "contract", v[0].Contract, "Not agreed yet.", "application count: /bin/count "+hostile, "may go to api.example, port 443", "nobody can call it")
	contains(t, "verdict", v[1].Verdict, "does not hold", "0 of the 1 witnesses cosigned the checkpoint, 1 must")
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
