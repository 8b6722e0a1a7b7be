package azure

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/internal/azurite"
)

// proxy stands in front of Azurite and does to the requests of an object what a
// test tells it to. What it does not strike goes through.
type proxy struct {
	*httptest.Server
	azurite *azurite.Server
	forward *httputil.ReverseProxy

	mu      sync.Mutex // guards all below
	strikes []strike
	seen    []*http.Request
}

// strike is done to the requests it fits, as often as times says.
type strike struct {
	method string // "" for any
	query  string // contained in the URL's query
	times  int    // 0 for always
	do     func(p *proxy, w http.ResponseWriter, r *http.Request)
}

func newProxy(t *testing.T) *proxy {
	p := &proxy{azurite: azurite.Start(t)}
	target, err := url.Parse(p.azurite.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p.forward = httputil.NewSingleHostReverseProxy(target)
	p.forward.FlushInterval = -1
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// open opens a fresh volume behind the proxy, with short waits.
func (p *proxy) open(t *testing.T) *Store {
	t.Helper()
	t.Setenv(connectionVariable, strings.ReplaceAll(p.azurite.ConnectionString(), p.azurite.Endpoint, p.URL))
	url := strings.Replace(p.azurite.NewURL(), p.azurite.Endpoint, p.URL, 1)
	return openURL(t, url, Options{Patience: 2 * time.Second})
}

// set replaces the strikes and forgets the requests seen.
func (p *proxy) set(strikes ...strike) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strikes, p.seen = strikes, nil
}

func (p *proxy) requests(method string) []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var fit []*http.Request
	for _, r := range p.seen {
		if r.Method == method {
			fit = append(fit, r)
		}
	}
	return fit
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if do := p.next(r); do != nil {
		do(p, w, r)
		return
	}
	p.forward.ServeHTTP(w, r)
}

func (p *proxy) next(r *http.Request) func(*proxy, http.ResponseWriter, *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r)
	for i := range p.strikes {
		s := &p.strikes[i]
		if s.method != "" && s.method != r.Method || !strings.Contains(r.URL.RawQuery, s.query) || s.times < 0 {
			continue
		}
		if s.times == 1 {
			s.times = -1
		} else if s.times > 1 {
			s.times--
		}
		return s.do
	}
	return nil
}

// answers is a strike's answer in the service's own form.
func answers(status int, code string, headers ...string) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(_ *proxy, w http.ResponseWriter, r *http.Request) {
		if code != "" {
			w.Header().Set("x-ms-error-code", code)
		}
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>as told</Message></Error>`, code)
		}
	}
}

// hangUp drops the connection without an answer.
func hangUp(*proxy, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// loses passes the request on and drops the answer.
func loses(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// stopsAfter lets n bytes of the answer's body through and then calls end.
func stopsAfter(n int, end func(r *http.Request)) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		whole := httptest.NewRecorder()
		p.forward.ServeHTTP(whole, r)
		for key, values := range whole.Header() {
			w.Header()[key] = values
		}
		w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
		w.WriteHeader(whole.Code)
		w.Write(whole.Body.Bytes()[:n])
		w.(http.Flusher).Flush()
		end(r)
		panic(http.ErrAbortHandler)
	}
}

// drips lets n bytes of the answer's body through every so often.
func drips(n int, every time.Duration) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		whole := httptest.NewRecorder()
		p.forward.ServeHTTP(whole, r)
		for key, values := range whole.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(whole.Code)
		for body := range slices.Chunk(whole.Body.Bytes(), n) {
			time.Sleep(every)
			w.Write(body)
			w.(http.Flusher).Flush()
		}
	}
}

func atOnce(*http.Request)    {}
func hanging(r *http.Request) { <-r.Context().Done() }
