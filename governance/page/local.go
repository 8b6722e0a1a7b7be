package page

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"cloister/governance"
)

// width is how many entries a bundle holds (C2SP tlog-tiles).
const width = 256

// Local serves the page and, for it, a log of this machine: only to itself, as
// nobody who asks is authenticated. The log is not verified; the page does that.
func Local(log governance.Source) http.Handler {
	l := &local{log: log}
	mux := http.NewServeMux()
	mux.Handle("/", Handler())
	mux.HandleFunc("GET /checkpoint", l.checkpoint)
	mux.HandleFunc("GET /tile/entries/{path...}", l.bundle)
	return mux
}

type local struct {
	log governance.Source

	mu   sync.Mutex // one reads the log at a time, as a Source on files wants
	read int64      // how far it was read: it is read from its beginning
}

func (l *local) checkpoint(w http.ResponseWriter, r *http.Request) {
	signed, err := l.log.Checkpoint(r.Context())
	if err != nil {
		http.Error(w, "the checkpoint cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(signed)
}

func (l *local) bundle(w http.ResponseWriter, r *http.Request) {
	from, to, err := parseBundle(r.PathValue("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	raw, err := l.entries(r.Context(), from, to)
	if err != nil {
		http.Error(w, "the entries cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(raw)
}

// entries returns a bundle: each entry after its length, 16 bits big-endian.
func (l *local) entries(ctx context.Context, from, to int64) (raw []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := min(from, l.read); at < to; {
		list, err := l.log.Entries(ctx, at, to)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if at >= from {
				raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(e))), e...)
			}
			at++
		}
		l.read = max(l.read, at)
	}
	return raw, nil
}

// parseBundle reads a bundle's path: N, three digits a part with an x before all
// but the last, and .p/W where it holds W entries only.
func parseBundle(path string) (from, to int64, err error) {
	name, partial, short := strings.Cut(path, ".p/")
	n := int64(0)
	for part := range strings.SplitSeq(name, "/") {
		digits, err := strconv.ParseUint(strings.TrimPrefix(part, "x"), 10, 16)
		if err != nil || digits > 999 || n > 1<<40 {
			return 0, 0, fmt.Errorf("no bundle %.80q", path)
		}
		n = n*1000 + int64(digits)
	}
	if bundleName(n) != name {
		return 0, 0, fmt.Errorf("no bundle %.80q", path)
	}
	w := uint64(width)
	if short {
		if w, err = strconv.ParseUint(partial, 10, 8); err != nil || w == 0 {
			return 0, 0, errors.New("a partial bundle has 1 to 255 entries")
		}
	}
	return n * width, n*width + int64(w), nil
}

func bundleName(n int64) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	return name
}
