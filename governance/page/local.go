package page

import (
	"context"
	"encoding/binary"
	"net/http"

	"cloister/governance"
	"cloister/governance/tiles"
)

// Local serves the page at /page/ and, for it, a log: only on this machine and to
// itself, as nobody who asks is authenticated. The log is not verified; the page
// does that.
func Local(log governance.Source) http.Handler {
	l := &local{log}
	mux := http.NewServeMux()
	mux.Handle("/page/", http.StripPrefix("/page", Handler()))
	mux.HandleFunc("GET /checkpoint", l.checkpoint)
	mux.HandleFunc("GET /tile/entries/{path...}", l.bundle)
	return mux
}

type local struct{ log governance.Source }

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
	t, err := tiles.ParsePath("tile/entries/" + r.PathValue("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	raw, err := l.entries(r.Context(), t.N*tiles.Width, t.N*tiles.Width+int64(t.W))
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
	for from < to {
		list, err := l.log.Entries(ctx, from, to)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(e))), e...)
		}
		from += int64(len(list))
	}
	return raw, nil
}
