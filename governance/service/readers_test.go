package service_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/remote"
	"cloister/governance/service"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// asTold judges evidence by the policy that its report says it is of. What judges
// a real report is package evidence's.
func asTold(begin *statement.RunBegin, contract statement.Contract) error {
	if of := strings.TrimPrefix(string(begin.Evidence.Report), "report of "); of != contract.ContainerPolicy {
		return fault.Errorf(fault.Refused, "x", "HOST_DATA is %s", of)
	}
	return nil
}

// agreed is a service of a log whose contract is accepted.
func agreed(t *testing.T) *served {
	t.Helper()
	s := serve(t, func(o *service.Options, _ *http.Server) { o.Evidence = asTold })
	for _, e := range [][]byte{s.propose(), s.approve(), s.grant()} {
		if _, err := s.ledger.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func reportOf(policy string) governance.Attest {
	return func(context.Context, governance.Binding) (statement.Evidence, []byte, error) {
		return statement.Evidence{Platform: "simulated", Report: []byte("report of " + policy)}, []byte("tls key"), nil
	}
}

func readAll(t *testing.T, s *served, log governance.Source) error {
	t.Helper()
	return governance.NewView(s.ledger.Key()).AdvanceToNewest(t.Context(), log, nil)
}

// TestARunReadsByItsEvidence: before it has begun, and as long as the contract is
// the one that it was introduced under.
func TestARunReadsByItsEvidence(t *testing.T) {
	s := agreed(t)
	log := s.log(t, nil)
	if err := readAll(t, s, log); fault.KindOf(err) != fault.Denied {
		t.Fatalf("without evidence: %v", err)
	}
	run, err := governance.Introduce(t.Context(), log, reportOf(digestA))
	check(t, err)
	defer run.Destroy()
	check(t, readAll(t, s, log))

	s.contract.Version = 2
	entry, err := statement.Sign(statement.Statement{Body: &statement.Amend{Contract: s.contract}, Contract: "trial", Time: time.Now(), Version: 2},
		statement.Signature{Signer: s.key, Counter: 100})
	check(t, err)
	if _, err := s.ledger.Append(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	if err := readAll(t, s, log); governance.ReasonOf(err) != governance.Unapproved || !strings.Contains(err.Error(), "the contract is proposed, not accepted") {
		t.Errorf("under an amended contract: %v", err)
	}
}

// TestAForgetfulLedgerIsToldAgain: another process that serves the same log has
// not met the run.
func TestAForgetfulLedgerIsToldAgain(t *testing.T) {
	s := agreed(t)
	log := s.log(t, nil)
	run, err := governance.Introduce(t.Context(), log, reportOf(digestA))
	check(t, err)
	defer run.Destroy()
	s.restart(t)
	check(t, readAll(t, s, log))
}

// TestEvidenceThatDoesNotLetIn: each is answered precisely, and shown nothing.
func TestEvidenceThatDoesNotLetIn(t *testing.T) {
	s := agreed(t)
	key, err := statement.GenerateKey(statement.Ed25519)
	check(t, err)
	digest, err := s.contract.Digest()
	check(t, err)
	body := func(policy, digest string, key statement.Signer) string {
		return fmt.Sprintf(`{"auditKey":"%s","contractDigest":"%s","evidence":{"platform":"simulated","report":"%s"},"run":"%s"}`,
			b64(key.Public().SPKI()), digest, b64([]byte("report of "+policy)), strings.Repeat("0a", 16))
	}
	good := body(digestA, digest, key)
	sign := func(r *http.Request, raw []byte) error { return remote.Sign(r, raw, key, time.Now()) }
	for name, tc := range map[string]struct {
		body string
		sign func(*http.Request, []byte) error
		want int
		said string
	}{
		"a report of another policy":   {body("sha256:"+strings.Repeat("b", 64), digest, key), sign, 403, "unapproved-container"},
		"a report of another contract": {body(digestA, "sha256:"+strings.Repeat("c", 64), key), sign, 422, "wrong-digest"},
		"a report of another key":      {body(digestA, digest, s.key), sign, 403, "wrong-signature"},
		"not signed":                   {good, func(*http.Request, []byte) error { return nil }, 401, "not signed"},
		"signed for another body":      {good, func(r *http.Request, _ []byte) error { return sign(r, nil) }, 401, "not by key"},
		"signed an hour ago":           {good, func(r *http.Request, raw []byte) error { return remote.Sign(r, raw, key, time.Now().Add(-time.Hour)) }, 401, "set the clock"},
		"no JSON":                      {"x", sign, 400, "malformed"},
		"something more":               {strings.Replace(good, `{"auditKey"`, `{"more":1,"auditKey"`, 1), sign, 400, "malformed"},
		"something after it":           {good + good, sign, 400, "malformed"},
		"a run of another length":      {strings.Replace(good, `"run":"0a`, `"run":"0a0a`, 1), sign, 400, "malformed"},
		"oversize":                     {`"` + strings.Repeat("x", remote.MaxIntroduction) + `"`, sign, 413, "more than"},
	} {
		code, said := s.post(t, tc.body, tc.sign)
		if code != tc.want || !strings.Contains(said, tc.said) {
			t.Errorf("%s: %d %s, want %d with %q", name, code, said, tc.want, tc.said)
		}
		r := s.readRequest(t)
		check(t, sign(r, nil))
		if code, said := do(t, r); code != http.StatusForbidden || !strings.Contains(said, "not-a-party") {
			t.Fatalf("%s: then it reads: %d %.100q", name, code, said)
		}
	}
	if code, said := s.post(t, good, sign); code != http.StatusOK {
		t.Errorf("the sound one: %d %s", code, said)
	}
}

func b64(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

// malleated is a header with the other signature (r, n-s) of the same bytes.
func malleated(t *testing.T, header string) string {
	t.Helper()
	before, rest, _ := strings.Cut(header, `signature="`)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(rest, `"`))
	check(t, err)
	var sig struct{ R, S *big.Int }
	_, err = asn1.Unmarshal(raw, &sig)
	check(t, err)
	sig.S.Sub(elliptic.P256().Params().N, sig.S)
	other, err := asn1.Marshal(sig)
	check(t, err)
	return before + `signature="` + b64(other) + `"`
}

// restart has the log served by another process.
func (s *served) restart(t *testing.T) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s.server.Config.Handler = service.New(service.Options{Logs: map[string]*ledger.Ledger{"trial": s.ledger}, Log: log, Evidence: asTold, Rate: 10_000})
}

func (s *served) post(t *testing.T, body string, sign func(*http.Request, []byte) error) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/trial/readers", strings.NewReader(body))
	check(t, err)
	check(t, sign(r, []byte(body)))
	return do(t, r)
}

func (s *served) readRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/trial/tile/entries/000.p/1", nil)
	check(t, err)
	return r
}

// TestAReadIsNotPlayedAgain: not with the signature as it was, and not with the
// other signature that ECDSA has for the same bytes.
func TestAReadIsNotPlayedAgain(t *testing.T) {
	s := agreed(t) // whose party's key is of P-256
	r := s.readRequest(t)
	check(t, remote.Sign(r, nil, s.key, time.Now()))
	if code, said := do(t, r); code != http.StatusOK {
		t.Fatalf("%d %s", code, said)
	}
	for name, header := range map[string]string{"as it was": r.Header.Get("Authorization"), "malleated": malleated(t, r.Header.Get("Authorization"))} {
		again := s.readRequest(t)
		again.Header.Set("Authorization", header)
		if code, said := do(t, again); code != http.StatusConflict || !strings.Contains(said, "replayed") || strings.Contains(said, "payload") {
			t.Errorf("%s: %d %s", name, code, said)
		}
	}
}

// TestARestartedLedgerKnowsWhatItWasAsked: also one that was killed, whose disk was
// full in the middle of a line, and one beside it that serves the same log.
func TestARestartedLedgerKnowsWhatItWasAsked(t *testing.T) {
	s := agreed(t)
	var asked []*http.Request
	for range 3 {
		r := s.readRequest(t)
		check(t, remote.Sign(r, nil, s.key, time.Now()))
		if code, said := do(t, r.Clone(t.Context())); code != http.StatusOK {
			t.Fatalf("%d %s", code, said)
		}
		asked = append(asked, r)
		files, err := filepath.Glob(filepath.Join(string(s.ledger.Dir()), "asked-*"))
		if err != nil || len(files) == 0 {
			t.Fatal("nothing is remembered", err)
		}
		f, err := os.OpenFile(files[len(files)-1], os.O_WRONLY|os.O_APPEND, 0)
		check(t, err)
		_, err = f.WriteString("0123 a part of a line")
		check(t, errors.Join(err, f.Close()))
	}
	old := s.server.Config.Handler
	s.restart(t)
	for _, r := range asked {
		if code, said := do(t, r.Clone(t.Context())); code != http.StatusConflict || !strings.Contains(said, "replayed") {
			t.Errorf("after a restart: %d %s", code, said)
		}
	}
	r := s.readRequest(t)
	check(t, remote.Sign(r, nil, s.key, time.Now()))
	if code, said := do(t, r.Clone(t.Context())); code != http.StatusOK {
		t.Errorf("a new request: %d %s", code, said)
	}
	s.server.Config.Handler = old
	if code, _ := do(t, r); code != http.StatusConflict {
		t.Errorf("beside the one that answered: %d", code)
	}
}

// TestOneOfManyServersAnswers: of those that are asked the same at the same time.
func TestOneOfManyServersAnswers(t *testing.T) {
	s := agreed(t)
	var servers []http.Handler
	for range 4 {
		s.restart(t)
		servers = append(servers, s.server.Config.Handler)
	}
	for range 25 {
		signed := s.readRequest(t)
		check(t, remote.Sign(signed, nil, s.key, time.Now()))
		var all sync.WaitGroup
		var answered atomic.Int32
		for _, server := range servers {
			all.Go(func() {
				r := httptest.NewRequest(http.MethodGet, signed.URL.String(), nil)
				r.Host = signed.URL.Host
				r.Header = signed.Header.Clone()
				w := httptest.NewRecorder()
				if server.ServeHTTP(w, r); w.Code == http.StatusOK {
					answered.Add(1)
				} else if w.Code != http.StatusConflict {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
		if n := answered.Load(); n != 1 {
			t.Fatalf("%d servers answered one request", n)
		}
	}
}

// TestWithoutAJudgeNoRunIsLetIn: what judges no evidence admits none.
func TestWithoutAJudgeNoRunIsLetIn(t *testing.T) {
	s := serve(t, nil) // it judges no evidence
	for _, e := range [][]byte{s.propose(), s.approve()} {
		if _, err := s.ledger.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	_, err := governance.Introduce(t.Context(), s.log(t, nil), reportOf(digestA))
	if governance.ReasonOf(err) != governance.Unapproved || !strings.Contains(err.Error(), "judges no evidence") {
		t.Errorf("got %v", err)
	}
}

// TestIntroduceWantsAContract: a log without one says so before any evidence is
// made.
func TestIntroduceWantsAContract(t *testing.T) {
	s := serve(t, func(o *service.Options, _ *http.Server) { o.Evidence = asTold })
	_, err := governance.Introduce(t.Context(), s.log(t, nil), func(context.Context, governance.Binding) (statement.Evidence, []byte, error) {
		t.Error("evidence is made")
		return statement.Evidence{}, nil, errors.New("no")
	})
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "the contract is draft") {
		t.Errorf("got %v", err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.server.URL+"/trial/readers", bytes.NewReader(nil))
	check(t, err)
	if code, said := do(t, r); code != http.StatusMethodNotAllowed || !strings.Contains(said, "use POST") {
		t.Errorf("%d %s", code, said)
	}
}
