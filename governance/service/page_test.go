package service_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloister/governance/remote"
	"cloister/governance/statement"
)

// get asks for a path of the log, with an Authorization if there is one.
func (s *served) get(t *testing.T, path, authorization string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/trial/"+path, nil)
	check(t, err)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	check(t, err)
	return answer, string(raw)
}

// TestThePageIsForEverybodyAndTheRecordIsNot: its files come with the policy that
// keeps it to itself, and have no word of the record.
func TestThePageIsForEverybodyAndTheRecordIsNot(t *testing.T) {
	s := serve(t, nil)
	_, err := s.log(t, s.key).Append(t.Context(), s.propose())
	check(t, err)
	for path, want := range map[string]int{"page/": 200, "page/page.js": 200, "page/nothing": 404, "tile/entries/000.p/1": 401} {
		answer, body := s.get(t, path, "")
		if answer.StatusCode != want || strings.Contains(body, s.contract.ID+`"`) {
			t.Errorf("%s: %s %s", path, answer.Status, body)
		}
		if strings.HasPrefix(path, "page/") && !strings.HasPrefix(answer.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';") {
			t.Errorf("%s: the policy is %q", path, answer.Header.Get("Content-Security-Policy"))
		}
	}
	answer, err := http.Get(s.server.URL + "/other/page/")
	check(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("the page of a log that is not there: %s", answer.Status)
	}
}

// TestReadTokens: one reads, for its time, this log, and nothing else.
func TestReadTokens(t *testing.T) {
	s := serve(t, nil)
	stranger, err := statement.GenerateKey(statement.Ed25519)
	check(t, err)
	_, err = s.log(t, s.key).Append(t.Context(), s.propose())
	check(t, err)
	token := func(ledger string, signer statement.Signer, life time.Duration) string {
		text, err := remote.ReadToken(ledger, signer, time.Now().Add(life))
		check(t, err)
		return text
	}
	own := s.ledger.Key()
	good := token(own, s.key, time.Minute)
	part := strings.Split(good, ".")
	until, err := strconv.ParseInt(part[1], 10, 64)
	check(t, err)
	for _, tc := range []struct {
		name, token string
		want        int
		said        string
	}{
		{"a party's", good, 200, ""},
		{"of the longest life", token(own, s.key, remote.MaxTokenLife), 200, ""},
		{"of yesterday", token(own, s.key, -time.Second), 401, "held until"},
		{"for a day", token(own, s.key, 24*time.Hour), 401, "at most 1h0m0s"},
		{"for another ledger", token("other+0+0", s.key, time.Minute), 401, "not for this ledger"},
		{"with a later time put in", fmt.Sprintf("%s.%d.%s", part[0], until+1, part[2]), 401, "not for this ledger"},
		{"a stranger's", token(own, stranger, time.Minute), 403, "no party"},
		{"of two parts", part[0] + "." + part[1], 401, "malformed"},
		{"of no base64", "!." + part[1] + "." + part[2], 401, "malformed"},
		{"of no key", "AAAA." + part[1] + "." + part[2], 401, "key"},
		{"too long", strings.Repeat("A", 2000) + "." + part[1] + "." + part[2], 401, "malformed"},
		{"nothing", "", 401, "not signed"},
	} {
		answer, body := s.get(t, "tile/entries/000.p/1", remote.BearerScheme+" "+tc.token)
		if answer.StatusCode != tc.want || !strings.Contains(body, tc.said) {
			t.Errorf("%s: %s %s, want %d with %q", tc.name, answer.Status, body, tc.want, tc.said)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/trial/tile/entries/000.p/1", nil)
	check(t, err)
	r.Header.Set("Authorization", remote.BearerScheme+" "+good)
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("a POST with a read token: %s", answer.Status)
	}
}
