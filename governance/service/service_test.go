package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/remote"
	"cloister/governance/service"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// party signs statements of the one party of contract "trial".
type party struct {
	t        testing.TB
	key      *statement.PrivateKey
	counter  uint64
	contract statement.Contract
	// specification comes with the proposal; nil for none.
	specification []byte
}

func newParty(t testing.TB) *party {
	key, err := statement.GenerateKey(statement.P256)
	check(t, err)
	return &party{t: t, key: key, contract: statement.Contract{
		ContainerPolicy: digestA, ID: "trial", KeyReleasePolicy: digestA, Specification: digestA, Version: 1,
		Parties: []statement.Party{{Key: key.Public().SPKI(), Name: "alice"}}}}
}

func (p *party) sign(when time.Time, body statement.Body) []byte {
	p.counter++
	entry, err := statement.Sign(statement.Statement{Body: body, Contract: "trial", Time: when, Version: 1},
		statement.Signature{Signer: p.key, Counter: p.counter})
	check(p.t, err)
	return entry
}

func (p *party) propose() []byte {
	return p.sign(time.Now(), &statement.Propose{Contract: p.contract, Specification: p.specification})
}

func (p *party) approve() []byte {
	digest, err := p.contract.Digest()
	check(p.t, err)
	return p.sign(time.Now(), &statement.Approve{Digest: digest})
}

func (p *party) grant() []byte {
	return p.sign(time.Now(), &statement.ConsentGrant{Scopes: []string{"execution"}})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is a service of one log, and its party.
type served struct {
	*party
	ledger *ledger.Ledger
	server *httptest.Server
}

func serve(t *testing.T, change func(*service.Options, *http.Server)) *served {
	t.Helper()
	p := newParty(t)
	dir := filepath.Join(t.TempDir(), "trial")
	_, err := ledger.Init(dir, "", p.key.Public().Fingerprint())
	check(t, err)
	l, err := ledger.Open(t.Context(), dir)
	check(t, err)
	t.Cleanup(l.Close)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	o := service.Options{Logs: map[string]*ledger.Ledger{"trial": l}, Log: log, Rate: 10_000}
	config := &http.Server{}
	if change != nil {
		change(&o, config)
	}
	s := httptest.NewUnstartedServer(documented(t, service.New(o)))
	s.Config.ReadTimeout = config.ReadTimeout
	s.Start()
	t.Cleanup(s.Close)
	return &served{p, l, s}
}

func (s *served) log(t *testing.T, signer statement.Signer) *remote.Log {
	t.Helper()
	l, err := remote.New(remote.Options{URL: s.server.URL + "/trial", Signer: signer})
	check(t, err)
	return l
}

// documented holds every answer to openapi.json: its path, method, status and media
// type are there, and JSON is of the schema.
func documented(t *testing.T, h http.Handler) http.Handler {
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	check(t, json.Unmarshal(service.OpenAPI, &doc))
	compiler := jsonschema.NewCompiler()
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(service.OpenAPI))
	check(t, err)
	check(t, compiler.AddResource("openapi.json", whole))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		path := template(r.URL.Path)
		method := strings.ToLower(r.Method)
		if (path == "/{log}/entries" || path == "/{log}/readers") && r.Method != http.MethodPost {
			method = "post" // which documents that there is nothing else
		}
		var operation struct {
			Responses map[string]struct{ Content map[string]any }
		}
		if raw := doc.Paths[path][method]; raw == nil {
			if answer.Code != http.StatusNotFound && answer.Code != http.StatusTooManyRequests {
				t.Errorf("%s %s: not in openapi.json, answered with %d", r.Method, r.URL.Path, answer.Code)
			}
		} else {
			check(t, json.Unmarshal(raw, &operation))
			media := answer.Header().Get("Content-Type")
			code := http.StatusText(answer.Code)
			response, ok := operation.Responses[itoa(answer.Code)]
			if _, said := response.Content[media]; !ok || !said {
				t.Errorf("%s %s: %s as %q is not in openapi.json", r.Method, r.URL.Path, code, media)
			}
			if strings.HasSuffix(media, "json") {
				at := "openapi.json#/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(path) + "/" + method + "/responses/" + itoa(answer.Code) +
					"/content/" + strings.ReplaceAll(media, "/", "~1") + "/schema"
				schema, err := compiler.Compile(strings.NewReplacer("{", "%7B", "}", "%7D", "+", "+").Replace(at))
				check(t, err)
				value, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer.Body.Bytes()))
				check(t, err)
				if err := schema.Validate(value); err != nil {
					t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
				}
			}
		}
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

func itoa(n int) string { raw, _ := json.Marshal(n); return string(raw) }

func template(path string) string {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 3)
	switch {
	case len(parts) == 1:
		return path
	case len(parts) == 3 && parts[1] == "tile":
		return "/{log}/tile/{path}"
	case len(parts) == 3 && parts[1] == "page":
		return "/{log}/page/{file}"
	default:
		return "/{log}/" + strings.Join(parts[1:], "/")
	}
}

// TestALogBehindHTTPIsALog: a party proposes, approves and grants, a run appends
// several at once, and what is read back proves itself.
func TestALogBehindHTTPIsALog(t *testing.T) {
	s := serve(t, func(o *service.Options, _ *http.Server) { o.Evidence = asTold })
	log := s.log(t, s.key)
	for i, e := range [][]byte{s.propose(), s.approve(), s.grant()} {
		receipt, err := log.Append(t.Context(), e)
		if err != nil || receipt.Index != int64(i) || receipt.Count != 1 {
			t.Fatalf("entry %d: %+v, %v", i, receipt, err)
		}
	}
	key, err := log.Key(t.Context())
	if err != nil || key != s.ledger.Key() {
		t.Fatalf("%q, %v", key, err)
	}
	trust := governance.Trust{Ledger: key, Specification: digestA, ContainerPolicy: digestA, Parties: []string{s.key.Public().Fingerprint()}}
	run, err := governance.Begin(t.Context(), log, trust, func(_ context.Context, _ governance.Binding) (statement.Evidence, []byte, error) {
		return statement.Evidence{Platform: "simulated", Report: []byte("report of " + digestA)}, []byte("tls key"), nil
	})
	check(t, err)
	n, err := run.Record(t.Context(), governance.Event{Kind: governance.EventRefusal, Name: "step", Detail: "why"},
		governance.Event{Kind: governance.EventExecution, Name: "application"})
	if n != 1 || governance.ReasonOf(err) != governance.NoConsent {
		t.Errorf("%d records, %v", n, err)
	}
	view := governance.NewView(key)
	check(t, view.AdvanceToNewest(t.Context(), log, nil))
	c, _ := view.Checkpoint()
	hashes, err := log.Hashes(t.Context(), c, 3, 0)
	if err != nil || len(hashes) != 2 || c.Size != 5 {
		t.Errorf("%d entries, %v, %v", c.Size, hashes, err)
	}
}

// TestOnlyPartiesRead: and what is not a signature of now, for this, is refused.
func TestOnlyPartiesRead(t *testing.T) {
	s := serve(t, nil)
	if _, err := s.ledger.Append(t.Context(), s.propose()); err != nil {
		t.Fatal(err)
	}
	stranger := newParty(t)
	url := s.server.URL + "/trial/tile/entries/000.p/1"
	now := time.Now()
	for name, tc := range map[string]struct {
		sign func(r *http.Request) error
		want int
		said string
	}{
		"the party":   {func(r *http.Request) error { return remote.Sign(r, nil, s.key, now) }, 200, ""},
		"nobody":      {func(*http.Request) error { return nil }, 401, "not signed"},
		"a stranger":  {func(r *http.Request) error { return remote.Sign(r, nil, stranger.key, now) }, 403, "not-a-party"},
		"an hour ago": {func(r *http.Request) error { return remote.Sign(r, nil, s.key, now.Add(-time.Hour)) }, 401, "set the clock"},
		"another path": {func(r *http.Request) error {
			o := r.Clone(r.Context())
			o.URL.Path = "/other"
			err := remote.Sign(o, nil, s.key, now)
			r.Header = o.Header
			return err
		}, 401, "not by key"},
		"another host": {func(r *http.Request) error {
			o := r.Clone(r.Context())
			o.Host = "other"
			err := remote.Sign(o, nil, s.key, now)
			r.Header = o.Header
			return err
		}, 401, "not by key"},
		"another method": {func(r *http.Request) error {
			o := r.Clone(r.Context())
			o.Method = "HEAD"
			err := remote.Sign(o, nil, s.key, now)
			r.Header = o.Header
			return err
		}, 401, "not by key"},
		"no signature": {func(r *http.Request) error { r.Header.Set("Authorization", "Basic x"); return nil }, 401, "not in the form"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		check(t, err)
		check(t, tc.sign(r))
		if code, body := do(t, r); code != tc.want || !strings.Contains(body, tc.said) {
			t.Errorf("%s: %d %s, want %d with %q", name, code, body, tc.want, tc.said)
		}
	}
}

func do(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	check(t, err)
	return answer.StatusCode, string(raw)
}

// TestBadInputAppendsNothing: each is answered precisely.
func TestBadInputAppendsNothing(t *testing.T) {
	s := serve(t, nil)
	eve := newParty(t)
	if _, err := s.log(t, nil).Append(t.Context(), eve.propose()); governance.ReasonOf(err) != governance.NotAParty {
		t.Errorf("a proposal by whom the log is not for: %v", err)
	}
	proposal := s.propose()
	if _, err := s.ledger.Append(t.Context(), proposal); err != nil {
		t.Fatal(err)
	}
	before, err := s.ledger.Checkpoint(t.Context())
	check(t, err)
	list := func(entries ...[]byte) string {
		return "[" + string(bytes.Join(entries, []byte(","))) + "]"
	}
	const js = "application/json"
	for name, tc := range map[string]struct {
		method, path, media, body string
		want                      int
		said                      string
	}{
		"no list":        {"POST", "/trial/entries", js, "{", 400, "malformed"},
		"no statement":   {"POST", "/trial/entries", js, `[{"a":1}]`, 400, "malformed"},
		"none":           {"POST", "/trial/entries", js, `[]`, 400, "0 entries"},
		"too many":       {"POST", "/trial/entries", js, list(slices.Repeat([][]byte{[]byte("{}")}, 65)...), 400, "65 entries"},
		"media type":     {"POST", "/trial/entries", "text/plain", "[]", 415, js},
		"oversize entry": {"POST", "/trial/entries", js, `["` + strings.Repeat("x", statement.MaxEntry) + `"]`, 400, "at most 65535"},
		"oversize body":  {"POST", "/trial/entries", js, `["` + strings.Repeat("x", 65*65536) + `"]`, 413, "more than"},
		"replayed":       {"POST", "/trial/entries", js, list(proposal), 409, "wrong-state"},
		"not a party":    {"POST", "/trial/entries", js, list(eve.approve()), 403, "not-a-party"},
		"clock far off":  {"POST", "/trial/entries", js, list(s.sign(time.Now().Add(time.Hour), &statement.Withdraw{})), 422, "clock-far-off"},
		"method":         {"PUT", "/trial/entries", js, "[]", 405, "use POST"},
		"no such log":    {"GET", "/other/checkpoint", "", "", 404, "no /other/checkpoint"},
		"no such path":   {"GET", "/trial/nothing", "", "", 404, "no /trial/nothing"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, s.server.URL+tc.path, strings.NewReader(tc.body))
		check(t, err)
		r.Header.Set("Content-Type", tc.media)
		if code, body := do(t, r); code != tc.want || !strings.Contains(body, tc.said) {
			t.Errorf("%s: %d %.300s, want %d with %q", name, code, body, tc.want, tc.said)
		}
	}
	after, err := s.ledger.Checkpoint(t.Context())
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("something was appended: %s (%v)", after, err)
	}
}

// TestSlowClientIsCutOff: a body that does not come is not waited for.
func TestSlowClientIsCutOff(t *testing.T) {
	s := serve(t, func(_ *service.Options, server *http.Server) { server.ReadTimeout = 200 * time.Millisecond })
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /trial/entries HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[")
	check(t, err)
	raw, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(raw), "HTTP/1.1 408 ") {
		t.Errorf("%s (%v)", raw, err)
	}
}

// TestTooManyRequests: an address has so many, and the client says what it is.
func TestTooManyRequests(t *testing.T) {
	s := serve(t, func(o *service.Options, _ *http.Server) { o.Rate = 3 })
	log := s.log(t, s.key)
	var err error
	for range 4 {
		_, err = log.Checkpoint(t.Context())
	}
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "more than 3 requests a second") {
		t.Errorf("got %v", err)
	}
}

// TestRefusedIsKeptWhereTheContractSaysSo: what parties signed, in words and as it
// was signed; for parties alone; and nothing of strangers.
func TestRefusedIsKeptWhereTheContractSaysSo(t *testing.T) {
	for _, kept := range []bool{false, true} {
		s := serve(t, nil)
		s.contract.Specification, s.specification = specification(t, kept)
		for _, e := range [][]byte{s.propose(), s.approve()} {
			_, err := s.ledger.Append(t.Context(), e)
			check(t, err)
		}
		again, stranger := s.approve(), newParty(t).grant()
		broken := bytes.Replace(s.grant(), []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
		for _, e := range [][]byte{again, stranger, broken} {
			if _, err := s.log(t, nil).Append(t.Context(), e); governance.ReasonOf(err) == "" {
				t.Errorf("not refused: %v", err)
			}
		}
		if _, err := s.log(t, newParty(t).key).Refused(t.Context()); governance.ReasonOf(err) != governance.NotAParty {
			t.Errorf("read by a stranger: %v", err)
		}
		list, err := s.log(t, s.key).Refused(t.Context())
		check(t, err)
		switch {
		case !kept && len(list) != 0:
			t.Errorf("kept although the contract does not say so: %+v", list)
		case kept && (len(list) != 1 || list[0].Reason != governance.WrongState || !bytes.Equal(list[0].Statement, again)):
			t.Errorf("kept: %+v", list)
		}
	}
}

// specification is one in canonical form, which says whether to keep what is refused.
func specification(t *testing.T, kept bool) (digest string, canonical []byte) {
	t.Helper()
	var g spec.Governance
	if kept {
		g.Refused = spec.RefusedKept
	}
	canonical, err := spec.Specification{Governance: g}.Canonical()
	check(t, err)
	return spec.DigestOf(canonical), canonical
}
