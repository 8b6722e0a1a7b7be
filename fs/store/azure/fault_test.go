package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// Every answer that no retry changes becomes an error of its kind, at once,
// that names store and object and says what to do.
func TestAnswers(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
		hint   string
	}{
		{401, "InvalidAuthenticationInfo", fault.Denied, connectionVariable},
		{403, "AuthenticationFailed", fault.Denied, connectionVariable},
		{403, "AuthorizationPermissionMismatch", fault.Denied, connectionVariable},
		{403, "", fault.Denied, connectionVariable},
		{403, "KeyBasedAuthenticationNotPermitted", fault.Denied, "az login"},
		{403, "AuthorizationSourceIPMismatch", fault.Denied, "firewall"},
		{404, "ContainerNotFound", fault.NotFound, "create the container"},
		{404, "ResourceNotFound", fault.NotFound, "check the account"},
		{404, "", fault.NotFound, "check the account"},
		{409, "BlobImmutableDueToPolicy", fault.Conflict, "immutability policy"},
		{409, "", fault.Conflict, "immutability policy"},
		{412, "LeaseIdMissing", fault.Conflict, "lease"},
		{412, "ConditionNotMet", fault.Refused, "never change"},
		{400, "InvalidHeaderValue", fault.Internal, ""},
		{302, "", fault.Internal, ""},
	} {
		p.set(strike{do: answers(c.status, c.code, "Location", p.URL+"/elsewhere")})
		for call, err := range calls(t.Context(), s) {
			if fault.KindOf(err) != c.kind {
				t.Errorf("%d %s, %s: kind %v, want %v: %v", c.status, c.code, call, fault.KindOf(err), c.kind, err)
				continue
			}
			if errors.Is(err, object.ErrNotExist) || errors.Is(err, object.ErrExist) {
				t.Errorf("%d %s, %s: is taken for a sentinel: %v", c.status, c.code, call, err)
			}
			said := fmt.Sprintf("the store answers %d %s", c.status, orStatus(c.code, c.status))
			if !strings.Contains(err.Error(), s.String()) || !strings.Contains(err.Error(), said) || call != "List" && !strings.Contains(err.Error(), "object d/") {
				t.Errorf("%d %s, %s: %q must name the store and the object and say %q", c.status, c.code, call, err, said)
			}
			if hints := strings.Join(fault.Hints(err), " "); !strings.Contains(hints, c.hint) || (c.hint != "") != (hints != "") {
				t.Errorf("%d %s, %s: hint %q, want one with %q", c.status, c.code, call, hints, c.hint)
			}
		}
		if got := len(p.requests(http.MethodHead)); got != 1 {
			t.Errorf("%d %s: Size made %d requests, want 1: there is nothing to retry", c.status, c.code, got)
		}
	}
}

func TestTheMessage(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	p.set(strike{do: answers(403, "AuthorizationPermissionMismatch")})
	s.credential = byIdentity
	for _, c := range []struct {
		err  error
		text string
		role string
	}{
		{s.Get(t.Context(), "d/3f", 0, make([]byte, 1)), "reading object d/3f of %s: the store answers 403 AuthorizationPermissionMismatch", "Reader"},
		{s.Put(t.Context(), "d/3f", nil), "writing object d/3f of %s: the store answers 403 AuthorizationPermissionMismatch", "Contributor"},
	} {
		if want := fmt.Sprintf(c.text, s); c.err.Error() != want {
			t.Errorf("error %q, want %q", c.err, want)
		}
		want := "give this identity the role Storage Blob Data " + c.role + " on the container"
		if hints := fault.Hints(c.err); len(hints) != 1 || !strings.HasPrefix(hints[0], want) {
			t.Errorf("hints %q, want one that begins %q", hints, want)
		}
	}
}

// A failure that passes is not seen.
func TestPassingFailures(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	for name, do := range map[string]func(*proxy, http.ResponseWriter, *http.Request){
		"408":                  answers(408, ""),
		"429":                  answers(429, "TooManyRequests", "Retry-After", "0"),
		"500":                  answers(500, "InternalError"),
		"502":                  answers(502, ""),
		"503":                  answers(503, "ServerBusy", "x-ms-retry-after-ms", "20"),
		"504":                  answers(504, ""),
		"a dropped connection": hangUp,
	} {
		t.Run(name, func(t *testing.T) {
			p.set()
			data := pattern(blockSize + 1000)
			s.Delete(t.Context(), "d/x")
			s.Delete(t.Context(), "d/y")
			p.set(strike{method: "GET", times: 2, do: do}, strike{method: "PUT", times: 2, do: do},
				strike{method: "HEAD", times: 2, do: do}, strike{method: "DELETE", times: 2, do: do})
			if err := s.Put(t.Context(), "d/x", data); err != nil {
				t.Error(err)
			}
			if err := s.Put(t.Context(), "d/y", data[:1000]); err != nil {
				t.Error(err)
			}
			got := make([]byte, len(data))
			if err := s.Get(t.Context(), "d/x", 0, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("Get: %v", err)
			}
			if size, err := s.Size(t.Context(), "d/x"); err != nil || size != int64(len(data)) {
				t.Errorf("Size: %d, %v", size, err)
			}
			n := 0
			for _, err := range s.List(t.Context(), "") {
				if n++; err != nil {
					t.Error(err)
				}
			}
			if n != 2 {
				t.Errorf("%d objects listed, want 2", n)
			}
			if err := s.Delete(t.Context(), "d/x"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A failure that stays is Unavailable once patience is over, and the message
// has the store's last words.
func TestLastingFailures(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	s.patience = 300 * time.Millisecond
	for name, c := range map[string]struct {
		do   func(*proxy, http.ResponseWriter, *http.Request)
		want string
	}{
		"429":                  {answers(429, "TooManyRequests"), "the store answers 429 TooManyRequests; gave up after"},
		"503, away for long":   {answers(503, "ServerBusy", "Retry-After", "3600"), "the store answers 503 ServerBusy; gave up after"},
		"500":                  {answers(500, "InternalError"), "the store answers 500 InternalError; gave up after"},
		"a dropped connection": {hangUp, "; gave up after"},
	} {
		p.set(strike{do: c.do})
		for call, err := range calls(t.Context(), s) {
			if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fmt.Sprint(err), c.want) || len(fault.Hints(err)) == 0 {
				t.Errorf("%s, %s: %v: %v %q, want %q", name, call, fault.KindOf(err), err, fault.Hints(err), c.want)
			}
		}
	}
}

// A body that stops, or stalls, is taken up where it stopped, and only from the
// same version of the object.
func TestBodyThatStops(t *testing.T) {
	for name, end := range map[string]func(*http.Request){"stops": atOnce, "stalls": hanging} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t)
			s := p.open(t)
			data := pattern(1 << 20)
			if err := s.Put(t.Context(), "d/x", data); err != nil {
				t.Fatal(err)
			}
			s.stall = 500 * time.Millisecond
			p.set(strike{method: "GET", times: 1, do: stopsAfter(70_000, end)}, strike{method: "GET", times: 1, do: stopsAfter(0, end)},
				strike{method: "GET", times: 1, do: stopsAfter(30_000, end)})
			got := make([]byte, 500_000)
			if err := s.Get(t.Context(), "d/x", 1000, got); err != nil || !bytes.Equal(got, data[1000:501_000]) {
				t.Fatalf("Get: %v", err)
			}
			var ranges []string
			for i, r := range p.requests(http.MethodGet) {
				ranges = append(ranges, r.Header.Get("x-ms-range")+r.Header.Get("Range"))
				if (r.Header.Get("If-Match") != "") != (i > 0) {
					t.Errorf("request %d: If-Match %q", i, r.Header.Get("If-Match"))
				}
			}
			want := []string{"bytes=1000-500999", "bytes=71000-500999", "bytes=71000-500999", "bytes=101000-500999"}
			if fmt.Sprint(ranges) != fmt.Sprint(want) {
				t.Errorf("ranges asked for: %q, want %q", ranges, want)
			}
		})
	}
}

// A body that comes slowly, for many times a stall in all, is waited for.
func TestBodyThatIsSlow(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	data := pattern(30_000)
	if err := s.Put(t.Context(), "d/x", data); err != nil {
		t.Fatal(err)
	}
	s.stall, s.patience = 500*time.Millisecond, time.Millisecond
	p.set(strike{method: "GET", do: drips(1000, 50*time.Millisecond)})
	got := make([]byte, len(data))
	start := time.Now()
	if err := s.Get(t.Context(), "d/x", 0, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Get: %v", err)
	}
	if took := time.Since(start); took < s.stall || len(p.requests(http.MethodGet)) != 1 {
		t.Errorf("%d requests in %v, which must be one, longer than a stall", len(p.requests(http.MethodGet)), took)
	}
}

func TestObjectReplacedWhileRead(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	if err := s.Put(t.Context(), "d/x", pattern(100_000)); err != nil {
		t.Fatal(err)
	}
	replace := func(*http.Request) {
		if err := s.Delete(context.Background(), "d/x"); err != nil {
			t.Error(err)
		}
		if err := s.Put(context.Background(), "d/x", make([]byte, 100_000)); err != nil {
			t.Error(err)
		}
	}
	p.set(strike{method: "GET", times: 1, do: stopsAfter(50_000, replace)})
	err := s.Get(t.Context(), "d/x", 0, make([]byte, 100_000))
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "412 ConditionNotMet") {
		t.Errorf("bytes of two objects as one: %v", err)
	}
}

// An answer lost on the way back: the retry finds the name taken, and what is
// there decides.
func TestLostAnswerToPut(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	for name, c := range map[string]struct {
		size  int
		query string
	}{"in one request": {1000, ""}, "in blocks": {2*blockSize + 5, "comp=blocklist"}} {
		t.Run(name, func(t *testing.T) {
			p.set(strike{method: "PUT", query: c.query, times: 1, do: loses})
			mine := fmt.Sprintf("d/mine%d", c.size)
			if err := s.Put(t.Context(), mine, pattern(c.size)); err != nil {
				t.Errorf("the object is ours, and Put says: %v", err)
			}
			if got := len(p.requests(http.MethodHead)); got != 1 {
				t.Errorf("%d looks at the object, want 1: the answer was not lost", got)
			}

			// Now somebody else was first, and of the same length.
			theirs := fmt.Sprintf("d/theirs%d", c.size)
			p.set()
			other := pattern(c.size)
			other[c.size-1] ^= 1
			if err := s.Put(t.Context(), theirs, other); err != nil {
				t.Fatal(err)
			}
			p.set(strike{method: "PUT", query: c.query, times: 1, do: hangUp})
			err := s.Put(t.Context(), theirs, pattern(c.size))
			if !errors.Is(err, object.ErrExist) || fault.KindOf(err) != fault.Conflict {
				t.Errorf("another's object, and Put says: %v", err)
			}

			// And without a lost answer, even the same bytes are a taken name.
			p.set()
			if err := s.Put(t.Context(), mine, pattern(c.size)); !errors.Is(err, object.ErrExist) {
				t.Errorf("the same bytes again: %v", err)
			}
			if got := len(p.requests(http.MethodHead)); got != 0 {
				t.Errorf("%d looks at the object, want none", got)
			}
		})
	}
}

// A service that refuses a large body without reading it resets the connection;
// the reason still reaches the user.
func TestRefusedWithoutReading(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	p.set(strike{method: "PUT", times: 1, do: hangUp}, strike{method: "PUT", do: answers(403, "AuthorizationFailure")})
	err := s.Put(t.Context(), "d/x", pattern(blockSize))
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "403 AuthorizationFailure") {
		t.Errorf("Put: %v: %v", fault.KindOf(err), err)
	}
	puts := p.requests(http.MethodPut)
	if len(puts) != 2 || puts[0].Header.Get("Expect") != "" || puts[1].Header.Get("Expect") != "100-continue" {
		t.Errorf("%d requests; the second must hold its body back", len(puts))
	}
}

// Blocks that were staged and are gone, because another writer's commit has
// discarded them.
func TestLostBlocks(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	data := pattern(blockSize + 1)
	lost := strike{method: "PUT", query: "comp=blocklist", do: answers(400, "InvalidBlockList")}
	p.set(lost, strike{method: "PUT", query: "comp=block", do: answers(201, "")}) // Azurite would show what is only staged
	err := s.Put(t.Context(), "d/x", data)
	if fault.KindOf(err) != fault.Internal || errors.Is(err, object.ErrExist) {
		t.Errorf("with nobody there: %v", err)
	}
	p.set(lost)
	if err := s.Put(t.Context(), "d/x", data[:10]); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "d/x", data); !errors.Is(err, object.ErrExist) {
		t.Errorf("with another's object there: %v", err)
	}
}

// What answers is not what was asked for.
func TestWrongAnswers(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	if err := s.Put(t.Context(), "d/x", pattern(1000)); err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{"", "bytes 0-99/1000", "bytes 101-200/1000", "bytes 100-199/*", "bytes 100-500/1000", "bytes 100-99/1000",
		"chunks 1-2/3", "bytes 100-199/99999999999999999999"} {
		p.set(strike{method: "GET", do: func(_ *proxy, w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set("Content-Range", header)
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(make([]byte, 1000))
		}})
		err := s.Get(t.Context(), "d/x", 100, make([]byte, 100))
		if fault.KindOf(err) != fault.Refused || len(fault.Hints(err)) == 0 || len(p.requests("GET")) != 1 {
			t.Errorf("Content-Range %q: %v: %v", header, fault.KindOf(err), err)
		}
	}
}

// A server that gives less of a range than was asked for is asked for the rest.
func TestServedInPieces(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	data := pattern(1000)
	p.set(strike{method: "GET", do: func(_ *proxy, w http.ResponseWriter, r *http.Request) {
		var first, last int
		fmt.Sscanf(r.Header.Get("x-ms-range")+r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
		last = min(last, first+299)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/1000", first, last))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data[first : last+1])
	}})
	got := make([]byte, 900)
	if err := s.Get(t.Context(), "d/x", 50, got); err != nil || !bytes.Equal(got, data[50:950]) {
		t.Errorf("Get: %v", err)
	}
}

func TestListingOutOfOrder(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	item := func(name string) string {
		return "<Blob><Name>volume/" + name + "</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>"
	}
	for _, names := range [][]string{{"d/2", "d/1"}, {"d/1", "d/1"}} {
		p.set(strike{do: func(_ *proxy, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprintf(w, `<?xml version="1.0"?><EnumerationResults><Blobs>%s%s</Blobs><NextMarker/></EnumerationResults>`, item(names[0]), item(names[1]))
		}})
		var last error
		for _, err := range s.List(t.Context(), "") {
			last = err
		}
		if fault.KindOf(last) != fault.Refused || !strings.Contains(last.Error(), "not in order") {
			t.Errorf("%q: %v", names, last)
		}
	}
}
