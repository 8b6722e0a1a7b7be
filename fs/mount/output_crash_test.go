//go:build linux

package mount_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"cloister/internal/azurite"
)

// killer passes requests on to a blob service, and kills the daemon with the
// one that has the number at: before it is passed on, or when it has been
// answered and the answer is on its way.
type killer struct {
	*httptest.Server
	requests atomic.Int64
	at       int64 // set before kill is
	after    bool
	kill     atomic.Pointer[func()] // nil: all pass
}

// newProxy passes requests on to endpoint.
func newProxy(t *testing.T, endpoint string) *httputil.ReverseProxy {
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

func newKiller(t *testing.T, endpoint string, at int64, after bool) *killer {
	k := &killer{at: at, after: after}
	proxy := newProxy(t, endpoint)
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, kill := k.requests.Add(1), k.kill.Load()
		if kill == nil || n < k.at {
			proxy.ServeHTTP(w, r)
			return
		}
		if k.after && n == k.at {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		(*kill)()
	}))
	t.Cleanup(k.Close)
	return k
}

// promises makes files durable in every way and returns what was promised:
// what cannot be done any more was not.
func (s *site) promises(syncClose bool) map[string]string {
	promised := map[string]string{}
	put := func(name, text string, sync bool) error {
		f, err := os.Create(s.dir + "/" + name)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if sync {
			err = errors.Join(err, f.Sync())
		}
		if err = errors.Join(err, f.Close()); err == nil && (sync || syncClose) {
			promised[name] = text
		}
		return err
	}
	for i := range 3 {
		name, text := fmt.Sprint("f", i), strings.Repeat(fmt.Sprint("text ", i), 20_000)
		if put(name, text, true) != nil || put("closed"+name, text, false) != nil || put("new", text, true) != nil {
			return promised
		}
		// Until the directory is synced the name may be there or not.
		delete(promised, "new")
		if os.Rename(s.dir+"/new", s.dir+"/"+name+"renamed") != nil {
			return promised
		}
		d, err := os.Open(s.dir)
		if err != nil {
			return promised
		}
		if err = errors.Join(d.Sync(), d.Close()); err != nil {
			return promised
		}
		promised[name+"renamed"] = text
	}
	return promised
}

// TestOutputKilledAtEveryRequest kills the daemon, with SIGKILL, at each of its
// requests to the blob service, and finds what was promised byte for byte in
// the next mount.
func TestOutputKilledAtEveryRequest(t *testing.T) {
	server := azurite.Start(t)
	for _, syncClose := range []bool{false, true} {
		for at := int64(1); ; at++ {
			if !killedAt(t, server, at, at%2 == 0, syncClose) {
				if at < 10 {
					t.Errorf("the daemon made %d requests: nothing was tried", at-1)
				}
				break
			}
		}
	}
}

// killedAt reports whether the daemon came to that request.
func killedAt(t *testing.T, server *azurite.Server, at int64, after, syncClose bool) bool {
	s := newOutputSite(t, uint32(os.Geteuid()))
	k := newKiller(t, server.Endpoint, at, after)
	volume := server.NewURL()
	var args []string
	if syncClose {
		args = []string{"--sync", "close"}
	}
	s.volume = strings.Replace(volume, server.Endpoint, k.URL, 1)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", strings.Replace(server.ConnectionString(), server.Endpoint, k.URL, 1))
	// Requests of the mount itself pass: what they promise is nothing.
	d := s.mount(t, append(args, "--output")...)
	opening := k.requests.Load()
	k.at += opening
	kill := func() { d.cmd.Process.Kill() } // again when it is dead already: no matter
	k.kill.Store(&kill)
	promised := s.promises(syncClose)
	reached := k.requests.Load() >= k.at
	kill()
	d.wait()
	_ = syscall.Unmount(s.dir, syscall.MNT_DETACH)

	s.volume = volume
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
	d = s.mount(t, "--output")
	for name, text := range promised {
		reads(t, s.dir+"/"+name, text)
	}
	if t.Failed() {
		t.Fatalf("killed at request %d, after it: %v, sync close: %v", at, after, syncClose)
	}
	d.stop(s)
	return reached
}
