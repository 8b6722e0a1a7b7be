package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"cloister/internal/fault"
)

// Traces are one request of OTLP over HTTP in its JSON form (opentelemetry-proto,
// collector/trace/v1), sent once, at the end: a run has some twenty spans, one for
// each step. The SDK is not linked for that: see the figures at Metrics.

type otlp struct {
	ResourceSpans []resourceSpans `json:"resourceSpans"`
}

type resourceSpans struct {
	Resource   attributes   `json:"resource"`
	ScopeSpans []scopeSpans `json:"scopeSpans"`
}

type scopeSpans struct {
	Scope struct {
		Name string `json:"name"`
	} `json:"scope"`
	Spans []span `json:"spans"`
}

type attributes struct {
	Attributes []attribute `json:"attributes"`
}

type attribute struct {
	Key   string `json:"key"`
	Value struct {
		StringValue string `json:"stringValue"`
	} `json:"value"`
}

type span struct {
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
	Parent  string `json:"parentSpanId,omitempty"`
	Name    string `json:"name"`
	Kind    int    `json:"kind"` // 1: internal
	Start   string `json:"startTimeUnixNano"`
	End     string `json:"endTimeUnixNano"`
}

// trace is the run as spans: the whole, and below it each step, from the one
// before it on. The run's id is the trace's.
func (s status) trace(began, now time.Time) otlp {
	named := func(key, value string) (a attribute) {
		a.Key, a.Value.StringValue = key, value
		return a
	}
	make := func(name, parent string, from, to time.Time) span {
		var id [8]byte
		rand.Read(id[:])
		return span{s.Run, hex.EncodeToString(id[:]), parent, name, 1, strconv.FormatInt(from.UnixNano(), 10), strconv.FormatInt(to.UnixNano(), 10)}
	}
	whole := make("run", "", began, now)
	spans, from := []span{whole}, began
	for _, st := range s.Steps {
		to := began.Add(time.Duration(st.Seconds * float64(time.Second)))
		spans = append(spans, make(st.Name, whole.SpanID, from, to))
		from = to
	}
	scope := scopeSpans{Spans: spans}
	scope.Scope.Name = "cloisterd"
	resource := attributes{[]attribute{named("service.name", "cloisterd"), named("cloister.contract", s.Contract), named("cloister.run", s.Run)}}
	return otlp{[]resourceSpans{{resource, []scopeSpans{scope}}}}
}

// sendTrace tells the run's trace, if that was asked for and is allowed. What comes
// of it changes nothing about the run.
func (r *room) sendTrace(ctx context.Context) {
	r.observed.mu.Lock()
	allowed, to := r.observed.allowed, r.observed.traces
	r.observed.mu.Unlock()
	if !allowed || to == nil {
		return
	}
	if err := post(ctx, to.String(), r.monitor.read().trace(processBegan(), time.Now())); err != nil {
		r.log.Warn("the trace was not taken", "error", err)
	}
}

func post(ctx context.Context, to string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16))
	if answer.StatusCode/100 != 2 {
		return fault.Errorf(fault.Unavailable, "", "the collector answered %s", answer.Status)
	}
	return nil
}
