package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxProof is how many hashes a request may have (C2SP tlog-witness), and
// maxRequest the bytes of the largest one: a line of old size, maxProof lines of
// hashes, and a checkpoint as large as governance.OpenCheckpoint takes.
const (
	maxProof   = 63
	maxRequest = 32 + maxProof*45 + 16<<10
)

// Serve serves Handler until ctx ends, and then what has begun. A client has
// seconds to say what fits into a packet or two.
func (w *Witness) Serve(ctx context.Context, listener net.Listener, log *slog.Logger) error {
	server := &http.Server{Handler: w.Handler(log), ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second,
		IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		ended <- server.Shutdown(last)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// Handler serves add-checkpoint of C2SP tlog-witness. It asks nobody who they
// are: only a checkpoint that a followed ledger has signed changes anything.
func (w *Witness) Handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", func(out http.ResponseWriter, in *http.Request) {
		line, err := w.addCheckpoint(http.MaxBytesReader(out, in.Body, maxRequest))
		if err != nil {
			log.Warn("not cosigned", "error", err)
			refuse(out, err)
			return
		}
		log.Info("cosigned")
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = out.Write(line) // a ledger that is gone asks again
	})
	return mux
}

func (w *Witness) addCheckpoint(body io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, &badRequest{err}
	}
	old, proof, signed, err := parseRequest(raw)
	if err != nil {
		return nil, &badRequest{err}
	}
	return w.Cosign(signed, old, proof)
}

// badRequest is a request that is not one.
type badRequest struct{ error }

func (e *badRequest) Unwrap() error { return e.error }

func parseRequest(raw []byte) (old int64, proof tlog.TreeProof, signed []byte, err error) {
	head, signed, ok := bytes.Cut(raw, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	size, isOld := strings.CutPrefix(lines[0], "old ")
	if !ok || !isOld || len(lines)-1 > maxProof {
		return 0, nil, nil, fmt.Errorf("want a line `old SIZE`, at most %d lines of hashes, an empty line and a checkpoint", maxProof)
	}
	old, err = strconv.ParseInt(size, 10, 64)
	if err != nil || old < 0 || strconv.FormatInt(old, 10) != size {
		return 0, nil, nil, errors.New("the old size is no size")
	}
	for _, line := range lines[1:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return 0, nil, nil, errors.New("a line of the proof is no hash")
		}
		proof = append(proof, tlog.Hash(hash))
	}
	return old, proof, signed, nil
}

// refuse answers with the status that C2SP tlog-witness has for the error. For
// a party that has withdrawn it has none: the ledger is followed no more.
func refuse(out http.ResponseWriter, err error) {
	var size *SizeError
	if errors.As(err, &size) {
		out.Header().Set("Content-Type", "text/x.tlog.size")
		out.WriteHeader(http.StatusConflict)
		fmt.Fprintf(out, "%d\n", size.Size)
		return
	}
	status := statusOf(err)
	text := err.Error()
	if status == http.StatusInternalServerError {
		text = "the witness failed; its operator finds why in its log"
	}
	http.Error(out, text, status)
}

func statusOf(err error) int {
	var bad *badRequest
	var tooLarge *http.MaxBytesError
	var unsigned *note.UnverifiedNoteError
	var wrong *note.InvalidSignatureError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &unsigned), errors.As(err, &wrong):
		return http.StatusForbidden
	case errors.As(err, &bad), errors.Is(err, errSize):
		return http.StatusBadRequest
	case errors.Is(err, errProof):
		return http.StatusUnprocessableEntity
	case errors.Is(err, errWithdrawn), fault.KindOf(err) == fault.NotFound:
		return http.StatusNotFound
	default:
		return http.StatusInternalServerError
	}
}
