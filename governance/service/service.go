package service

import (
	_ "embed"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/page"
	"cloister/governance/remote"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// OpenAPI is the description of the interface, OpenAPI 3.1 in JSON.
//
//go:embed openapi.json
var OpenAPI []byte

// Options are what a service serves, and to whom.
type Options struct {
	Logs map[string]*ledger.Ledger // by the first part of their paths
	Log  *slog.Logger
	// AnyoneReads lets requests read that nobody signed: the record is then open to
	// whoever reaches the server.
	AnyoneReads bool
	// Evidence judges the evidence of a run that is to begin under a contract, so that
	// it may read before it has begun. Nil lets no run read before.
	Evidence func(*statement.RunBegin, statement.Contract) error
	// Attestations are what attested logs show of themselves, by their names in Logs.
	Attestations map[string]remote.Attestation
	// Rate is how many requests a second one address has, and Rate more at once.
	Rate int
}

// service answers requests.
type service struct {
	Options
	limit   *limiter
	readers *readers
}

// New returns the service's handler.
func New(o Options) http.Handler {
	s := &service{Options: o, limit: newLimiter(o.Rate), readers: newReaders(o.Logs)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openapi.json", s.openAPI)
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /{log}/checkpoint", s.answer(s.checkpoint))
	mux.HandleFunc("GET /{log}/key", s.answer(s.key))
	mux.HandleFunc("GET /{log}/attestation", s.answer(s.attestation))
	mux.HandleFunc("GET /{log}/contract", s.answer(s.contract))
	mux.HandleFunc("POST /{log}/readers", s.answer(s.introduce))
	mux.HandleFunc("/{log}/readers", s.otherMethod("POST"))
	mux.HandleFunc("GET /{log}/refused", s.answer(s.refused))
	mux.HandleFunc("GET /{log}/tile/{path...}", s.answer(s.tile))
	mux.HandleFunc("GET /{log}/page/", s.page)
	mux.HandleFunc("POST /{log}/entries", s.answer(s.append))
	mux.HandleFunc("/{log}/entries", s.otherMethod("POST"))
	mux.HandleFunc("/", s.notThere)
	return s.limited(mux)
}

// answer finds the log and answers with what do returns.
func (s *service) answer(do func(*http.Request, *ledger.Ledger) ([]byte, string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l, ok := s.Logs[r.PathValue("log")]
		if !ok {
			s.notThere(w, r)
			return
		}
		raw, media, err := do(r, l)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		send(w, http.StatusOK, media, raw)
	}
}

func send(w http.ResponseWriter, status int, media string, raw []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a client that went away has no need of it
}

const (
	plainText = "text/plain; charset=utf-8"
	bytesType = "application/octet-stream"
	jsonType  = "application/json"
)

func (s *service) openAPI(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, jsonType, OpenAPI)
}

// health is of the server: that each log can show its checkpoint.
func (s *service) health(w http.ResponseWriter, r *http.Request) {
	for name, l := range s.Logs {
		if _, err := l.Checkpoint(r.Context()); err != nil {
			s.Log.Error("the health of a log", "log", name, "error", err)
			s.fail(w, r, fault.Errorf(fault.Unavailable, "see the server's log", "log %s is not readable", name))
			return
		}
	}
	send(w, http.StatusOK, jsonType, []byte(`{"status":"ok"}`))
}

func (s *service) checkpoint(r *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	raw, err := l.Checkpoint(r.Context())
	return raw, plainText, err
}

func (s *service) key(_ *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	return []byte(l.Key() + "\n"), plainText, nil
}

// attestation is for everybody: it decides whether they say anything here.
func (s *service) attestation(r *http.Request, _ *ledger.Ledger) ([]byte, string, error) {
	a, ok := s.Attestations[r.PathValue("log")]
	if !ok {
		return nil, "", fault.Errorf(fault.NotFound, "start it with cloister-ledger serve --attest", "this ledger is not attested")
	}
	raw, err := json.Marshal(a)
	return raw, jsonType, err
}

func (s *service) tile(r *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	if err := s.mayRead(r, l); err != nil {
		return nil, "", err
	}
	raw, err := l.Dir().Fetch(r.Context(), "tile/"+r.PathValue("path"))
	return raw, bytesType, err
}

// page is the contract in a browser. It is for everybody: it has no word of the
// record, which its scripts read with the reader's token.
func (s *service) page(w http.ResponseWriter, r *http.Request) {
	log := r.PathValue("log")
	if _, ok := s.Logs[log]; !ok {
		s.notThere(w, r)
		return
	}
	http.StripPrefix("/"+log+"/page", page.Handler()).ServeHTTP(w, r)
}

// maxBody is the largest append: a list of the largest entries.
const maxBody = governance.MaxAppend*(statement.MaxEntry+1) + 2

func (s *service) append(r *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	if media := r.Header.Get("Content-Type"); media != jsonType {
		return nil, "", &status{http.StatusUnsupportedMediaType, fault.Errorf(fault.Usage, "send "+jsonType, "the statements are %q", media)}
	}
	entries, err := readEntries(r.Body)
	if err != nil {
		return nil, "", err
	}
	receipt, refused := l.Append(r.Context(), entries...)
	said := remote.Receipt{Index: receipt.Index, Count: receipt.Count, Checkpoint: string(receipt.Checkpoint)}
	if refused != nil {
		if receipt.Count > 0 {
			refused = &partly{said, refused}
		}
		return nil, "", refused
	}
	raw, err := json.Marshal(said)
	return raw, jsonType, err
}

// readEntries reads a list of statements, each byte for byte as it was signed.
func readEntries(body io.Reader) ([][]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, io.NopCloser(body), maxBody))
	if err != nil {
		return nil, bodyError(err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, governance.Refuse(governance.Malformed, "send a list of statements", "the body is not a list: %w", err)
	}
	entries := make([][]byte, len(list))
	for i, e := range list {
		entries[i] = e
	}
	return entries, nil
}

// Server returns a server for the handler that waits for nobody for long: a header
// comes within 5 s, an append of 4 MiB within 30 s, and an answer, which may wait
// for cosigners, is taken within 90 s.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 90 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo)}
}
