package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxBody bounds a request: the largest real one, an attestation request with
// its certificates, is under 64 KiB.
const maxBody = 1 << 20

// Fault is how a service misbehaves. The zero Fault is a service in good order.
type Fault struct {
	// Latency is added before every answer.
	Latency time.Duration `json:"latency,omitempty"`
	// Status, 429 or 5xx, answers the next Times requests in place of the service.
	Status int `json:"status,omitempty"`
	Times  int `json:"times,omitempty"`
	// RetryAfter, whole seconds, is sent with Status.
	RetryAfter int `json:"retryAfter,omitempty"`
	// ClockSkew is added to the service's clock.
	ClockSkew time.Duration `json:"clockSkew,omitempty"`
	// ExpiredKeys has a vault treat every key as past its expiry.
	ExpiredKeys bool `json:"expiredKeys,omitempty"`
}

func (f Fault) check() error {
	if f.Latency < 0 || f.Times < 0 || f.RetryAfter < 0 {
		return fmt.Errorf("a fault's latency, times and retry-after are not negative")
	}
	if f.Status != 0 && f.Status != http.StatusTooManyRequests && (f.Status < 500 || f.Status > 599) {
		return fmt.Errorf("a fault's status is 429 or 5xx, not %d", f.Status)
	}
	return nil
}

// Server is one emulated service seen from outside: its name, clock, faults
// and log. It is safe for concurrent use.
type Server struct {
	Name string
	// MaxBody bounds a request's body, in bytes; 0 is 1 MiB, enough for all but
	// data.
	MaxBody int64
	log     *Log

	mu    sync.Mutex // guards fault
	fault Fault
}

// NewServer returns a service in good order that writes to log.
func NewServer(name string, log *Log) *Server { return &Server{Name: name, log: log} }

// SetFault replaces the service's fault.
func (s *Server) SetFault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	return nil
}

// Now is the service's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.fault.ClockSkew)
}

// ExpiredKeys says whether every key is to be past its expiry.
func (s *Server) ExpiredKeys() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault.ExpiredKeys
}

// next returns the fault for one request and counts it.
func (s *Server) next() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fault
	if f.Times == 0 {
		f.Status = 0
	} else {
		s.fault.Times--
	}
	return f
}

type entryKey struct{}

// Wrap serves h with the service's faults and writes a line of the log for
// every request.
func (s *Server) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := &Entry{Time: time.Now().UTC(), Service: s.Name, Method: r.Method, Path: r.URL.Path}
		w.Header().Set(SimulatedClaim, "true")
		answer := &recorder{ResponseWriter: w, status: http.StatusOK}
		r.Body = http.MaxBytesReader(answer, r.Body, cmp.Or(s.MaxBody, maxBody))
		defer func() {
			// A refusal made before the body was read would reach a client that is
			// still sending as a reset connection.
			io.Copy(io.Discard, r.Body) //nolint:errcheck // it is refused either way
			entry.Status = answer.status
			s.log.append(*entry)
		}()
		fault := s.next()
		if !wait(r.Context(), fault.Latency) {
			answer.status = 499 // the client went away; nobody reads an answer
			return
		}
		if fault.Status != 0 {
			fail(answer, fault)
			return
		}
		h.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), entryKey{}, entry)))
	})
}

func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func fail(w http.ResponseWriter, f Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	code := "InternalServerError"
	if f.Status == http.StatusTooManyRequests {
		code = "Throttled"
	}
	WriteError(w, f.Status, code, "The simulated service was told to fail.", "")
}

// SetCaller puts the authenticated caller's object id into the request's line
// of the log.
func SetCaller(r *http.Request, objectID string) {
	if e, ok := r.Context().Value(entryKey{}).(*Entry); ok {
		e.Caller = objectID
	}
}

// Note puts the reason of a refusal into the request's line of the log, where
// the service's own answer does not give it. It must hold nothing secret.
func Note(r *http.Request, format string, args ...any) {
	if e, ok := r.Context().Value(entryKey{}).(*Entry); ok {
		e.Note = fmt.Sprintf(format, args...)
	}
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client is gone
}

// WriteError answers in the error form of the cloud's services:
// {"error":{"code","message","innererror":{"code"}}}.
func WriteError(w http.ResponseWriter, status int, code, message, inner string) {
	type innerError struct {
		Code string `json:"code"`
	}
	body := struct {
		Code    string      `json:"code"`
		Message string      `json:"message"`
		Inner   *innerError `json:"innererror,omitempty"`
	}{Code: code, Message: message}
	if inner != "" {
		body.Inner = &innerError{inner}
	}
	WriteJSON(w, status, map[string]any{"error": body})
}

// ReadJSON decodes a request's body into v. Unknown fields are ignored, as the
// services ignore them; an empty body and trailing data are errors.
func ReadJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("request body: data after the JSON value")
	}
	return nil
}
