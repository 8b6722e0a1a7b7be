package governance

import (
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/governance/statement"

	"pgregory.net/rapid"
)

// The reference: the contract's rules again, on plain values, as somebody would
// write them down who knows of no signatures, encodings or logs. The test plays
// random acts of three parties and an outsider against both.
type reference struct {
	status   Status
	version  int
	members  []string
	owner    string // of the one volume, which nobody changes
	approved []string
	consent  map[string]refConsent // by scope and name
	runs     map[int]*refRun
	latest   time.Time
	rotated  map[string]bool // who has another key than in the beginning
	vouch    []string        // who may vouch for another's rotation
}

type refConsent struct {
	until time.Time
	runs  int
	used  []int
}

type refRun struct {
	version int
	asked   map[string]bool // by scope: the newest answer
	over    bool
}

func (m *reference) member(who string) bool { return slices.Contains(m.members, who) }

func (m *reference) open() bool { return m.status != Draft && m.status != Withdrawn }

func (m *reference) newVersion(version int, members []string) {
	m.status, m.version, m.members = Proposed, version, members
	m.approved, m.consent = nil, map[string]refConsent{}
}

func (m *reference) propose(who string, members []string) bool {
	if m.status != Draft || !slices.Contains(members, who) {
		return false
	}
	m.newVersion(1, members)
	m.owner, m.vouch = members[0], members
	return true
}

// amend may name the keys that the members had in the beginning. Who comes in by
// it has no key but his newest.
func (m *reference) amend(who string, version int, members []string, firstKeys bool) bool {
	if !m.open() || !m.member(who) || version != m.version+1 || !slices.Contains(members, who) || !slices.Contains(members, m.owner) {
		return false
	}
	for _, name := range members {
		if firstKeys && m.rotated[name] && !m.member(name) {
			return false
		}
	}
	m.newVersion(version, members)
	return true
}

func (m *reference) approve(who string, version int, same bool) bool {
	if m.status != Proposed || !m.member(who) || version != m.version || !same || slices.Contains(m.approved, who) {
		return false
	}
	m.approved = append(m.approved, who)
	if len(m.approved) == len(m.members) {
		m.status, m.vouch = Accepted, m.members
	}
	return true
}

func (m *reference) rotate(who, by string, version int, fresh bool) bool {
	vouched := by == "alice-recovery" && who == "alice" || by != who && m.member(by) && slices.Contains(m.vouch, by)
	if !m.open() || !m.member(who) || version != m.version || !vouched || !fresh {
		return false
	}
	m.rotated[who] = true
	return true
}

func (m *reference) reject(who string, version int, same bool) bool {
	if m.status != Proposed || !m.member(who) || version != m.version || !same {
		return false
	}
	m.status = Rejected
	return true
}

func (m *reference) withdraw(who string, version int) bool {
	if !m.open() || !m.member(who) || version != m.version {
		return false
	}
	m.status = Withdrawn
	return true
}

func (m *reference) grant(who string, version int, scopes []string, until time.Time, runs int) bool {
	if m.status != Accepted || !m.member(who) || version != m.version {
		return false
	}
	for _, scope := range scopes {
		m.consent[scope+who] = refConsent{until: until, runs: runs}
	}
	return true
}

func (m *reference) revoke(who string, version int, scopes []string) bool {
	if !m.open() || !m.member(who) || version != m.version {
		return false
	}
	for _, scope := range scopes {
		delete(m.consent, scope+who)
	}
	return true
}

func (m *reference) begin(id, version int, same bool) bool {
	if m.status != Accepted || version != m.version || !same || m.runs[id] != nil {
		return false
	}
	m.runs[id] = &refRun{version: version, asked: map[string]bool{}}
	return true
}

func (m *reference) may(id int, scope string, now time.Time) bool {
	if now.Before(m.latest) {
		now = m.latest
	}
	if m.status != Accepted || m.runs[id].version != m.version {
		return false
	}
	for _, who := range m.members {
		c, ok := m.consent[scope+who]
		if !ok || !c.until.IsZero() && !c.until.After(now) {
			return false
		}
		if c.runs != 0 && len(c.used) >= c.runs && !slices.Contains(c.used, id) {
			return false
		}
	}
	return true
}

func (m *reference) check(id int, scope string, now time.Time) bool {
	r := m.runs[id]
	if r == nil || r.over {
		return false
	}
	r.asked[scope] = m.may(id, scope, now)
	if !r.asked[scope] {
		return true
	}
	for _, who := range m.members {
		if c := m.consent[scope+who]; !slices.Contains(c.used, id) {
			c.used = append(c.used, id)
			m.consent[scope+who] = c
		}
	}
	return true
}

func (m *reference) access(id int, now time.Time) bool {
	r := m.runs[id]
	return r != nil && !r.over && r.asked[statement.ScopeExecution] && m.may(id, statement.ScopeExecution, now)
}

func (m *reference) complete(id int) bool {
	r := m.runs[id]
	if r == nil || r.over {
		return false
	}
	r.over = true
	return true
}

// play joins the reference with the fold.
type play struct {
	*rapid.T
	w        *world
	ref      reference
	state    State
	index    int64
	past     [][]byte                         // accepted entries, to be replayed
	first    map[string]*statement.PrivateKey // the keys that parties had in the beginning
	retired  []*statement.PrivateKey
	contract map[int]statement.Contract // by version
	runs     map[int]*playRun
	reached  map[string]int // how often acts were accepted, over all plays
}

type playRun struct {
	counter  uint64
	previous string
	version  uint64
}

// act gives an entry to the fold and compares with what the reference said.
func (p *play) act(what string, want bool, entry []byte) {
	p.Helper()
	_, err := p.state.Apply(p.index, entry)
	if (err == nil) != want {
		p.Fatalf("%s: the reference says %v, the fold %v", what, want, err)
	}
	if err == nil {
		p.index++
		p.reached[strings.Fields(what)[0]]++
		p.past = append(p.past, entry)
		if p.w.now.After(p.ref.latest) {
			p.ref.latest = statement.NewTime(p.w.now).Time
		}
	}
	approved := slices.Sorted(slices.Values(p.ref.approved))
	if p.state.Status() != p.ref.status || !slices.Equal(p.state.Approved(), approved) {
		p.Fatalf("after %s: fold %s %v, reference %s %v", what, p.state.Status(), p.state.Approved(), p.ref.status, approved)
	}
}

func (p *play) who() string {
	return rapid.SampledFrom([]string{"alice", "bob", "carol", "eve"}).Draw(p.T, "who")
}

// version is mostly the newest.
func (p *play) version() int {
	return max(1, p.ref.version+rapid.SampledFrom([]int{0, 0, 0, 0, 0, -1, 1}).Draw(p.T, "version"))
}

func (p *play) members() []string {
	return rapid.SampledFrom([][]string{{"alice", "bob"}, {"alice", "bob", "carol"}, {"alice"}, {"bob", "carol"}}).Draw(p.T, "members")
}

// digest is mostly that of the newest version.
func (p *play) digest() (string, bool) {
	if k, ok := p.contract[p.ref.version]; ok && rapid.IntRange(0, 5).Draw(p.T, "same") > 0 {
		return p.w.digest(k), true
	}
	return digestB, false
}

// terms is a contract in which alice has a recovery key.
func (p *play) terms(version int, members []string, firstKeys bool) statement.Contract {
	k := p.w.contract(uint64(version), members...)
	for i, party := range k.Parties {
		if firstKeys {
			k.Parties[i].Key = p.first[party.Name].Public().SPKI()
		}
		if party.Name == "alice" {
			k.Parties[i].Recovery = p.w.keys["alice-recovery"].Public().SPKI()
		}
	}
	return k
}

// rotate is mostly signed as it must be.
func (p *play) rotate(t *rapid.T) {
	who, version := p.who(), p.version()
	by := rapid.SampledFrom([]string{"alice-recovery", "alice", "bob", "carol", "eve"}).Draw(t, "voucher")
	next, fresh := p.newKey(), true
	if rapid.IntRange(0, 4).Draw(t, "used key") == 0 && len(p.retired) > 0 {
		next, fresh = p.retired[0], false
	}
	var signers []statement.Signature
	for _, key := range []*statement.PrivateKey{p.w.keys[who], next, p.w.keys[by]} {
		p.w.counter++
		if !slices.ContainsFunc(signers, func(s statement.Signature) bool { return s.Signer == key }) {
			signers = append(signers, statement.Signature{Signer: key, Counter: p.w.counter})
		}
	}
	missing := rapid.IntRange(0, 11).Draw(t, "missing")
	if missing < len(signers) {
		signers = slices.Delete(signers, missing, missing+1)
	}
	entry, err := statement.Sign(statement.Statement{Body: &statement.Rotate{Key: next.Public().SPKI(), Party: who}, Contract: "trial", Time: p.w.now, Version: uint64(version)}, signers...)
	if err != nil {
		p.Fatalf("%v", err)
	}
	want := len(signers) == 3 && p.ref.rotate(who, by, version, fresh)
	p.act("rotate by "+who, want, entry)
	if want {
		p.retired = append(p.retired, p.w.keys[who])
		p.w.keys[who] = next
	}
}

func (p *play) newKey() *statement.PrivateKey {
	key, err := statement.GenerateKey(statement.Ed25519)
	if err != nil {
		p.Fatalf("%v", err)
	}
	return key
}

// stolen has a key speak that its party replaced.
func (p *play) stolen(t *rapid.T) {
	if len(p.retired) == 0 {
		return
	}
	p.w.counter++
	entry, err := statement.Sign(statement.Statement{Body: &statement.Withdraw{}, Contract: "trial", Time: p.w.now, Version: uint64(max(1, p.ref.version))},
		statement.Signature{Signer: rapid.SampledFrom(p.retired).Draw(t, "key"), Counter: p.w.counter})
	if err != nil {
		p.Fatalf("%v", err)
	}
	p.act("withdraw by a retired key", false, entry)
}

func (p *play) scopes() []string {
	return rapid.SampledFrom([][]string{execution(), execution(), {statement.ScopeLogging}, {statement.ScopeExecution, statement.ScopeTelemetry}}).Draw(p.T, "scopes")
}

func (p *play) propose(*rapid.T) {
	who, members := p.who(), p.members()
	k := p.terms(1, members, false)
	want := p.ref.propose(who, members)
	if want {
		p.contract[1] = k
	}
	p.act("propose by "+who, want, p.w.by(who, 1, &statement.Propose{Contract: k}))
}

func (p *play) amend(*rapid.T) {
	who, members := p.who(), p.members()
	version := max(1, p.ref.version+rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(p.T, "version"))
	firstKeys := rapid.IntRange(0, 3).Draw(p.T, "first keys") == 0
	k := p.terms(version, members, firstKeys)
	if k.Volumes = p.contract[p.ref.version].Volumes; !slices.Contains(members, p.ref.owner) {
		k.Volumes = nil // a volume without its owner is no contract at all
	}
	want := p.ref.amend(who, version, members, firstKeys)
	if want {
		p.contract[version] = k
	}
	p.act("amend by "+who, want, p.w.by(who, uint64(version), &statement.Amend{Contract: k}))
}

func (p *play) approve(*rapid.T) {
	who, version := p.who(), p.version()
	digest, same := p.digest()
	p.act("approve by "+who, p.ref.approve(who, version, same), p.w.by(who, uint64(version), &statement.Approve{Digest: digest}))
}

func (p *play) reject(*rapid.T) {
	who, version := p.who(), p.version()
	digest, same := p.digest()
	p.act("reject by "+who, p.ref.reject(who, version, same), p.w.by(who, uint64(version), &statement.Reject{Digest: digest}))
}

func (p *play) withdraw(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "rare") > 0 {
		return
	}
	who, version := p.who(), p.version()
	p.act("withdraw by "+who, p.ref.withdraw(who, version), p.w.by(who, uint64(version), &statement.Withdraw{}))
}

func (p *play) grant(*rapid.T) {
	who, version := p.who(), p.version()
	grant := &statement.ConsentGrant{Scopes: p.scopes(), Runs: uint64(rapid.IntRange(0, 2).Draw(p.T, "runs"))}
	var until time.Time
	if rapid.Bool().Draw(p.T, "expires") {
		until = statement.NewTime(p.w.now.Add(time.Duration(rapid.IntRange(-5, 40).Draw(p.T, "seconds")) * time.Second)).Time
		grant.Expires = &statement.Time{Time: until}
	}
	p.act("grant by "+who, p.ref.grant(who, version, grant.Scopes, until, int(grant.Runs)), p.w.by(who, uint64(version), grant))
}

func (p *play) revoke(*rapid.T) {
	who, version, scopes := p.who(), p.version(), p.scopes()
	p.act("revoke by "+who, p.ref.revoke(who, version, scopes), p.w.by(who, uint64(version), &statement.ConsentWithdraw{Scopes: scopes}))
}

// agree takes the straight road to consent by all, so that runs have a chance.
func (p *play) agree(*rapid.T) {
	k, ok := p.contract[p.ref.version]
	if !ok {
		return
	}
	for _, who := range p.ref.members {
		p.act("approve by "+who, p.ref.approve(who, p.ref.version, true), p.w.by(who, uint64(p.ref.version), &statement.Approve{Digest: p.w.digest(k)}))
	}
	for _, who := range p.ref.members {
		p.act("grant by "+who, p.ref.grant(who, p.ref.version, execution(), time.Time{}, 0), p.w.by(who, uint64(p.ref.version), &statement.ConsentGrant{Scopes: execution()}))
	}
}

func (p *play) tick(t *rapid.T) {
	// The clock also goes backwards: the host has it.
	p.w.now = p.w.now.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "seconds")) * time.Second)
}

func (p *play) replay(t *rapid.T) {
	if len(p.past) > 0 {
		p.act("replay", false, rapid.SampledFrom(p.past).Draw(t, "entry"))
	}
}

// answerTo is the answer to a run's newest question; the zero Answer where it has
// asked none.
func (s *State) answerTo(id, scope string) Answer {
	r, _ := s.run(id)
	a, _ := r.answer(scope)
	return a
}

func testRunID(i int) string { return hex.EncodeToString(append(make([]byte, 15), byte(i))) }

// restart goes on with what a snapshot of the fold is restored to.
func (p *play) restart(*rapid.T) { p.state = restored(p.T, &p.state) }

func (p *play) begin(*rapid.T) {
	i, version := rapid.IntRange(0, 3).Draw(p.T, "run"), p.version()
	digest, same := p.digest()
	name := fmt.Sprint("run", i)
	entry := p.w.begin(name, testRunID(i), uint64(version), 1, digest)
	want := p.ref.begin(i, version, same)
	if want {
		p.runs[i] = &playRun{1, statement.EntryDigest(entry), uint64(version)}
	}
	p.act("begin of "+name, want, entry)
}

// record makes the next record of a run, if there is one with that number.
func (p *play) record(what string, want func(int, time.Time) bool, body func(statement.Run) statement.Body) {
	i := rapid.IntRange(0, 3).Draw(p.T, "run")
	r := p.runs[i]
	if r == nil {
		r = &playRun{1, digestA, 1}
	}
	entry := p.w.sign(fmt.Sprint("run", i), r.version, r.counter+1, body(runHead(testRunID(i), r.previous)))
	ok := want(i, statement.NewTime(p.w.now).Time)
	if ok {
		r.counter, r.previous = r.counter+1, statement.EntryDigest(entry)
	}
	p.act(fmt.Sprint(what, " by run ", i), ok, entry)
	if ref := p.ref.runs[i]; ref != nil {
		for scope, yes := range ref.asked {
			if got := p.state.answerTo(testRunID(i), scope); got.Allowed != yes || yes != (got.Reason == "") {
				p.Fatalf("run %d, %s: the fold's answer is %+v, the reference's %v", i, scope, got, yes)
			}
		}
	}
}

func (p *play) check(*rapid.T) {
	evidence, _ := testEvidence().Digest()
	scope := rapid.SampledFrom([]string{statement.ScopeExecution, statement.ScopeExecution, statement.ScopeLogging, statement.ScopeTelemetry}).Draw(p.T, "scope")
	p.record("check", func(i int, now time.Time) bool { return p.ref.check(i, scope, now) }, func(head statement.Run) statement.Body {
		return &statement.ConsentCheck{Evidence: evidence, Nonce: testRunID(1) + testRunID(2), Run: head, Scope: scope}
	})
}

func (p *play) access(*rapid.T) {
	p.record("access", p.ref.access, func(head statement.Run) statement.Body {
		return &statement.RecordAccess{Name: "n", Run: head, What: statement.AccessData}
	})
}

func (p *play) complete(*rapid.T) {
	p.record("completion", func(i int, _ time.Time) bool { return p.ref.complete(i) }, func(head statement.Run) statement.Body {
		return &statement.Completion{Run: head}
	})
}

func TestFoldAgreesWithTheReference(t *testing.T) {
	shared := newWorld(t, "alice", "alice-recovery", "bob", "carol", "eve", "run0", "run1", "run2", "run3")
	// Thirty acts, the default, seldom get as far as a run.
	if err := flag.Set("rapid.steps", "120"); err != nil {
		t.Fatal(err)
	}
	reached := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{failer: rt, keys: maps.Clone(shared.keys), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		p := &play{T: rt, w: w, ref: reference{status: Draft, consent: map[string]refConsent{}, runs: map[int]*refRun{}, rotated: map[string]bool{}}, first: shared.keys,
			contract: map[int]statement.Contract{}, runs: map[int]*playRun{}, reached: reached}
		rt.Repeat(map[string]func(*rapid.T){
			"propose": p.propose, "amend": p.amend, "approve": p.approve, "reject": p.reject, "withdraw": p.withdraw,
			"grant": p.grant, "revoke": p.revoke, "agree": p.agree, "agree again": p.agree, "tick": p.tick, "replay": p.replay, "restart": p.restart,
			"rotate": p.rotate, "rotate again": p.rotate, "stolen": p.stolen,
			"begin": p.begin, "begin again": p.begin, "check": p.check, "check again": p.check, "access": p.access,
			"access again": p.access, "complete": p.complete,
		})
	})
	for _, act := range strings.Fields("propose amend approve reject withdraw rotate grant revoke begin check access completion") {
		if reached[act] == 0 {
			t.Errorf("no play had %q accepted: the test looks at too little: %v", act, reached)
		}
	}
}
