package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	enclaveazure "cloister/enclave/azure"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/policy/template"
	"cloister/prep/provision"
)

// faulty sends requests on and fails the n-th of them, before it has its effect
// or after.
type faulty struct {
	do func(*http.Request) (*http.Response, error)

	mu    sync.Mutex // guards what follows
	n     int        // requests so far
	at    int        // which fails; 0 is none
	after bool
}

var errInjected = errors.New("the connection was cut")

func (f *faulty) Do(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.n++
	fails, after := f.n == f.at, f.after
	f.mu.Unlock()
	if fails && !after {
		return nil, errInjected
	}
	resp, err := f.do(r)
	if fails && err == nil {
		resp.Body.Close()
		return nil, errInjected
	}
	return resp, err
}

func (f *faulty) failAt(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.at, f.after = 0, n, after
}

func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// program stands for the runtime.
const program = "#!/bin/sh\necho started\ntrap 'exit 0' TERM\nwhile :; do sleep 0.02; done\n"

// site is a cloud that runs program, and who deploys there.
type site struct {
	t      *testing.T
	cloud  *localcloud.Cloud
	client *provision.Client
	wire   *faulty
}

func newSite(t *testing.T, who string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloud") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := localcloud.Start(context.Background(), localcloud.Config{Dir: filepath.Join(dir, "c"), Roles: true, Runtime: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := &site{t: t, cloud: c}
	s.as(who)
	return s
}

// as signs in.
func (s *site) as(who string) {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.cloud.Certificate())
	id, err := s.cloud.AddIdentity(who)
	if err != nil {
		s.t.Fatal(err)
	}
	plain := policy.ClientOptions{Transport: enclaveazure.NewTransport(roots)}
	plain.Cloud.ActiveDirectoryAuthorityHost = s.cloud.Endpoints().Authority
	cred, err := azidentity.NewClientAssertionCredential(s.cloud.Endpoints().Tenant, id.ClientID,
		func(context.Context) (string, error) { return s.cloud.FederatedToken(who) },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: plain, DisableInstanceDiscovery: true})
	if err != nil {
		s.t.Fatal(err)
	}
	e := s.cloud.Endpoints()
	s.wire = &faulty{do: enclaveazure.NewTransport(roots).Do}
	s.client = provision.New(provision.Options{Credential: cred, PrivateCloud: true,
		Client:  policy.ClientOptions{Transport: s.wire, Retry: policy.RetryOptions{MaxRetries: -1}},
		Manager: provision.Manager{Endpoint: e.Manager, Scope: "https://management.azure.com/.default", Subscription: e.Subscription}})
}

// armTemplate is of two replicas, in the form that `deploy template` writes.
func armTemplate(t *testing.T, command string) template.Template {
	t.Helper()
	containerPolicy := fmt.Sprintf("package cloister_simulated\n\nsimulated := true\n\nprocess := {\"command\": [\"cloisterd\", %q]}\n", command)
	text, err := json.Marshal(map[string]any{"resources": []any{map[string]any{
		"type": "Microsoft.ContainerInstance/containerGroups", "apiVersion": "2023-05-01", "name": "[format('study-{0}', copyIndex())]",
		"location": "[parameters('location')]", "copy": map[string]any{"name": "replicas", "count": 2},
		"properties": map[string]any{"sku": "Confidential", "restartPolicy": "Never",
			"confidentialComputeProperties": map[string]any{"ccePolicy": base64.StdEncoding.EncodeToString([]byte(containerPolicy))},
			"containers": []any{map[string]any{"name": "count", "properties": map[string]any{
				"image": fmt.Sprintf("cloisterd@sha256:%x", sha256.Sum256([]byte(program))), "command": []any{"cloisterd", command},
				"environmentVariables": []any{map[string]any{"name": "JOB_COMPLETION_INDEX", "value": "[string(copyIndex())]"}},
			}}},
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	return template.Template{Name: template.ARM, Text: text}
}

func (s *site) room(t template.Template) *Room {
	s.t.Helper()
	r, err := InAzure(s.t.Context(), s.client, "simulated", "simulated", t)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Pause = time.Millisecond
	return r
}

func states(units []Unit) string {
	var list []string
	for _, u := range units {
		list = append(list, u.Name[strings.LastIndexByte(u.Name, '/')+1:]+" "+u.State)
	}
	return strings.Join(list, ", ")
}

// started waits until every replica has said that it started, and returns how often
// they did.
func (s *site) started(r *Room) int {
	s.t.Helper()
	for {
		var said bytes.Buffer
		if err := r.Logs(s.t.Context(), "", 0, &said); err != nil {
			s.t.Fatal(err)
		}
		if n := strings.Count(said.String(), "started\n"); n >= len(r.resources) || s.t.Context().Err() != nil {
			return n
		}
		time.Sleep(time.Millisecond)
	}
}

// However Up and Down are cut off, the same call again comes to the same end, and
// nothing is made twice.
func TestEveryRequestMayFail(t *testing.T) {
	s := newSite(t, "owner")
	r := s.room(armTemplate(t, "run"))
	s.wire.failAt(0, false)
	if _, err := r.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests := s.wire.count()
	if requests < 6 { // two looks, two made, two looks
		t.Fatalf("%d requests: the test looks at nothing", requests)
	}
	down := func() {
		t.Helper()
		if units, err := r.Down(t.Context(), false); err != nil || states(units) != "study-0 missing, study-1 missing" {
			t.Fatalf("down: %s, %v", states(units), err)
		}
	}
	down()
	for n := 1; n <= requests; n++ {
		for _, after := range []bool{false, true} {
			s.wire.failAt(n, after)
			if _, err := r.Up(t.Context()); !errors.Is(err, errInjected) {
				t.Errorf("request %d of up fails (after its effect: %t): %v", n, after, err)
			}
			s.wire.failAt(0, false)
			if units, err := r.Up(t.Context()); err != nil || states(units) != "study-0 running, study-1 running" {
				t.Errorf("up after request %d (%t): %s, %v", n, after, states(units), err)
			}
			if got := s.started(r); got != 2 {
				t.Errorf("up after request %d (%t): started %d times", n, after, got)
			}
			down()
		}
	}
	for n, done := 1, false; !done; n++ {
		for _, after := range []bool{false, true} {
			s.wire.failAt(0, false)
			if _, err := r.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.wire.failAt(n, after)
			_, err := r.Down(t.Context(), false)
			done = s.wire.count() < n
			if !done && !errors.Is(err, errInjected) {
				t.Errorf("request %d of down fails (%t): %v", n, after, err)
			}
			s.wire.failAt(0, false)
			down()
		}
	}
}

// What is there already stays; another deployment's is refused, and left.
func TestNamesOfOthers(t *testing.T) {
	s := newSite(t, "owner")
	ours, theirs := s.room(armTemplate(t, "run")), s.room(armTemplate(t, "other"))
	if units, err := theirs.Up(t.Context()); err != nil || !units[0].Changed || !units[1].Changed {
		t.Fatalf("%+v, %v", units, err)
	}
	if units, err := theirs.Up(t.Context()); err != nil || units[0].Changed || units[1].Changed {
		t.Errorf("again: %+v, %v", units, err)
	}
	_, err := ours.Up(t.Context())
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "it has another container policy; container count has another command") {
		t.Errorf("over another's: %v", err)
	}
	if units, err := ours.Down(t.Context(), false); fault.KindOf(err) != fault.Conflict || states(units) != "study-0 differs, study-1 differs" {
		t.Errorf("down: %s, %v", states(units), err)
	}
	if units, err := ours.Down(t.Context(), true); err != nil || states(units) != "study-0 missing, study-1 missing" {
		t.Errorf("down of all: %s, %v", states(units), err)
	}
	if units, err := theirs.Down(t.Context(), false); err != nil || units[0].Changed {
		t.Errorf("again: %+v, %v", units, err)
	}
}

// A folder's template is a file of anybody's: nothing but container groups comes of it.
func TestOnlyContainerGroups(t *testing.T) {
	good := string(armTemplate(t, "run").Text)
	client := provision.New(provision.Options{})
	for name, tc := range map[string]struct{ group, text string }{
		"resource group":   {"a/../b", good},
		"type":             {"g", strings.Replace(good, "Microsoft.ContainerInstance/containerGroups", "Microsoft.Compute/virtualMachines", 1)},
		"name":             {"g", strings.Replace(good, "[format('study-{0}', copyIndex())]", "a/../../b", 1)},
		"expression":       {"g", strings.Replace(good, "[format('study-{0}', copyIndex())]", "[concat('a', 'b')]", 1)},
		"copies":           {"g", strings.Replace(good, `"count":2`, `"count":2000000`, 1)},
		"no name":          {"g", strings.Replace(good, `"name":"[format`, `"nam":"[format`, 1)},
		"nothing":          {"g", `{}`},
		"no template":      {"g", `[]`},
		"resource of text": {"g", `{"resources":["a"]}`},
		"no JSON":          {"g", `{`},
	} {
		_, err := InAzure(t.Context(), client, tc.group, "here", template.Template{Name: template.ARM, Text: []byte(tc.text)})
		if fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each refusal says which resource, which permission is missing, and who has it.
func TestRefusalsOfAzure(t *testing.T) {
	s := newSite(t, "stranger")
	_, err := s.room(armTemplate(t, "run")).Up(t.Context())
	wantFault(t, err, fault.Denied, "containerGroups/study-0", "the permission Microsoft.ContainerInstance/containerGroups/read is missing: ask for the role Reader")
	s.as("owner")
	real := s.wire.do
	for name, tc := range map[string]struct {
		status       int
		header, body string
		kind         fault.Kind
		hint         string
	}{
		"forbidden":    {403, "", `{"error":{"code":"AuthorizationFailed","message":"The client 'x' does not have authorization to perform action 'Microsoft.ContainerInstance/containerGroups/write' over scope '/s'"}}`, fault.Denied, "the permission Microsoft.ContainerInstance/containerGroups/write is missing: ask for the role Azure Container Instances Contributor Role"},
		"linked":       {403, "", `{"error":{"code":"LinkedAuthorizationFailed","message":"The client has permission to perform action 'Microsoft.ContainerInstance/containerGroups/write' on scope '/a'; however, it does not have permission to perform action(s) 'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope(s) '/subscriptions/s/room' (respectively)"}}`, fault.Denied, "the permission Microsoft.ManagedIdentity/userAssignedIdentities/assign/action is missing on /subscriptions/s/room: "},
		"unauthorized": {401, "", `{"error":{"code":"InvalidAuthenticationToken","message":"m"}}`, fault.Denied, "sign in to the tenant"},
		"no group":     {404, "", `{"error":{"code":"ResourceGroupNotFound","message":"m"}}`, fault.NotFound, "create it"},
		"conflict":     {409, "", `{"error":{"code":"ContainerGroupTransitioning","message":"m"}}`, fault.Conflict, "see what is there"},
		"quota":        {409, "", `{"error":{"code":"ContainerGroupQuotaReached","message":"m"}}`, fault.Unavailable, "ask for more quota of Microsoft.ContainerInstance"},
		"soft-deleted": {409, "", `{"error":{"code":"Conflict","message":"it is in a deleted but recoverable state"}}`, fault.Conflict, "recover or purge the deleted one"},
		"unregistered": {409, "", `{"error":{"code":"MissingSubscriptionRegistration","message":"m"}}`, fault.Denied, "az provider register --namespace Microsoft.ContainerInstance"},
		"image":        {400, "", `{"error":{"code":"InaccessibleImage","message":"m"}}`, fault.Denied, "the role AcrPull"},
		"malformed":    {400, "", `{"error":{"code":"InvalidRequestContent","message":"m"}}`, fault.Refused, "see what the service says"},
		"throttled":    {429, "17", `{"error":{"code":"TooManyRequests","message":"Quota"}}`, fault.Unavailable, "wait 17 seconds and give the command again"},
		"broken":       {503, "", `<html>`, fault.Unavailable, "later"},
	} {
		s.wire.do = func(r *http.Request) (*http.Response, error) {
			resp, err := real(r)
			if r.Method == http.MethodPut && err == nil {
				resp.Body.Close()
				resp.StatusCode, resp.Header, resp.Body = tc.status, http.Header{"Retry-After": {tc.header}, "Content-Type": {"application/json"}}, readCloser{strings.NewReader(tc.body)}
			}
			return resp, err
		}
		_, err := s.room(armTemplate(t, "run")).Up(t.Context())
		if !wantFault(t, err, tc.kind, "making the container group /subscriptions/", tc.hint) {
			t.Error(name)
		}
		s.wire.do = real
		if _, err := s.room(armTemplate(t, "run")).Down(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func wantFault(t *testing.T, err error, kind fault.Kind, text, hint string) bool {
	t.Helper()
	if fault.KindOf(err) != kind || err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(strings.Join(fault.Hints(err), "\n"), hint) {
		t.Errorf("%v (%v, %q), want %v with %q and %q", err, fault.KindOf(err), fault.Hints(err), kind, text, hint)
		return false
	}
	return true
}

// What a service shows is looked at, and believed for nothing.
func TestAnswersOfAnyForm(t *testing.T) {
	s := newSite(t, "owner")
	tm := armTemplate(t, "run")
	resources, err := tm.Resources("simulated")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(resources[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	good := string(body)
	for name, tc := range map[string]struct{ answer, state, detail string }{
		"creating":     {strings.Replace(good, `"sku"`, `"provisioningState":"Creating","sku"`, 1), Pending, ""},
		"nothing":      {`{}`, Differs, "it has no container count"},
		"no object":    {`[]`, "", ""},
		"no JSON":      {`<html>`, "", ""},
		"null":         {`null`, Differs, "it has no container count"},
		"other policy": {strings.Replace(good, `"ccePolicy":"`, `"ccePolicy":"A`, 1), Differs, "it has another container policy"},
		"other image":  {strings.Replace(good, "cloisterd@", "other@", 1), Differs, "has image"},
		"more":         {strings.Replace(good, `"environmentVariables":[`, `"environmentVariables":[{"name":"A","value":"b"},`, 1), Differs, "has 2 variables, not 1"},
		"another's":    {strings.Replace(good, `"value":"0"`, `"value":"1"`, 1), Differs, "has another JOB_COMPLETION_INDEX"},
		"failed":       {strings.Replace(good, `"sku"`, `"provisioningState":"Failed","instanceView":{"events":[{"type":"Warning","message":"no such image"}]},"sku"`, 1), Failed, "no such image"},
		"deleting":     {strings.Replace(good, `"sku"`, `"provisioningState":"Deleting","sku"`, 1), Deleting, ""},
		"odd state":    {strings.Replace(good, `"sku"`, `"provisioningState":"Succeeded","instanceView":{"state":"Dancing"},"sku"`, 1), Pending, ""},
	} {
		s.wire.do = func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: readCloser{strings.NewReader(tc.answer)}}, nil
		}
		r := s.room(tm)
		u, err := r.look(t.Context(), r.resources[0])
		if tc.state == "" {
			if err == nil {
				t.Errorf("%s: no error, %+v", name, u)
			}
			continue
		}
		if err != nil || u.State != tc.state || !strings.Contains(u.Detail, tc.detail) {
			t.Errorf("%s: %+v, %v, want %s %q", name, u, err, tc.state, tc.detail)
		}
	}
}
