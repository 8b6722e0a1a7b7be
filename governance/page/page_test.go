package page_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/page"
	"cloister/governance/statement"
	"cloister/governance/tiles"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hostile = `<img src=x onerror=alert(1)><script>alert(2)</script>"'&javascript:alert(3)`
)

// site is a ledger on files and who speaks in it.
type site struct {
	testing.TB
	dir, key string
	ledger   *ledger.Ledger
	keys     map[string]*statement.PrivateKey
	counter  uint64
	previous string
}

func newSite(t testing.TB, options ...ledger.Option) *site {
	s := &site{TB: t, dir: filepath.Join(t.TempDir(), "ledger"), keys: map[string]*statement.PrivateKey{}}
	var err error
	for name, algorithm := range map[string]statement.Algorithm{"hospital": statement.P256, "lab": statement.Ed25519, "run": statement.Ed25519} {
		s.keys[name], err = statement.GenerateKey(algorithm)
		s.check(err)
	}
	if s.key, err = ledger.Init(s.dir, "", s.keys["hospital"].Public().Fingerprint()); err == nil {
		s.ledger, err = ledger.Open(t.Context(), s.dir, options...)
	}
	s.check(err)
	t.Cleanup(func() { s.ledger.Close() })
	return s
}

func (s *site) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) contract(version uint64) (k statement.Contract, digest string) {
	k = statement.Contract{ContainerPolicy: digestA, ID: "study", KeyReleasePolicy: digestA, Specification: digestA, Version: version,
		Parties: []statement.Party{{Key: s.keys["hospital"].Public().SPKI(), Name: "hospital"}, {Key: s.keys["lab"].Public().SPKI(), Name: "lab"}},
		Volumes: []statement.Volume{{Kind: statement.SourceVolume, Name: "records", Owner: "hospital", Reference: fmt.Sprintf("cloister-v1.%s.%d", hostile, version)},
			{Kind: statement.SinkVolume, Name: "report", Owner: "lab", ID: strings.Repeat("0a", 16), KeyVersion: 1, Check: strings.Repeat("0b", 32), Recipients: []string{digestA}}}}
	digest, err := k.Digest()
	s.check(err)
	return k, digest
}

func (s *site) say(by string, version uint64, body statement.Body) {
	s.Helper()
	s.counter++
	s.append(by, version, s.counter, body)
}

func (s *site) append(by string, version, counter uint64, body statement.Body) {
	s.Helper()
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "study", Time: time.Now(), Version: version}, statement.Signature{Signer: s.keys[by], Counter: counter})
	s.check(err)
	_, err = s.ledger.Append(s.Context(), entry)
	s.check(err)
	s.previous = statement.EntryDigest(entry)
}

// rotate changes the lab's key, with the hospital's word for it.
func (s *site) rotate(version uint64) {
	s.Helper()
	next, err := statement.GenerateKey(statement.P256)
	s.check(err)
	s.keys["lab2"] = next
	var signatures []statement.Signature
	for _, name := range []string{"lab", "lab2", "hospital"} {
		s.counter++
		signatures = append(signatures, statement.Signature{Signer: s.keys[name], Counter: s.counter})
	}
	entry, err := statement.Sign(statement.Statement{Body: &statement.Rotate{Key: next.Public().SPKI(), Party: "lab"}, Contract: "study", Time: time.Now(), Version: version}, signatures...)
	s.check(err)
	_, err = s.ledger.Append(s.Context(), entry)
	s.check(err)
}

// agreed is a contract proposed, amended, approved and consented to by both,
// and one run of it, with words of a hostile party wherever words may be.
func (s *site) agreed() {
	first, _ := s.contract(1)
	second, digest := s.contract(2)
	s.say("hospital", 1, &statement.Propose{Contract: first})
	s.say("hospital", 2, &statement.Amend{Contract: second})
	for _, party := range []string{"lab", "hospital"} {
		s.say(party, 2, &statement.Approve{Digest: digest})
	}
	for _, party := range []string{"lab", "hospital"} {
		s.say(party, 2, &statement.ConsentGrant{Scopes: []string{statement.ScopeExecution}})
	}
	s.run(digest)
	s.say("lab", 2, &statement.ConsentWithdraw{Scopes: []string{statement.ScopeLogging}, Reason: hostile})
}

func (s *site) run(digest string) {
	checkpoint, err := s.ledger.Checkpoint(s.Context())
	s.check(err)
	c, err := governance.OpenCheckpoint(checkpoint, s.key)
	s.check(err)
	root := bytes.Clone(c.Root[:])
	head := func() statement.Run {
		return statement.Run{Checkpoint: statement.Checkpoint{Root: base64Of(root), Size: uint64(c.Size)}, ID: hex.EncodeToString(make([]byte, 16)), Previous: s.previous}
	}
	s.previous = ""
	evidence := statement.Evidence{Platform: "simulated", Report: []byte("report")}
	about, err := evidence.Digest()
	s.check(err)
	s.append("run", 2, 1, &statement.RunBegin{AuditKey: s.keys["run"].Public().SPKI(), ContractDigest: digest, Evidence: evidence, Run: head()})
	s.append("run", 2, 2, &statement.ConsentCheck{Evidence: about, Nonce: strings.Repeat("0c", 32), Run: head(), Scope: statement.ScopeExecution, What: hostile})
	s.append("run", 2, 3, &statement.RecordAccess{Name: hostile, Volume: hostile, Detail: hostile, Run: head(), What: statement.AccessData})
	s.append("run", 2, 4, &statement.RecordExecution{Application: hostile, Phase: statement.PhaseStart, Run: head()})
	exit := 0
	s.append("run", 2, 5, &statement.RecordExecution{Application: hostile, Phase: statement.PhaseEnd, Exit: &exit, Run: head()})
	job := statement.Job{ID: strings.Repeat("0d", 16), Party: "lab", Phase: statement.PhaseStart, Parameters: &statement.Handed{Digest: digestA, Size: 1}, Run: head()}
	s.append("run", 2, 6, &job)
	s.append("run", 2, 7, &statement.Job{ID: job.ID, Phase: statement.PhaseEnd, Exit: &exit, Detail: hostile, Run: head()})
	s.append("run", 2, 8, &statement.Completion{Complete: true, Run: head()})
}

func base64Of(raw []byte) string {
	text, _ := json.Marshal(raw)
	return strings.Trim(string(text), `"`)
}

// serve serves a copy of the ledger, changed.
func (s *site) serve(change func(dir string)) string {
	s.Helper()
	dir := filepath.Join(s.TempDir(), "copy")
	s.check(os.CopyFS(dir, os.DirFS(s.dir)))
	change(dir)
	server := httptest.NewServer(page.Local(tiles.NewReader(tiles.Dir(dir).Fetch)))
	s.Cleanup(server.Close)
	return server.URL + "/page/#key=" + url.QueryEscape(s.key)
}

// edit changes the entries in a ledger's only bundle.
func (s *site) edit(change func(entries []string) []string) func(dir string) {
	return func(dir string) {
		size := s.size()
		bundle, _ := tiles.At(tiles.Bundle, 0, size)
		path := filepath.Join(dir, tiles.TileDir, tiles.Path(bundle))
		raw, err := os.ReadFile(path)
		s.check(err)
		list, err := tiles.Split(raw)
		s.check(err)
		var entries []string
		for _, e := range list {
			entries = append(entries, string(e))
		}
		raw = nil
		for _, e := range change(entries) {
			raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(e))), e...)
		}
		s.check(os.WriteFile(path, raw, 0o644))
	}
}

func (s *site) size() int64 {
	signed, err := s.ledger.Checkpoint(s.Context())
	s.check(err)
	at, err := governance.OpenCheckpoint(signed, s.key)
	s.check(err)
	return at.Size
}

// call is a page to visit, the read token to give it, and what is done there.
type call struct {
	URL   string `json:"url"`
	Token string `json:"token,omitempty"`
	Steps []step `json:"steps,omitempty"`
}

// step is a click, or going to an entry; then focus is where Focus says, or other
// entries are shown.
type step struct {
	Click string `json:"click,omitempty"`
	Entry int    `json:"entry"`
	Focus string `json:"focus,omitempty"`
}

// stepped is what is shown after a step.
type stepped struct {
	Shown, First, Last, Active string
	Visible                    bool
	Marks, Disabled            []string
}

type seen struct {
	Locked, Before, Title, Status, Verdict, Kind, Contract, Parties, Runs string
	Trail                                                                 []struct{ ID, Kind, Text string }
	Foreign                                                               int
	Faults, Trouble                                                       []string
	Steps                                                                 []stepped
}

func (v seen) item(entry int) (kind, text string) {
	for _, e := range v.Trail {
		if e.ID == fmt.Sprint("entry-", entry) {
			return e.Kind, e.Text
		}
	}
	return "", ""
}

// visit looks at pages through Chromium.
func visit(t *testing.T, urls ...string) []seen {
	t.Helper()
	var calls []call
	for _, u := range urls {
		calls = append(calls, call{URL: u})
	}
	return visitWith(t, calls...)
}

func visitWith(t *testing.T, calls ...call) []seen {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Fatal("there is no chromium: make test-setup")
	}
	if _, err := os.Stat("../../internal/chromium/node_modules/playwright-core"); err != nil {
		t.Fatal("playwright-core is not installed: make test-setup")
	}
	shots := "-"
	if dir := os.Getenv("CLOISTER_SHOTS"); dir != "" {
		shots = dir
	}
	var stderr bytes.Buffer
	asked, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "../../internal/chromium/visit.mjs", shots)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(asked), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var list []seen
	for line := range bytes.Lines(out) {
		var v seen
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(v.Faults) > 0 || len(v.Trouble) > 0 || v.Foreign != 0 {
			t.Errorf("page %d: faults %q, trouble %q, %d foreign elements", len(list), v.Faults, v.Trouble, v.Foreign)
		}
		list = append(list, v)
	}
	if len(list) != len(calls) {
		t.Fatalf("%d pages seen of %d", len(list), len(calls))
	}
	return list
}

func contains(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s: no %q in\n%s", what, want, text)
		}
	}
}

func TestPageInABrowser(t *testing.T) {
	s := newSite(t)
	s.agreed()
	sound := s.serve(func(string) {})
	empty := newSite(t)
	rotated := newSite(t)
	rotated.agreed()
	rotated.say("lab", 2, &statement.ProvisionRequest{Volumes: []string{"records"}})
	rotated.rotate(2)
	rotated.say("lab2", 2, &statement.ConsentGrant{Scopes: []string{statement.ScopeLogging}})
	v := visit(t, sound,
		s.serve(s.edit(func(l []string) []string { l[3] = flipSignature(l[3]); return l })),
		s.serve(s.edit(func(l []string) []string { return append(append(l[:8:8], l[9:]...), l[8]) })),
		strings.Split(sound, "#")[0]+"#key="+url.QueryEscape(empty.key),
		strings.Split(sound, "#")[0]+"#key=nonsense",
		empty.serve(func(string) {}),
		rotated.serve(func(string) {}),
		rotated.serve(rotated.edit(func(l []string) []string { l[16] = flipAt(l[16], strings.LastIndex(l[16], `"sig":"`)); return l })))

	t.Run("sound", func(t *testing.T) {
		contains(t, "verdict", v[0].Verdict, "This record holds.", "All 15 entries are in its tree")
		contains(t, "status", v[0].Status, "version 2 accepted")
		contains(t, "contract", v[0].Contract, "hospital and lab agree that", "data records, of hospital", "output report, of lab", digestA)
		contains(t, "parties", v[0].Parties, "execution granted", "logging withdrawn")
		contains(t, "runs", v[0].Runs, "complete, exit code 0")
		contains(t, "evidence", v[0].Verdict, "The evidence of 1 run is not judged here: cloister audit verify --platform does.")
		if n := strings.Count(v[0].Parties, "approved"); n != 2 || v[0].Before != "" || len(v[0].Trail) != 15 {
			t.Errorf("%d approvals, %d entries, before the check %q", n, len(v[0].Trail), v[0].Before)
		}
		for i := range 15 {
			kind, text := v[0].item(i)
			if contains(t, fmt.Sprint("entry ", i), text, "verified"); kind != "is-good" {
				t.Errorf("entry %d is %q", i, kind)
			}
		}
		_, text := v[0].item(8)
		contains(t, "hostile words", text, "accesses data "+hostile)
		_, text = v[0].item(11)
		contains(t, "what a job was sent", text, "with parameters "+digestA+" of 1 byte, called by party lab")
		_, text = v[0].item(12)
		contains(t, "a job's end", text, "ended with exit code 0", hostile)
	})
	t.Run("changed entry", func(t *testing.T) {
		contains(t, "verdict", v[1].Verdict, "This record does not hold.", "do not have the root", "Entry 3: its signature is wrong")
		kind, text := v[1].item(3)
		if contains(t, "entry 3", text, "not authentic", "it was changed, or is forged"); kind != "is-bad" || v[1].Kind != "verdict bad" {
			t.Errorf("shown as %q, %q", kind, v[1].Kind)
		}
		contains(t, "status", v[1].Status, "version 2 proposed")
	})
	t.Run("moved entry", func(t *testing.T) {
		contains(t, "verdict", v[2].Verdict, "does not hold", "do not have the root", "the run’s records have a gap: 4 follows 2")
	})
	t.Run("another ledger's key", func(t *testing.T) {
		contains(t, "verdict", v[3].Verdict, "does not hold", "not signed with this ledger key")
		for _, e := range v[3].Trail {
			contains(t, e.ID, e.Text, "not verified")
		}
	})
	t.Run("no key", func(t *testing.T) {
		contains(t, "verdict", v[4].Verdict, "could not be checked", "not a ledger key")
	})
	t.Run("rotated key", func(t *testing.T) {
		contains(t, "verdict", v[6].Verdict, "This record holds.", "All 18 entries")
		_, text := v[6].item(17)
		contains(t, "what the new key says", text, "lab", "consents to logging", "verified")
	})
	t.Run("rotation that nobody vouched for", func(t *testing.T) {
		contains(t, "verdict", v[7].Verdict, "does not hold", "Entry 16: its signature is wrong", "Entry 17: its key is of no party")
		for entry, label := range map[int]string{16: "not authentic", 17: "not acceptable"} {
			_, text := v[7].item(entry)
			contains(t, fmt.Sprint("entry ", entry), text, label)
		}
	})
	t.Run("empty", func(t *testing.T) {
		contains(t, "verdict", v[5].Verdict, "This record holds.")
		contains(t, "contract", v[5].Contract, "Nothing has been proposed")
	})
}

// flipSignature changes one letter of an entry's signature.
func flipSignature(line string) string {
	return flipAt(line, strings.Index(line, `"sig":"`))
}

func flipAt(line string, member int) string {
	at := member + len(`"sig":"`) + 20
	letter := "A"
	if line[at] == 'A' {
		letter = "B"
	}
	return line[:at] + letter + line[at+1:]
}

func TestHandlerAllowsOnlyItsOwnFiles(t *testing.T) {
	server := httptest.NewServer(page.Handler())
	defer server.Close()
	for _, path := range []string{"/", "/page.js", "/bytes.js", "/log.js", "/statements.js", "/fold.js", "/record.js", "/words.js", "/style.css", "/icon.svg", "/nothing"} {
		res, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || (res.StatusCode == http.StatusOK) != (path != "/nothing") || !strings.HasPrefix(res.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';") ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v, %d, %v", path, err, res.StatusCode, res.Header)
		}
		for _, bad := range []string{"innerHTML", "http://", "https://", "eval(", "onclick", "<script>", "document.write"} {
			if text := strings.ReplaceAll(string(body), "http://www.w3.org/2000/svg", ""); strings.Contains(text, bad) {
				t.Errorf("%s contains %s", path, bad)
			}
		}
	}
	res, err := http.Post(server.URL, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Error(res.Status)
	}
}

func TestOnlyBundlesOfTheLogAreServed(t *testing.T) {
	s := newSite(t)
	s.agreed()
	address, _, _ := strings.Cut(s.serve(func(string) {}), "page/")
	for path, want := range map[string]int{"checkpoint": 200, "tile/entries/000.p/15": 200, "tile/entries/000.p/7": 200, "tile/entries/001": 500,
		"tile/entries/0": 404, "tile/entries/000.p/0": 404, "tile/entries/000.p/256": 404, "tile/entries/x000/001": 404, "tile/entries/..%2f000": 404, "tile/0/000": 404} {
		res, err := http.Get(address + path)
		s.check(err)
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		s.check(err)
		if res.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, res.Status, want)
		}
		if n, isBundle := strings.CutPrefix(path, "tile/entries/000.p/"); isBundle && want == 200 {
			if list, err := tiles.Split(raw); err != nil || fmt.Sprint(len(list)) != n {
				t.Errorf("%s: %d entries, %v", path, len(list), err)
			}
		}
	}
}
