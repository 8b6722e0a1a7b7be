package broker

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"sync"
	"time"
)

// session is one guest's handshake. Its token is empty until it is attested.
type session struct {
	tee     string
	nonce   string
	token   string
	expires time.Time
}

type sessions struct {
	mu   sync.Mutex // guards byID
	byID map[string]session
}

func newSessions() *sessions { return &sessions{byID: map[string]session{}} }

// begin makes a session, and forgets those that ran out.
func (s *sessions) begin(tee string, now time.Time) (id, nonce string, err error) {
	random := make([]byte, 16+32)
	if _, err := rand.Read(random); err != nil {
		return "", "", err
	}
	id, nonce = hex.EncodeToString(random[:16]), base64.StdEncoding.EncodeToString(random[16:])
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, v := range s.byID {
		if now.After(v.expires) {
			delete(s.byID, old)
		}
	}
	s.byID[id] = session{tee: tee, nonce: nonce, expires: now.Add(sessionLife)}
	return id, nonce, nil
}

func (s *sessions) find(id string, now time.Time) (session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.byID[id]
	switch {
	case !ok:
		return v, errors.New("session not found")
	case now.After(v.expires):
		return v, errors.New("session expired")
	}
	return v, nil
}

// attested keeps what stands for the session from now on.
func (s *sessions) attested(id, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.byID[id]
	v.token = token
	s.byID[id] = v
}

func (s *sessions) token(id string, now time.Time) (string, error) {
	v, err := s.find(id, now)
	if err == nil && v.token == "" {
		err = errors.New("the session is not attested")
	}
	return v.token, err
}
