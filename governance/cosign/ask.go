package cosign

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// asked is a witness as the ledger knows it.
type asked struct {
	url      string
	verifier note.Verifier
	size     atomic.Int64 // that it cosigned last, as far as is known
}

// tries is how often a witness is asked about one checkpoint: it says where it
// stands, and once more where another process of the ledger was faster.
const tries = 3

// maxAnswer is more than any answer of a witness that is read: a few lines of
// signatures, or of an error.
const maxAnswer = 4 << 10

func (a *asked) cosign(ctx context.Context, client *http.Client, signed []byte, size int64, prove Prove) answer {
	for range tries {
		line, stands, err := a.ask(ctx, client, signed, min(a.size.Load(), size), size, prove)
		if err != nil {
			return answer{err: fmt.Errorf("%s: %w", a.verifier.Name(), err)}
		}
		if line != nil {
			a.size.Store(size)
			return answer{line: line}
		}
		a.size.Store(stands)
		if stands > size {
			break
		}
	}
	return answer{err: fault.Errorf(fault.Conflict, "see that no other ledger signs with this key, and that this one was not restored from a backup", "%s: it has cosigned another checkpoint, of %d entries", a.verifier.Name(), a.size.Load())}
}

// ask returns the cosignature, or at which size the witness stands.
func (a *asked) ask(ctx context.Context, client *http.Client, signed []byte, old, size int64, prove Prove) (line []byte, stands int64, err error) {
	var proof tlog.TreeProof
	if 0 < old && old < size {
		if proof, err = prove(ctx, old); err != nil {
			return nil, 0, fmt.Errorf("proving that the log goes on from %d entries: %w", old, err)
		}
	}
	status, body, err := a.post(ctx, client, request(signed, old, proof))
	if err != nil {
		return nil, 0, err
	}
	switch status {
	case http.StatusOK:
		line, err = verified(signed, body, a.verifier)
		return line, 0, err
	case http.StatusConflict:
		stands, err = strconv.ParseInt(strings.TrimSuffix(string(body), "\n"), 10, 64)
		if err != nil || stands < 0 {
			return nil, 0, fmt.Errorf("it answers with a conflict and no size: %.100q", body)
		}
		return nil, stands, nil
	default:
		return nil, 0, fmt.Errorf("it answers %d: %.300q", status, bytes.TrimSpace(body))
	}
}

func request(signed []byte, old int64, proof tlog.TreeProof) []byte {
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, hash := range proof {
		body = append(base64.StdEncoding.AppendEncode(body, hash[:]), '\n')
	}
	return append(append(body, '\n'), signed...)
}

func (a *asked) post(ctx context.Context, client *http.Client, body []byte) (status int, answer []byte, err error) {
	in, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	in.Header.Set("Content-Type", "text/plain; charset=utf-8")
	out, err := client.Do(in)
	if err != nil {
		return 0, nil, err
	}
	defer out.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(out.Body, maxAnswer))
	return out.StatusCode, answer, err
}
