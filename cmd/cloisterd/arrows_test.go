package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloister/internal/azurite"
	"cloister/internal/cleanroom"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/wire"
)

// arrow is one of the user flow's execution diagrams: when it was seen, and what
// it is, such as "audit kek code" or "read source".
type arrow struct {
	at   time.Time
	what string
}

// drawn is an arrow of a diagram, or a part of one: what it says there, and as what
// it is seen here.
type drawn struct{ arrow, seen string }

// cleanRoom is the diagram "Clean Room - Execution". A record counts from its
// inclusion in the ledger. Two arrows are later than they are drawn: the identity's
// token is got when it is first needed, so that a room that waits for a call has
// asked nobody for anything; and the application is made when it is to work, so that
// nothing of it is there while keys are fetched.
var cleanRoom = []drawn{
	{"Customer -> ACI -> Clean Room: Deploy template", "deploy"},
	{"Client -> Clean Room: DoWork()", "call"},
	{"Clean Room -> Governance: Consent/Check()", "consent"},
	{"Clean Room -> Governance: Audit/RecordAccess(Wrapped DEK)", "audit wrapped-dek source"},
	{"Clean Room -> AD: Get identity token", "identity token"},
	{"Clean Room -> AKV: Get(Wrapped DEK, identity token)", "secret source"},
	{"Clean Room -> Governance: Audit/RecordAccess(KEK)", "audit kek source"},
	{"over mHSM: Check Clean Room attestation", "attestation"},
	{"Clean Room -> mHSM: Get(KEK, attestation token)", "release source"},
	{"Clean Room -> Governance: Audit/RecordAccess(Data)", "audit data source"},
	{"Clean Room -> Blob: Download(encrypted data)", "read source"},
	{"Clean Room -> Governance: Audit/RecordExecution(Application)", "audit execution"},
	{"Clean Room -> Application (created): DoWork(clear data)", "application"},
	{"Application -> Clean Room, destroyed", "application gone"},
	{"Clean Room -> Governance: what became of it", "audit execution end"},
	{"Clean Room -> Client: Result, as the record has it", "end"},
}

// collaboration is the diagram "Collaboration - Execution": code volume "code" of
// one party, data volume "source" of another.
var collaboration = []drawn{
	{"ISV -> ACI -> Clean Room: Deploy template", "deploy"},
	{"Client -> Clean Room: DoWork()", "call"},
	{"Clean Room -> Governance: Consent/Check()", "consent"},
	{"Clean Room -> Governance: Audit/RecordAccess(Wrapped CodeDEK)", "audit wrapped-dek code"},
	{"Clean Room -> AD: Get identity token", "identity token"},
	{"Clean Room -> AKV: Get(Wrapped CodeDEK, identity token)", "secret code"},
	{"Clean Room -> Governance: Audit/RecordAccess(Wrapped CodeKEK)", "audit kek code"},
	{"over mHSM: Check attestation", "attestation"},
	{"Clean Room -> mHSM: Get(CodeKEK, attestation token)", "release code"},
	{"Clean Room -> Governance: Audit/RecordAccess(Code)", "audit code code"},
	{"Clean Room -> Blob: Download(encrypted code)", "read code"},
	{"Clean Room -> Governance: Audit/RecordAccess(Wrapped DataDEK)", "audit wrapped-dek source"},
	{"Clean Room -> AKV: Get(Wrapped DataDEK, identity token)", "secret source"},
	{"Clean Room -> Governance: Audit/RecordAccess(Wrapped DataKEK)", "audit kek source"},
	{"Clean Room -> mHSM: Get(DataKEK, attestation token)", "release source"},
	{"Clean Room -> Governance: Audit/RecordAccess(Data)", "audit data source"},
	{"Clean Room -> Blob: Download(encrypted data)", "read source"},
	{"Clean Room -> Governance: Audit/RecordExecution(Application)", "audit execution"},
	{"Clean Room -> Application (created): DoWork(clear data)", "application"},
	{"Application -> Clean Room -> Client: Result", "result"},
	{"Clean Room -x Application, destroyed", "application gone"},
	{"Clean Room -> Governance: what became of it", "audit execution end"},
	{"Clean Room -> Governance: the end, as the record has it", "end"},
}

// order is what comes before what in a room: the diagram, without what only a call
// or a client brings where there is none; and the same of the output, which the
// diagrams do not have. Each arrow but the last of a row is there, and comes before
// the next.
func (tc arrowsCase) order() [][]string {
	var row []string
	for _, d := range tc.diagram {
		if tc.called || d.seen != "call" && d.seen != "result" {
			row = append(row, d.seen)
		}
	}
	order := [][]string{row, {"audit wrapped-dek source", "secret report"},
		{"audit wrapped-dek report", "secret report", "audit kek report", "release report", "audit data report", "audit execution"}}
	if tc.blobs {
		order = append(order, []string{"audit data report", "write report", "end"})
	}
	return order
}

// outOfOrder says which arrows are not in the order, or not there. Of arrows that
// were seen several times the first counts.
func outOfOrder(order [][]string, arrows []arrow) error {
	first := map[string]time.Time{}
	for _, a := range arrows {
		if t, ok := first[a.what]; !ok || a.at.Before(t) {
			first[a.what] = a.at
		}
	}
	var errs []error
	for _, row := range order {
		for i, what := range row {
			if _, ok := first[what]; !ok {
				errs = append(errs, fmt.Errorf("there is no %q", what))
			} else if i > 0 && !first[row[i-1]].Before(first[what]) {
				errs = append(errs, fmt.Errorf("%q does not come after %q", what, row[i-1]))
			}
		}
	}
	return errors.Join(errs...)
}

// observer stands between the runtime and its ledger, and sees what else the
// runtime does. Before the runtime gets to know that records are included, what it
// has read of the volumes until then is noted: a read that comes too early cannot
// be taken for one that came after.
type observer struct {
	*site
	inotify int
	volumes map[int]string // by watch

	mu       sync.Mutex // guards what follows
	arrows   []arrow
	included map[uint64]time.Time // by entry
	there    bool                 // the application, when it was last looked for
}

func observe(r *site) *observer {
	r.t.Helper()
	o := &observer{site: r, volumes: map[int]string{}, included: map[uint64]time.Time{}}
	var err error
	o.inotify, err = syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	must(r.t, err)
	r.t.Cleanup(func() { syscall.Close(o.inotify) })
	for store, name := range map[string]string{"code": "code", "input": "source"} {
		if r.Azurite != "" || store == "code" && r.Code == "" {
			continue // its log tells of each read
		}
		must(r.t, filepath.WalkDir(r.Path("store", store), func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			watch, err := syscall.InotifyAddWatch(o.inotify, path, syscall.IN_OPEN|syscall.IN_ACCESS)
			o.volumes[watch] = name
			return err
		}))
	}
	o.beforeLedger()
	return o
}

// beforeLedger puts the observer in the ledger's place.
func (o *observer) beforeLedger() {
	o.t.Helper()
	address, file, _ := strings.Cut(o.Ledger, ",ca=")
	ledger, err := url.Parse(address)
	must(o.t, err)
	pem, err := os.ReadFile(file)
	must(o.t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		o.t.Fatal("the ledger has no certificate")
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = ledger.Scheme, ledger.Host, r.In.Host
			if r.In.Method == http.MethodPost {
				o.look()
			}
		},
		ModifyResponse: o.answered,
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	server := httptest.NewServer(proxy)
	o.t.Cleanup(server.Close)
	o.Ledger = server.URL + ledger.Path
}

// answered notes what an append's receipt says is included.
func (o *observer) answered(answer *http.Response) error {
	if answer.Request.Method != http.MethodPost || !strings.HasSuffix(answer.Request.URL.Path, "/entries") || answer.StatusCode != http.StatusOK {
		return nil
	}
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	answer.Body = io.NopCloser(bytes.NewReader(raw))
	var receipt struct{ Index, Count uint64 }
	if err := json.Unmarshal(raw, &receipt); err != nil {
		return err
	}
	o.look()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range receipt.Count {
		o.included[receipt.Index+i] = time.Now()
	}
	return nil
}

// look notes what has been read of the volumes, and whether the application is
// there.
func (o *observer) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	buffer := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(o.inotify, buffer)
		if err != nil || n <= 0 {
			break // there is no more
		}
		for at := 0; at < n; {
			watch, mask, length := int(int32(le32(buffer[at:]))), le32(buffer[at+4:]), int(le32(buffer[at+12:]))
			if at += syscall.SizeofInotifyEvent + length; mask&syscall.IN_Q_OVERFLOW != 0 {
				o.arrows = append(o.arrows, arrow{time.Time{}, "reads were lost"})
			} else if mask&syscall.IN_ISDIR == 0 {
				o.arrows = append(o.arrows, arrow{time.Now(), "read " + o.volumes[watch]})
			}
		}
	}
	there := slices.ContainsFunc(o.processes(), func(line string) bool { return strings.Contains(line, private+"/told") })
	switch {
	case there:
		o.arrows = append(o.arrows, arrow{time.Now(), "application"})
	case o.there:
		o.arrows = append(o.arrows, arrow{time.Now(), "application gone"})
	}
	o.there = there
}

// saw notes what the test itself did, or was given.
func (o *observer) saw(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrows = append(o.arrows, arrow{time.Now(), what})
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// joined is everything: what was seen, the verified record by when the ledger had
// included it, and the simulated cloud's log of requests since the run began.
func (o *observer) joined(began time.Time) []arrow {
	o.t.Helper()
	o.look()
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Concat(o.arrows, o.recorded(), o.requested(began))
}

// recorded is what the record says, of what the ledger included in this run.
func (o *observer) recorded() (arrows []arrow) {
	o.t.Helper()
	o.cloister("audit", "verify", "--ledger", o.Path("ledger"))
	dec := json.NewDecoder(strings.NewReader(o.cloister("audit", "list", "--json", "--ledger", o.Path("ledger"))))
	for dec.More() {
		var e struct {
			Entry uint64
			Type  string
			Body  struct{ What, Volume, Phase string }
		}
		must(o.t, dec.Decode(&e))
		at, ok := o.included[e.Entry]
		switch {
		case !ok:
		case e.Type == "consent-check":
			arrows = append(arrows, arrow{at, "consent"})
		case e.Type == "completion":
			arrows = append(arrows, arrow{at, "end"})
		case e.Type == "job":
			arrows = append(arrows, arrow{at, map[string]string{"start": "audit job", "end": "audit job end", "result": "audit result"}[e.Body.Phase]})
		case e.Body.Phase != "":
			arrows = append(arrows, arrow{at, strings.TrimSpace("audit execution " + strings.TrimPrefix(e.Body.Phase, "start"))})
		case e.Body.Volume != "":
			arrows = append(arrows, arrow{at, "audit " + e.Body.What + " " + e.Body.Volume})
		}
	}
	return arrows
}

// requested is what the simulated cloud was asked.
func (o *observer) requested(began time.Time) (arrows []arrow) {
	o.t.Helper()
	log, err := os.Open(o.Path("cloud", localcloud.RequestsFile))
	must(o.t, err)
	defer log.Close()
	owned := map[string]string{"hospital": "source", "analyst": "report", "author": "code"}
	for dec := json.NewDecoder(log); dec.More(); {
		var e wire.Entry
		must(o.t, dec.Decode(&e))
		if e.Time.Before(began) {
			continue
		}
		switch {
		case e.Service == localcloud.Attestation && e.Method == http.MethodPost:
			arrows = append(arrows, arrow{e.Time, "attestation"})
		case e.Service == localcloud.Managed:
			arrows = append(arrows, arrow{e.Time, "identity token"})
		case e.Service == localcloud.Blob:
			arrows = append(arrows, o.blobRequest(e))
		}
		for party, volume := range owned {
			switch {
			case e.Service == localcloud.Vault && strings.Contains(e.Path, "/secrets/"+party+"-dek"):
				arrows = append(arrows, arrow{e.Time, "secret " + volume})
			case e.Service == localcloud.HSM && strings.Contains(e.Path, "/keys/"+party+"-kek") && strings.HasSuffix(e.Path, "/release"):
				arrows = append(arrows, arrow{e.Time, "release " + volume})
			}
		}
	}
	return arrows
}

// blobRequest is a request to the blob service, refused ones too.
func (o *observer) blobRequest(e wire.Entry) arrow {
	verb := map[string]string{http.MethodGet: "read ", http.MethodHead: "read "}[e.Method]
	if verb == "" {
		verb = "write "
	}
	for store, volume := range map[string]string{"code": "code", "input": "source", "output": "report"} {
		if strings.Contains(e.Path, "/"+o.Container(store)) {
			return arrow{e.Time, verb + volume}
		}
	}
	return arrow{e.Time, verb + e.Path}
}

// arrowsCase is a room whose run is observed.
type arrowsCase struct {
	diagram []drawn
	blobs   bool // volumes are in Azurite, behind a proxy that checks roles
	called  bool // application.start is manual, and a client calls
}

// TestArrows: the order of the user flow's execution diagrams, arrow by arrow, joined
// of the ledger's verified record, the simulated cloud's log of requests, its blob
// service's among them, and what was read of volumes in directories: each access
// after the inclusion of its record, all of the code before any of the data, the
// application last. Started with the container, that begins by itself; started by
// hand, with a client's call and not before.
func TestArrows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]arrowsCase{
		"a clean room":        {diagram: cleanRoom},
		"a clean room, blobs": {diagram: cleanRoom, blobs: true},
		"a collaboration":     {diagram: collaboration},
		"a collaboration, blobs, when it is called": {diagram: collaboration, blobs: true, called: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.observe(t)
		})
	}
}

func (tc arrowsCase) observe(t *testing.T) {
	port := freePort(t)
	r := tc.room(t, port)
	o := observe(r)
	began := time.Now()
	o.saw("deploy")
	run := r.launch()
	if tc.called {
		until(t, "the run waits", func() bool { return strings.Contains(run.stderr.String(), "the run waits for a call") })
		o.saw("call")
		r.cloister(append(r.By("analyst", "job", "start", "127.0.0.1:"+port), "--platform", "simulated:"+r.Path("guest"))...)
	}
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	if o.look(); r.Code == "" {
		run.do("cat $IN/private/secret.txt > $OUT/result")
	} else {
		run.do("sh $CODE/work.sh")
	}
	if tc.called {
		until(t, "the client has its result", func() bool {
			got, _ := r.Cloister(append(r.By("analyst", "call", "https://127.0.0.1:"+port+"/read"), "--platform", "simulated:"+r.Path("guest"))...)
			return got == "for the owner alone"
		})
		o.saw("result")
	}
	run.tell("exit 0")
	run.ends(0)
	if got := r.decrypt(run.reference("output"))["result"]; got != "for the owner alone\n" {
		t.Errorf("the output has %q", got)
	}
	judgeArrows(t, tc.order(), o.joined(began))
}

// room has code where the diagram has, and a server where there is a client.
func (tc arrowsCase) room(t *testing.T, port string) *site {
	return newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
		work := "cat $IN/private/secret.txt > $OUT/result\n"
		if tc.blobs {
			c.Azurite, c.Roles = azurite.Start(t).Endpoint, true
		}
		if tc.called {
			buildProgram(t, c, "server")
			work += "$IN/server 8080 >/dev/null 2>&1 &\n"
			c.Application = []string{"--start", "manual"}
			c.Ports = [][]string{{"--name", "web", "--port", port, "--application-port", "8080"}}
		}
		if tc.diagram[0] == collaboration[0] {
			c.Code = c.Path("sources")
			must(t, os.MkdirAll(c.Code, 0o755))
			must(t, os.WriteFile(filepath.Join(c.Code, "work.sh"), []byte(work), 0o644))
		}
	})
}

// judgeArrows judges them, and that the judgement can fail: of each arrow that comes
// just before the one it waits for.
func judgeArrows(t *testing.T, order [][]string, arrows []arrow) {
	t.Helper()
	if err := outOfOrder(order, arrows); err != nil {
		slices.SortStableFunc(arrows, func(a, b arrow) int { return a.at.Compare(b.at) })
		for _, a := range arrows {
			t.Log(a.at.Format("05.000000"), a.what)
		}
		t.Fatal(err)
	}
	for _, a := range arrows {
		if a.what == "reads were lost" {
			t.Error("the kernel lost reads: the order proves nothing")
		}
	}
	for _, row := range order {
		for i, what := range row[1:] {
			if outOfOrder(order, early(arrows, what, row[i])) == nil {
				t.Errorf("%q before %q passes", what, row[i])
			}
		}
	}
}

// early has an arrow, where it is first seen, come before another.
func early(arrows []arrow, what, before string) []arrow {
	first := func(what string) (t time.Time) {
		for _, a := range arrows {
			if a.what == what && (t.IsZero() || a.at.Before(t)) {
				t = a.at
			}
		}
		return t
	}
	return append(slices.Clone(arrows), arrow{first(before).Add(-1), what})
}
