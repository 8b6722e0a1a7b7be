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

// order is what comes before what, for code volume "code" and data volume
// "source": each arrow but the last of a row is there, and comes before the next.
// A record counts from its inclusion in the ledger.
var order = [][]string{
	{"consent", "audit wrapped-dek code", "secret code", "audit kek code", "attestation", "release code", "audit code code", "read code",
		"audit wrapped-dek source", "secret source", "audit kek source", "release source", "audit data source", "read source",
		"audit execution", "application"},
	{"audit wrapped-dek source", "secret report"},
	{"audit wrapped-dek report", "secret report", "audit kek report", "release report", "audit data report", "audit execution"},
}

// outOfOrder says which arrows are not in the order, or not there. Of arrows that
// were seen several times the first counts.
func outOfOrder(arrows []arrow) error {
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
}

func observe(r *site) *observer {
	r.t.Helper()
	o := &observer{site: r, volumes: map[int]string{}, included: map[uint64]time.Time{}}
	var err error
	o.inotify, err = syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	must(r.t, err)
	r.t.Cleanup(func() { syscall.Close(o.inotify) })
	for store, name := range map[string]string{"code": "code", "input": "source"} {
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
	if slices.ContainsFunc(o.processes(), func(line string) bool { return strings.Contains(line, private+"/told") }) {
		o.arrows = append(o.arrows, arrow{time.Now(), "application"})
	}
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
		if e.Service == localcloud.Attestation && e.Method == http.MethodPost {
			arrows = append(arrows, arrow{e.Time, "attestation"})
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

// TestArrows: the order of the user flow's execution diagrams, joined of the
// ledger's verified record, the simulated cloud's log of requests, and what was
// read of the volumes: each access after the inclusion of its record, all of the
// code before any of the data, the application last.
func TestArrows(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) {
		c.Code = c.Path("sources")
		must(t, os.MkdirAll(c.Code, 0o755))
		must(t, os.WriteFile(filepath.Join(c.Code, "work.sh"), []byte("cat $IN/private/secret.txt > $OUT/result\n"), 0o644))
	})
	o := observe(r)
	began := time.Now()
	run := r.start()
	run.do("sh $CODE/work.sh")
	arrows := o.joined(began)
	run.tell("exit 0")
	run.ends(0)
	if got := r.decrypt(run.reference("output"))["result"]; got != "for the owner alone\n" {
		t.Errorf("the output has %q", got)
	}
	if err := outOfOrder(arrows); err != nil {
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
	// The check can fail: each arrow that comes just before the one it waits for.
	for _, row := range order {
		for i, what := range row[1:] {
			if outOfOrder(early(arrows, what, row[i])) == nil {
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
