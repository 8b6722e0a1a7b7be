package service

import (
	"encoding/json"
	"net/http"

	"cloister/governance/ledger"
)

// refused answers who may read with what was not appended.
func (s *service) refused(r *http.Request, l *ledger.Ledger) ([]byte, string, error) {
	if err := s.mayRead(r, l); err != nil {
		return nil, "", err
	}
	list, err := l.Refused(r.Context())
	if err != nil {
		return nil, "", err
	}
	raw, err := json.Marshal(list)
	return raw, jsonType, err
}
