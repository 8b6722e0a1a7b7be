package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/rogpeppe/go-internal/testscript"

	"cloister/internal/azurite"
)

// proxy stands before Azurite and does to requests what a script's strike
// says; what none strikes goes through.
type proxy struct {
	forward *httputil.ReverseProxy
	dir     string // of the script

	mu      sync.Mutex // guards strikes
	strikes []*strike
}

// strike is done to the next times requests it fits, or to all for 0:
//
//	STATUS[:CODE]   answer this, with the service's error code
//	hangup          drop the connection without an answer
//	stop            drop it in the middle of the answer's body
//	run:COMMAND     run a shell command, then let it through
type strike struct {
	method, name string
	times        int
	do           string
}

func startAzurite(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "azurite")
	server := azurite.Start(of(ts).t)
	target, err := url.Parse(server.Endpoint)
	ts.Check(err)
	p := &proxy{forward: httputil.NewSingleHostReverseProxy(target), dir: ts.MkAbs(".")}
	p.forward.FlushInterval = -1
	p.forward.ErrorLog = log.New(io.Discard, "", 0) // clients that hang up are part of the tests
	front := httptest.NewServer(p)
	ts.Defer(front.Close)
	of(ts).proxy = p
	volume := server.NewURL()
	ts.Setenv("URL", strings.Replace(volume, server.Endpoint, front.URL, 1))
	ts.Setenv("AZURE_STORAGE_CONNECTION_STRING", strings.ReplaceAll(server.ConnectionString(), server.Endpoint, front.URL))
	token, signature, err := signed(strings.Split(strings.TrimPrefix(volume, server.Endpoint), "/")[2])
	ts.Check(err)
	ts.Setenv("SAS", token)
	secret(ts, false, []string{azurite.Key, signature, url.QueryEscape(signature)})
}

// signed returns a SAS for a container, and the secret in it.
func signed(container string) (token, signature string, err error) {
	key, err := service.NewSharedKeyCredential(azurite.Account, azurite.Key)
	if err != nil {
		return "", "", err
	}
	query, err := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: time.Now().UTC().Add(time.Hour), ContainerName: container,
		Permissions: (&sas.ContainerPermissions{Read: true, Create: true, Write: true, List: true, Delete: true}).String(),
	}.SignWithSharedKey(key)
	return query.Encode(), query.Signature(), err
}

// strikeProxy replaces what the proxy does, or, without arguments, ends it. It
// also demands that the last strike has struck: a fault that never came about
// proves nothing.
func strikeProxy(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && (len(args) == 0 || len(args) == 4), "strike [METHOD NAME TIMES DO]")
	p := of(ts).proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.strikes {
		if s.times > 0 {
			ts.Fatalf("no request was struck by %s", s.do)
		}
	}
	p.strikes = nil
	if len(args) == 4 {
		times, err := strconv.Atoi(args[2])
		ts.Check(err)
		p.strikes = []*strike{{args[0], args[1], times, args[3]}}
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	do := p.next(r)
	command, isRun := strings.CutPrefix(do, "run:")
	switch {
	case isRun:
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			http.Error(w, string(out), http.StatusTeapot)
			return
		}
		p.forward.ServeHTTP(w, r)
	case do == "":
		p.forward.ServeHTTP(w, r)
	case do == "hangup":
		panic(http.ErrAbortHandler)
	case do == "stop":
		p.stop(w, r)
	default:
		answer(w, r, do)
	}
}

func (p *proxy) next(r *http.Request) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.strikes {
		if s.method != r.Method || !strings.Contains(r.URL.Path+"?"+r.URL.RawQuery, s.name) || s.times < 0 {
			continue
		}
		if s.times--; s.times == 0 {
			s.times = -1
		} else if s.times < 0 {
			s.times = 0 // always
		}
		return s.do
	}
	return ""
}

// stop lets half of the answer's body through.
func (p *proxy) stop(w http.ResponseWriter, r *http.Request) {
	whole := httptest.NewRecorder()
	p.forward.ServeHTTP(whole, r)
	for key, values := range whole.Header() {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
	w.WriteHeader(whole.Code)
	w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// answer is STATUS[:CODE] in the service's own form.
func answer(w http.ResponseWriter, r *http.Request, do string) {
	status, code, _ := strings.Cut(do, ":")
	n, err := strconv.Atoi(status)
	if err != nil {
		n = http.StatusTeapot
	}
	if code != "" {
		w.Header().Set("x-ms-error-code", code)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(n)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>as told</Message></Error>`, code)
	}
}
