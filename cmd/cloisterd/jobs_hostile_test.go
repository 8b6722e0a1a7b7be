package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/policy/spec"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// caller calls a run as clients do that are no program of ours: through the plain port
// of cloister proxy, with words of its own. Each answer is held to openapi.json.
type caller struct {
	*jobsRoom
	plain, run string
	documented documented
}

func (r *jobsRoom) caller() *caller {
	r.t.Helper()
	plain, _ := called{process: r.process}.proxy(r.address)
	run := strings.Fields(strings.SplitN(r.must("status"), "run ", 2)[1])[0]
	return &caller{r, plain, run, readDocument(r.t)}
}

// sign is a party's word for a call.
func (c *caller) sign(party, method, target string, body []byte) string {
	c.t.Helper()
	p, err := partyfile.Read(c.Path(party + ".party"))
	must(c.t, err)
	defer p.Destroy()
	signed, err := statement.SignCall(statement.Call{Method: method, Target: target, Run: c.run}, body, time.Now(), p.Key)
	must(c.t, err)
	return callScheme + signed
}

// call sends a request with this authorization, and wants this status, and the words.
func (c *caller) call(authorization, method, target string, body io.Reader, status int, want string) []byte {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://"+c.plain+"/.well-known/cloister/"+target, body)
	must(c.t, err)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, target, err)
		return nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(c.t, err)
	if resp.StatusCode != status || !strings.Contains(string(answer), want) {
		c.t.Errorf("%s %s: %d %.200q, want %d and %q", method, target, resp.StatusCode, answer, status, want)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("%s %s may be kept", method, target)
	}
	c.documented.holds(c.t, method, target, resp, answer)
	return answer
}

// signed is call with the analyst's word.
func (c *caller) signed(method, target, body string, status int, want string) []byte {
	c.t.Helper()
	return c.call(c.sign("analyst", method, target, []byte(body)), method, target, strings.NewReader(body), status, want)
}

// documented is openapi.json.
type documented struct {
	paths map[string]map[string]struct {
		Responses map[string]struct{ Content map[string]any }
	}
	schemas *jsonschema.Compiler
}

func readDocument(t *testing.T) documented {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
	}
	must(t, json.Unmarshal(openAPI, &doc))
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	must(t, err)
	compiler := jsonschema.NewCompiler()
	must(t, compiler.AddResource("openapi.json", whole))
	return documented{doc.Paths, compiler}
}

// holds: path, method, status and media type of an answer are there, and JSON is of
// the schema. A method that there is not, is documented at those that there are.
func (d documented) holds(t *testing.T, method, target string, resp *http.Response, answer []byte) {
	t.Helper()
	parts := strings.Split(target, "/")
	if len(parts) > 1 {
		parts[1] = "{id}"
	}
	path := "/.well-known/cloister/" + strings.Join(parts, "/")
	method = strings.ToLower(method)
	if resp.StatusCode == http.StatusMethodNotAllowed {
		method = "get"
	}
	media, status := resp.Header.Get("Content-Type"), fmt.Sprint(resp.StatusCode)
	if _, ok := d.paths[path][method].Responses[status].Content[media]; !ok {
		t.Errorf("%s %s: %s as %q is not in openapi.json", method, path, status, media)
		return
	}
	if media != "application/json" {
		return
	}
	at := "openapi.json#/paths/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path) + "/" + method + "/responses/" + status + "/content/application~1json/schema"
	schema, err := d.schemas.Compile(at)
	must(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer))
	must(t, err)
	if err := schema.Validate(value); err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
}

func randomID(t *testing.T) string {
	id := make([]byte, 16)
	_, err := rand.Read(id)
	must(t, err)
	return hex.EncodeToString(id)
}

// TestHostileJobCalls: replayed starts, another party's word, words for something
// else, bodies that do not end, do not come or are too large, and a hundred thousand
// starts: one job starts, and the others are told why not, as openapi.json has it.
func TestHostileJobCalls(t *testing.T) {
	t.Parallel()
	r := newJobsRoom(t, "manual", []string{"--count", "2"})
	c := r.caller()
	id, parameters := randomID(t), `echo $CLOISTER_JOB >> $OUT/started; while [ ! -e $OUT/go ]; do sleep 0.05; done; echo done > result`
	target := "jobs/" + id
	start := c.sign("analyst", "PUT", target, []byte(parameters))
	put := func(authorization, body string, status int, want string) {
		t.Helper()
		c.call(authorization, "PUT", target, strings.NewReader(body), status, want)
	}
	put("", parameters, 401, "must sign the call")
	put(callScheme+"a.b.c.d", parameters, 401, "malformed")
	put(c.sign("hospital", "PUT", target, []byte(parameters)), parameters, 403, "does not have party hospital start jobs")
	put(c.sign("analyst", "PUT", "jobs/"+randomID(t), []byte(parameters)), parameters, 401, "for another run, or was changed")
	put(c.sign("analyst", "GET", target, []byte(parameters)), parameters, 401, "for another run, or was changed")
	put(start, parameters+"; more", 401, "signed for other parameters")
	other := *c
	other.run = strings.Repeat("0", 32)
	put(other.sign("analyst", "PUT", target, []byte(parameters)), parameters, 401, "for another run")
	c.signed("PUT", "jobs/none", "", 400, "32 random hexadecimal digits")
	c.signed("PUT", "jobs/"+c.run, "", 400, "32 random hexadecimal digits")
	put(start, strings.Repeat("x", maxParameters+1), 413, "at most 65536 bytes")
	c.call(start, "PUT", target, endless{}, 413, "at most 65536 bytes")
	slow(t, c, target, start)
	c.signed("GET", target, "", 404, "no such job")
	c.signed("GET", "jobs/"+c.run+"/result", "", 404, "no such job")
	for _, method := range []string{"PATCH", "POST"} {
		c.signed(method, target, "", 405, "")
	}
	c.call("", "GET", "openapi.json", nil, 200, "openapi")
	if got := c.signed("GET", "jobs", "", 200, ""); !strings.Contains(string(got), `"jobs":[]`) {
		t.Errorf("after all that there are jobs: %s", got)
	}

	put(start, parameters, 202, id)
	r.state(id, workRunning)
	c.signed("POST", "job", "", 409, "running")
	c.signed("GET", target+"/result", "", 409, "has not ended")
	flood(t, c, target, start, parameters)
	c.signed("PUT", "jobs/"+randomID(t), "", 429, "1 jobs run")
	c.signed("PUT", target, "other", 409, "is another one")
	if got := c.signed("GET", "jobs", "", 200, id); strings.Count(string(got), `"id"`) != 1 {
		t.Errorf("there are other jobs: %s", got)
	}

	end := randomID(t)
	c.call(c.sign("hospital", "DELETE", "jobs", nil), "DELETE", "jobs", nil, 403, "does not have party hospital start jobs")
	c.signed("DELETE", "jobs", "", 202, "running")
	c.signed("PUT", "jobs/"+end, ": > $OUT/go", 409, "takes no further job")
	must(t, os.WriteFile(r.Path("mnt", "report", "go"), nil, 0o644))
	r.state(id, workEnded)
	c.call(c.sign("hospital", "GET", target+"/result", nil), "GET", target+"/result", nil, 403, "given results")
	if got := c.signed("GET", target+"/result", "", 200, ""); string(got) != "done\n" {
		t.Errorf("the result is %q", got)
	}
	r.ends(0)
	if files := r.decrypt(r.reference("output")); files["started"] != id+"\n" {
		t.Errorf("jobs that started: %q", files["started"])
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// slow says that there is a body, and sends a byte of it: it is let go, and others are
// served meanwhile.
func slow(t *testing.T, c *caller, target, authorization string) {
	t.Helper()
	conn, err := net.Dial("tcp", c.plain)
	must(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /.well-known/cloister/%s HTTP/1.1\r\nHost: room\r\nAuthorization: %s\r\nContent-Length: 100\r\n\r\nx", target, authorization)
	c.signed("GET", "job", "", 200, "waiting")
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("a slow body is not answered: %v", err)
		return
	}
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("a slow body: %d %s", resp.StatusCode, answer)
	}
	c.documented.holds(t, "PUT", target, resp, answer)
}

// flood says one start a hundred thousand times, of which a quarter is not signed.
func flood(t *testing.T, c *caller, target, authorization, parameters string) {
	t.Helper()
	const workers, each = 20, 5000
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			said, want := authorization, http.StatusOK
			if i%4 == 0 {
				said, want = callScheme+"a.b.c.d", http.StatusUnauthorized
			}
			conn, err := net.Dial("tcp", c.plain)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for range each {
				fmt.Fprintf(conn, "PUT /.well-known/cloister/%s HTTP/1.1\r\nHost: room\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", target, said, len(parameters), parameters)
				resp, err := http.ReadResponse(answers, nil)
				if err != nil || resp.StatusCode != want {
					t.Errorf("%v, %v, want %d", resp, err, want)
					return
				}
				io.Copy(io.Discard, resp.Body)
			}
		})
	}
	all.Wait()
}

// TestJobsDocument: openapi.json has the paths and methods that are served, and no
// others.
func TestJobsDocument(t *testing.T) {
	without := &room{job: newJob()}
	with := &room{job: newJob(), jobs: newJobs(&spec.Jobs{Start: []string{"analyst"}})}
	for _, tc := range []struct {
		calls http.Handler
		jobs  bool
	}{{without.calls(), false}, {with.calls(), true}} {
		for path, methods := range readDocument(t).paths {
			for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH"} {
				_, want := methods[strings.ToLower(method)]
				want = want && (tc.jobs || !strings.Contains(path, "jobs"))
				answer := httptest.NewRecorder()
				tc.calls.ServeHTTP(answer, httptest.NewRequest(method, strings.ReplaceAll(path, "{id}", strings.Repeat("0", 32)), nil))
				served := !slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed}, answer.Code)
				if served != want {
					t.Errorf("%s %s, jobs %v: answered with %d", method, path, tc.jobs, answer.Code)
				}
			}
		}
	}
}
