package service

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"cloister/governance"
	"cloister/governance/ledger"
	"cloister/governance/remote"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// readers is what a server remembers of who reads: runs that have not begun, and
// requests that were made. Of the runs another process that serves the same log
// knows nothing, nor does this one started again: a run introduces itself there too.
type readers struct {
	// judging holds one token: judging evidence takes milliseconds of a processor,
	// and whoever reaches the server can ask for it.
	judging chan struct{}

	mu       sync.Mutex // guards admitted
	admitted map[reader]string

	asked map[*ledger.Ledger]*replays
}

type reader struct {
	log *ledger.Ledger
	key string // fingerprint
}

const (
	// maxAdmitted is how many runs may be about to begin at once. One that is
	// forgotten introduces itself again.
	maxAdmitted = 1 << 10
	// maxAsked is how many reads of parties and runs are remembered, 500 a second
	// for as long as a request is good: about 20 MiB.
	maxAsked = 1 << 17
)

func newReaders(logs map[string]*ledger.Ledger) *readers {
	r := &readers{judging: make(chan struct{}, 1), admitted: map[reader]string{}, asked: map[*ledger.Ledger]*replays{}}
	for _, l := range logs {
		r.asked[l] = newReplays(string(l.Dir()))
	}
	return r
}

// contract is for everybody: a run needs it to say what its evidence is about.
func (s *service) contract(r *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	digest, err := l.Contract(r.Context())
	if err != nil {
		return nil, "", err
	}
	raw, err := json.Marshal(remote.Contract{Digest: digest})
	return raw, jsonType, err
}

// introduce admits a run to the log that its evidence is about. What it takes lasts
// until the contract changes; by then the run has begun, or never will.
func (s *service) introduce(r *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, remote.MaxIntroduction))
	if err != nil {
		return nil, "", bodyError(err)
	}
	asked, err := remote.Verify(r, raw, time.Now())
	if err != nil {
		return nil, "", err
	}
	begin, err := remote.ReadIntroduction(raw)
	if err != nil {
		return nil, "", err
	}
	if key, err := statement.ParsePublicKey(begin.AuditKey); err != nil || key.Fingerprint() != asked.Key.Fingerprint() {
		return nil, "", governance.Refuse(governance.WrongSignature, "sign with the key that the evidence binds", "the introduction is of another key than %s, which signed it", asked.Key.Fingerprint())
	}
	agreed, err := l.Agreed(r.Context())
	if err == nil {
		err = s.judge(r.Context(), agreed, begin)
	}
	if err != nil {
		return nil, "", err
	}
	if err := s.readers.admit(reader{l, asked.Key.Fingerprint()}, agreed.Digest, asked); err != nil {
		return nil, "", err
	}
	return []byte("{}"), jsonType, nil
}

func (s *service) judge(ctx context.Context, agreed governance.Agreed, begin *statement.RunBegin) error {
	select {
	case s.readers.judging <- struct{}{}:
		defer func() { <-s.readers.judging }()
	case <-ctx.Done():
		return fault.Errorf(fault.Unavailable, "try again", "waiting to have the evidence judged: %w", ctx.Err())
	}
	err := agreed.Admit(begin, s.Evidence)
	if governance.ReasonOf(err) == governance.Unapproved {
		return &status{http.StatusForbidden, err}
	}
	return err
}

// mayRead wants a request of somebody whom the log knows: signed, and not made
// before, or with a read token, which is good until it expires.
func (s *service) mayRead(r *http.Request, l *ledger.Ledger) error {
	if s.AnyoneReads {
		return nil
	}
	if remote.HasToken(r) {
		key, err := remote.VerifyToken(r, l.Key(), time.Now())
		if err != nil {
			return err
		}
		return s.mustKnow(r.Context(), l, key.Fingerprint())
	}
	asked, err := remote.Verify(r, nil, time.Now())
	if err != nil {
		return err
	}
	if err := s.mustKnow(r.Context(), l, asked.Key.Fingerprint()); err != nil {
		return err
	}
	return s.readers.asked[l].note(asked)
}

func (s *service) mustKnow(ctx context.Context, l *ledger.Ledger, fingerprint string) error {
	known, err := s.known(ctx, l, fingerprint)
	if err == nil && !known {
		err = governance.Refuse(governance.NotAParty, "sign with the key of a party", "key %s is of no party and no run of this log", fingerprint)
	}
	return err
}

func (s *service) known(ctx context.Context, l *ledger.Ledger, fingerprint string) (bool, error) {
	digest, admitted := s.readers.digest(reader{l, fingerprint})
	if !admitted {
		return l.Known(ctx, fingerprint)
	}
	agreed, err := l.Agreed(ctx)
	if err != nil || agreed.Digest == digest && agreed.Status == governance.Accepted {
		return true, err
	}
	return l.Known(ctx, fingerprint)
}

func (r *readers) digest(who reader) (digest string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	digest, ok = r.admitted[who]
	return digest, ok
}

func (r *readers) admit(who reader, digest string, asked remote.Asked) error {
	if err := r.asked[who.log].note(asked); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.admitted) >= maxAdmitted {
		clear(r.admitted)
	}
	r.admitted[who] = digest
	return nil
}
