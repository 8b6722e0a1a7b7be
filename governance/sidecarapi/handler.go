// Package sidecarapi answers an application that was written for the governance
// sidecar of Azure's clean rooms, from the contract's own log.
//
// Life of a request: the application asks POST /consentcheck/execution, or logging
// or telemetry; the handler has the run ask the log, which is an append with a
// nonce, and answers "enabled" only if the verified log says yes. PUT /events is
// recorded as the application's words, by the run's key and with its time inside
// the signature, and acknowledged once it is in the verified log. Nothing else is
// offered: no key, no token, no contract. A call is seen to its end although the
// application has given it up: a record that is left on its way may still come
// into the log, and take the place of the run's next one.
//
// The paths and bodies are those of azure/azure-cleanroom, src/governance/sidecar.
package sidecarapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Run is what of a run the application may use: governance.Run is one.
type Run interface {
	CheckConsent(ctx context.Context, scope, what string) error
	RecordAppEvent(ctx context.Context, id, scope string, data []byte) error
}

var _ Run = (*governance.Run)(nil)

// answer is the sidecar's answer to a consent check.
type answer struct {
	Status string  `json:"status"` // enabled or disabled
	Reason *reason `json:"reason,omitempty"`
}

type reason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Handler serves the calls on behalf of run. contract is its id, which an event
// without an id is about.
func Handler(run Run, contract string) http.Handler {
	mux := http.NewServeMux()
	for _, scope := range []string{statement.ScopeExecution, statement.ScopeLogging, statement.ScopeTelemetry} {
		mux.HandleFunc("POST /consentcheck/"+scope, func(w http.ResponseWriter, r *http.Request) { checkConsent(w, r, run, scope) })
	}
	mux.HandleFunc("PUT /events", func(w http.ResponseWriter, r *http.Request) { putEvent(w, r, run, contract) })
	return mux
}

func checkConsent(w http.ResponseWriter, r *http.Request, run Run, scope string) {
	ctx, cancel := toTheEnd(r)
	defer cancel()
	err := run.CheckConsent(ctx, scope, "asked by the application")
	switch {
	case err == nil:
		reply(w, http.StatusOK, answer{Status: "enabled"})
	case fault.KindOf(err) == fault.Refused:
		reply(w, http.StatusOK, answer{"disabled", &reason{"ConsentRefused", err.Error()}})
	default:
		fail(w, http.StatusServiceUnavailable, "LedgerUnavailable", err)
	}
}

func putEvent(w http.ResponseWriter, r *http.Request, run Run, contract string) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, statement.MaxEventData))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		fail(w, http.StatusRequestEntityTooLarge, "EventTooLarge", err)
		return
	}
	if err != nil || json.Unmarshal(data, &map[string]json.RawMessage{}) != nil {
		fail(w, http.StatusBadRequest, "InvalidEvent", errors.New("the body is not a JSON object"))
		return
	}
	query := r.URL.Query()
	id := query.Get("id")
	if id == "" {
		id = contract
	}
	ctx, cancel := toTheEnd(r)
	defer cancel()
	err = run.RecordAppEvent(ctx, id, query.Get("scope"), data)
	switch kind := fault.KindOf(err); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case kind == fault.Refused || kind == fault.Conflict:
		fail(w, http.StatusForbidden, "EventRefused", err)
	case kind == fault.Unavailable:
		fail(w, http.StatusServiceUnavailable, "LedgerUnavailable", err)
	default:
		fail(w, http.StatusBadRequest, "InvalidEvent", err)
	}
}

// answerTime is how long the ledger has to answer a call, and those before it.
const answerTime = 30 * time.Second

func toTheEnd(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), answerTime)
}

func fail(w http.ResponseWriter, status int, code string, err error) {
	reply(w, status, map[string]reason{"error": {code, err.Error()}})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the application is gone
}
