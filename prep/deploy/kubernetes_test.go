package deploy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/internal/fault"
	"cloister/policy/template"
)

// api is a small API server: it keeps what is applied, and says that it runs.
type api struct {
	*httptest.Server
	mu       sync.Mutex // guards what follows
	objects  map[string]map[string]any
	made     int // objects, that were not there before
	requests []string
	// answer, if set, answers in its place.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

const apiToken = "a-token-that-is-a-secret"

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{objects: map[string]map[string]any{}}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r.Method+" "+r.URL.Path)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+apiToken:
		refuseAPI(w, 401, "Unauthorized", "Unauthorized")
	case a.answer != nil && a.answer(w, r):
	case r.Method == http.MethodGet && r.URL.Query().Has("labelSelector"):
		a.list(w)
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/log"):
		io.WriteString(w, "said by "+r.URL.Query().Get("container")+"\n")
	case r.Method == http.MethodPatch:
		a.apply(w, r)
	case a.objects[r.URL.Path] == nil:
		refuseAPI(w, 404, "NotFound", "not found")
	case r.Method == http.MethodDelete:
		delete(a.objects, r.URL.Path)
		io.WriteString(w, `{"kind":"Status"}`)
	default:
		json.NewEncoder(w).Encode(a.objects[r.URL.Path])
	}
}

func refuseAPI(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code})
}

// list is of the pods of every job there is.
func (a *api) list(w http.ResponseWriter) {
	items := []any{}
	for path, o := range a.objects {
		if strings.Contains(path, "/jobs/") && o["status"] != nil {
			items = append(items, map[string]any{"metadata": map[string]any{"name": "study-0-abcde"},
				"status": map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{"name": "count", "state": map[string]any{"running": map[string]any{}}}}}})
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"items": items})
}

func (a *api) apply(w http.ResponseWriter, r *http.Request) {
	var o map[string]any
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil || r.URL.Query().Get("fieldManager") != "cloister" || r.URL.Query().Get("fieldValidation") != "Strict" ||
		r.Header.Get("Content-Type") != "application/apply-patch+yaml" {
		refuseAPI(w, 400, "BadRequest", "not an apply")
		return
	}
	if a.objects[r.URL.Path] == nil {
		a.made++
	}
	o["status"] = map[string]any{"phase": "Running", "ready": 4}
	a.objects[r.URL.Path] = o
	json.NewEncoder(w).Encode(o)
}

// config writes a kubeconfig for the server, changed by pairs of texts.
func (a *api) config(t *testing.T, change ...string) string {
	t.Helper()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}))
	text := strings.NewReplacer(change...).Replace(fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: here
contexts:
- name: here
  context: {cluster: c, user: u, namespace: rooms}
- name: nowhere
  context: {cluster: d, user: u}
- name: nobody
  context: {cluster: c, user: v}
clusters:
- name: c
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: u
  user:
    token: %s
`, a.URL, ca, apiToken))
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func golden(t *testing.T, name string) template.Template {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "policy", "template", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return template.Template{Name: template.Kubernetes, Text: text}
}

// cluster is a room in the server, and what its requests go through.
func (a *api) cluster(t *testing.T, name string) (*Room, *Cluster, *faulty) {
	t.Helper()
	c, err := OpenCluster(a.config(t), "", "")
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{do: c.client.Transport.RoundTrip}
	c.client.Transport = f
	c.retryWait = func(time.Duration) <-chan time.Time { done := make(chan time.Time); close(done); return done }
	r, err := InKubernetes(c, golden(t, name))
	if err != nil {
		t.Fatal(err)
	}
	r.Pause = time.Millisecond
	return r, c, f
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) { return f.Do(r) }

// However Up and Down are cut off, the same call again comes to the same end, and
// nothing is made twice.
func TestEveryRequestToKubernetesMayFail(t *testing.T) {
	for name, objects := range map[string]int{"aks.yaml": 1, "aks_distributed.yaml": 1, "aks_replicas.yaml": 2} {
		a := newAPI(t)
		r, _, wire := a.cluster(t, name)
		for step, do := range map[string]func() ([]Unit, error){
			"up": func() ([]Unit, error) { return r.Up(t.Context()) }, "down": func() ([]Unit, error) { return r.Down(t.Context(), false) },
		} {
			for n, done := 1, false; !done; n++ {
				for _, after := range []bool{false, true} {
					wire.failAt(0, false)
					if _, err := r.Down(t.Context(), false); err != nil {
						t.Fatal(err)
					}
					if step == "down" {
						if _, err := r.Up(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					a.made = 0
					wire.failAt(n, after)
					_, err := do()
					if done = wire.count() < n; !done && !errors.Is(err, errInjected) {
						t.Errorf("%s: request %d of %s fails (%t): %v", name, n, step, after, err)
					}
					wire.failAt(0, false)
					units, err := do()
					if err != nil || step == "up" && (a.made != objects || len(a.objects) != objects) || step == "down" && len(a.objects) != 0 {
						t.Errorf("%s: %s after request %d (%t): made %d, there are %d, %+v, %v", name, step, n, after, a.made, len(a.objects), units, err)
					}
				}
				if n > 40 {
					t.Fatalf("%s: %s has no end", name, step)
				}
			}
		}
	}
}

func TestStatusAndLogsOfKubernetes(t *testing.T) {
	a := newAPI(t)
	r, _, _ := a.cluster(t, "aks_replicas.yaml")
	units, err := r.Up(t.Context())
	if err != nil || states(units) != "study there, study running" || units[1].Name != "rooms/study" || len(units[1].Containers) != 1 || units[1].Containers[0].Name != "study-0-abcde/count" {
		t.Errorf("%+v, %v", units, err)
	}
	var said bytes.Buffer
	if err := r.Logs(t.Context(), "", 3, &said); err != nil || said.String() != "said by cloister-runtime\nsaid by count\n" {
		t.Errorf("%q, %v", &said, err)
	}
	said.Reset()
	if err := r.Logs(t.Context(), "count", 0, &said); err != nil || said.String() != "said by count\n" {
		t.Errorf("%q, %v", &said, err)
	}
	for status, want := range map[string]string{
		`{}`: Pending, `{"ready":3}`: Pending, `{"ready":4}`: Running, `{"ready":1,"succeeded":2,"failed":1}`: Running,
		`{"succeeded":4,"conditions":[{"type":"Complete","status":"True"}]}`: Succeeded, `{"conditions":[{"type":"Failed","status":"True"}]}`: Failed, `{"conditions":[{"type":"Failed","status":"False"}]}`: Pending,
	} {
		var s kubeStatus
		if err := json.Unmarshal([]byte(status), &s); err != nil || s.job(4) != want {
			t.Errorf("%s: a job is %s, want %s: %v", status, s.job(4), want, err)
		}
	}
	// Another account's, or another policy's, is not ours.
	a.objects["/api/v1/namespaces/rooms/serviceaccounts/study"]["metadata"].(map[string]any)["annotations"].(map[string]any)["azure.workload.identity/client-id"] = "x"
	if _, err := r.Up(t.Context()); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "it has another azure.workload.identity/client-id") {
		t.Errorf("%v", err)
	}
	for _, tc := range []struct{ status, state, detail string }{
		{`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"no node"}]}`, Pending, "no node"},
		{`{"phase":"Succeeded","containerStatuses":[{"name":"count","state":{"terminated":{"exitCode":0,"reason":"Completed"}}}]}`, Succeeded, ""},
		{`{"phase":"Failed","message":"evicted","containerStatuses":[{"name":"count","state":{"terminated":{"exitCode":5}}}]}`, Failed, "evicted"},
		{`{"phase":"Unknown"}`, Pending, ""},
		{`{"phase":"Running","containerStatuses":[{"name":"count","restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}`, Running, ""},
	} {
		var s kubeStatus
		if err := json.Unmarshal([]byte(tc.status), &s); err != nil {
			t.Fatal(err)
		}
		if state, detail, _ := s.pod(""); state != tc.state || detail != tc.detail {
			t.Errorf("%s: %s %q", tc.status, state, detail)
		}
	}
}

// Each refusal says which resource, which permission is missing, and who has it.
func TestRefusalsOfKubernetes(t *testing.T) {
	for name, tc := range map[string]struct {
		code            int
		reason, message string
		kind            fault.Kind
		hint            string
	}{
		"forbidden": {403, "Forbidden", `jobs.batch "study" is forbidden: User "x" cannot patch resource "jobs" in API group "batch" in the namespace "rooms"`, fault.Denied, "the permission patch on jobs.batch is missing: ask for a Role with it in namespace rooms"},
		"quota":     {403, "Forbidden", `pods "study" is forbidden: exceeded quota: q`, fault.Unavailable, "have its ResourceQuota raised"},
		"policy":    {403, "Forbidden", `denied by a webhook`, fault.Denied, "who runs the cluster"},
		"namespace": {404, "NotFound", `namespaces "rooms" not found`, fault.NotFound, "create namespace rooms"},
		"conflict":  {409, "Conflict", `Apply failed with 1 conflict: conflict with "helm"`, fault.Conflict, "who else manages it"},
		"invalid":   {422, "Invalid", `spec.containers: Required value`, fault.Refused, "see what the API server says"},
		"throttled": {429, "TooManyRequests", `slow down`, fault.Unavailable, "wait 7 seconds and give the command again"},
		"broken":    {500, "InternalError", `oops`, fault.Unavailable, "later"},
		"redirect":  {302, "", ``, fault.Refused, "a redirect is not followed"},
	} {
		a := newAPI(t)
		r, _, wire := a.cluster(t, "aks_replicas.yaml")
		a.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch {
				return false
			}
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Location", "https://127.0.0.1:1/")
			refuseAPI(w, tc.code, tc.reason, tc.message)
			return true
		}
		_, err := r.Up(t.Context())
		if !wantFault(t, err, tc.kind, "making the serviceaccount rooms/study: the API server answers", tc.hint) {
			t.Error(name)
		}
		if want := map[bool]int{true: 3 + maxTries, false: 4}[tc.code == 429]; wire.count() != want {
			t.Errorf("%s: %d requests, want %d", name, wire.count(), want)
		}
	}
	a := newAPI(t)
	r, c, _ := a.cluster(t, "aks.yaml")
	c.token = func() (bearer, error) { return "other", nil }
	_, err := r.Status(t.Context())
	wantFault(t, err, fault.Denied, "looking at the pod rooms/study", "make the kubeconfig anew")
	c.url = "https://127.0.0.1:1"
	_, err = r.Status(t.Context())
	wantFault(t, err, fault.Unavailable, "looking at the pod rooms/study", "check the kubeconfig's server")
}

// An answer of any form is no more than an error.
func TestHostileAPIServer(t *testing.T) {
	for name, answer := range map[string]string{
		"no JSON": `<html>`, "list": `[]`, "types": `{"metadata":{"annotations":[]}}`, "spec": `{"spec":7}`, "deep": strings.Repeat(`{"spec":`, 20000), "cut": `{"metadata":`,
		"large": `{"a":"` + strings.Repeat("a", maxAnswer) + `"}`, "empty": ``,
	} {
		a := newAPI(t)
		r, _, _ := a.cluster(t, "aks.yaml")
		a.answer = func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, answer); return true }
		if units, err := r.Up(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, units)
		}
	}
	a := newAPI(t)
	r, _, _ := a.cluster(t, "aks.yaml")
	a.answer = func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, `null`); return true }
	if _, err := r.Up(t.Context()); fault.KindOf(err) == fault.Internal || err == nil {
		t.Errorf("null: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Down(ctx, false); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestKubeconfigRefused(t *testing.T) {
	a := newAPI(t)
	for name, tc := range map[string]struct {
		context string
		change  []string
		text    string
	}{
		"no context":     {"other", nil, `it has no context "other"`},
		"no current":     {"", []string{"current-context: here", ""}, "it has no context"},
		"no cluster":     {"nowhere", nil, `it has no cluster "d"`},
		"no user":        {"nobody", nil, `it has no user "v"`},
		"http":           {"", []string{"https://", "http://"}, "has server"},
		"user in URL":    {"", []string{"https://", "https://a:b@"}, "has server"},
		"insecure":       {"", []string{"    certificate-authority-data", "    insecure-skip-tls-verify: true\n    certificate-authority-data"}, "whoever answers would get the token"},
		"proxy":          {"", []string{"    certificate-authority-data", "    proxy-url: http://p\n    certificate-authority-data"}, "has proxy-url"},
		"no base64":      {"", []string{"authority-data: ", "authority-data: '%'  # "}, "not base64"},
		"no certificate": {"", []string{"authority-data: ", "authority-data: AAAA # "}, "without a certificate"},
		"no file":        {"", []string{"authority-data: ", "authority: nothing.pem # "}, "nothing.pem"},
		"exec":           {"", []string{"token: " + apiToken, "exec: {command: kubelogin}"}, "has nothing that is taken here"},
		"password":       {"", []string{"token: " + apiToken, "{username: a, password: " + apiToken + "}"}, "has nothing that is taken here"},
		"no YAML":        {"", []string{"contexts:", "contexts: ["}, "cannot be read"},
		"types":          {"", []string{"token: ", "token: [secret, "}, "cannot be read"},
		"pair":           {"", []string{"token: " + apiToken, "{client-certificate-data: AAAA, client-key-data: AAAA}"}, "no client certificate that goes with its key"},
	} {
		_, err := OpenCluster(a.config(t, tc.change...), tc.context, "")
		if err == nil || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), apiToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenCluster(filepath.Join(t.TempDir(), "none"), "", ""); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no file: %v", err)
	}
	// A token in a file is read anew each time.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(apiToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCluster(a.config(t, "token: "+apiToken, "tokenFile: "+filepath.Join(dir, "token")), "here", "other")
	if err != nil || c.namespace != "other" {
		t.Fatalf("%+v, %v", c, err)
	}
	r, err := InKubernetes(c, golden(t, "aks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if units, err := r.Status(t.Context()); err != nil || units[0].Name != "other/study" {
		t.Errorf("%+v, %v", units, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s %q", bearer(apiToken), bearer(apiToken), bearer(apiToken), bearer(apiToken), bearer(apiToken)); strings.Contains(text, "secret") {
		t.Errorf("a token shows itself: %s", text)
	}
	c.namespace = "../x"
	if _, err := InKubernetes(c, golden(t, "aks.yaml")); fault.KindOf(err) != fault.Usage {
		t.Errorf("a namespace of another form: %v", err)
	}
	c.namespace = "rooms"
	for _, manifest := range []string{"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: ../a}\n", "kind: Pod\n", "[]"} {
		if _, err := InKubernetes(c, template.Template{Name: template.Kubernetes, Text: []byte(manifest)}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", manifest, err)
		}
	}
}
