// Package cosign is a ledger's side of witnessing: it asks the parties' witnesses
// to cosign a checkpoint before anybody is told of it.
//
// Life of a checkpoint: Cosign posts it to all witnesses at once, each with the
// proof from the size that this witness cosigned last (C2SP tlog-witness; a
// witness that stands elsewhere says where, and is asked again from there),
// verifies each answer, and returns the checkpoint with the cosignatures as soon
// as enough of them are there. Before the deadline or not at all: what is not
// cosigned is not published, and its appender is told so.
package cosign

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"cloister/governance"
	"cloister/internal/fault"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Deadline is how long witnesses have to cosign a checkpoint. A witness on the
// same network answers in milliseconds; an enclave waits 10 s for an append.
const Deadline = 5 * time.Second

// Prove returns the proof that the log of the checkpoint goes on from its first
// old entries. It is not asked about an old of 0 or of the checkpoint's own size.
type Prove = func(ctx context.Context, old int64) (tlog.TreeProof, error)

// Group is the witnesses of a ledger. It is safe for concurrent use.
type Group struct {
	witnesses []*asked
	needed    int
	deadline  time.Duration
	client    *http.Client
}

// New returns the group of these witnesses, each as KEY@URL: its verifier key and
// where it serves. threshold says how many of them must cosign: all when 0.
func New(witnesses []string, threshold int) (*Group, error) {
	g := &Group{needed: threshold, deadline: Deadline, client: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}
	var keys []string
	for _, w := range witnesses {
		a, key, err := parseWitness(w)
		if err != nil {
			return nil, err
		}
		if slices.Contains(keys, key) {
			return nil, fault.Errorf(fault.Usage, "name each witness once", "witness %s is named twice", a.verifier.Name())
		}
		keys, g.witnesses = append(keys, key), append(g.witnesses, a)
	}
	if threshold == 0 {
		g.needed = len(witnesses)
	}
	if g.needed > len(witnesses) || g.needed <= 0 {
		return nil, fault.Errorf(fault.Usage, "name more witnesses, or fewer that must", "%d of %d witnesses cannot cosign", g.needed, len(witnesses))
	}
	return g, nil
}

func parseWitness(text string) (*asked, string, error) {
	const hint = "write KEY@URL, the key as cloister witness init prints it"
	key, address, _ := strings.Cut(text, "@")
	verifier, err := governance.ParseWitnessKey(key)
	if err != nil {
		return nil, "", fault.Errorf(fault.Usage, hint, "witness %.200q: %w", text, err)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, "", fault.Errorf(fault.Usage, hint, "witness %s has no address: %.100q", verifier.Name(), address)
	}
	return &asked{url: strings.TrimSuffix(address, "/") + "/add-checkpoint", verifier: verifier}, key, nil
}

// Cosign returns a signed checkpoint with the cosignatures of at least as many
// witnesses as must. It refuses one that a witness has refused as not going on
// from what it cosigned, where the others are too few. The error is of kind
// fault.Unavailable otherwise.
func (g *Group) Cosign(ctx context.Context, signed []byte, prove Prove) ([]byte, error) {
	size, err := sizeOf(signed)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.deadline)
	defer cancel()
	answers := make(chan answer, len(g.witnesses))
	for _, w := range g.witnesses {
		go func() { answers <- w.cosign(ctx, g.client, signed, size, prove) }()
	}
	var failed []error
	out, got := slices.Clone(signed), 0
	for range g.witnesses {
		a := <-answers
		if a.err != nil {
			failed = append(failed, a.err)
			continue
		}
		out = append(out, a.line...)
		if got++; got == g.needed {
			return out, nil
		}
	}
	return nil, fault.Errorf(fault.Unavailable, "see that the witnesses run and that their parties consent; nothing is lost, it is offered to them again",
		"%d of %d witnesses cosigned the checkpoint of %d entries, %d are needed: %w", got, len(g.witnesses), size, g.needed, errors.Join(failed...))
}

// sizeOf reads the size of the ledger's own checkpoint.
func sizeOf(signed []byte) (size int64, err error) {
	lines := strings.SplitN(string(signed), "\n", 3)
	if len(lines) == 3 {
		_, err = fmt.Sscanf(lines[1], "%d", &size)
	}
	if len(lines) < 3 || err != nil {
		return 0, fault.Errorf(fault.Internal, "report it: this is a defect", "what is to be cosigned is no checkpoint")
	}
	return size, nil
}

// answer is a witness's: the signature line, or why there is none.
type answer struct {
	line []byte
	err  error
}

// verified returns the one line of a response that is the witness's cosignature
// of the checkpoint.
func verified(signed, response []byte, v note.Verifier) ([]byte, error) {
	n, err := note.Open(append(slices.Clone(signed), response...), note.VerifierList(v))
	if err != nil {
		return nil, fmt.Errorf("its answer is no cosignature of the checkpoint: %w", err)
	}
	return []byte("— " + n.Sigs[0].Name + " " + n.Sigs[0].Base64 + "\n"), nil
}
