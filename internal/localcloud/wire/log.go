package wire

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// Entry is one request: who asked which service for what, and the answer's
// status. It never holds a body, a query or a token.
type Entry struct {
	// Time is the arrival, UTC.
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Status  int       `json:"status"`
	// Caller is the authenticated caller's object id, empty for anonymous services.
	Caller string `json:"caller"`
	// Note says why a request was refused, where the answer itself must not.
	Note string `json:"note,omitempty"`
}

// Log appends entries to a file, one JSON line each, in the order in which
// requests were answered. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex // serialises writes to file: a line is written whole
	file *os.File
}

// OpenLog opens path for appending, mode 0600.
func OpenLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Log{file: f}, nil
}

func (l *Log) append(e Entry) {
	line, err := json.Marshal(e)
	if err != nil {
		return // an Entry always encodes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Write(append(line, '\n')) //nolint:errcheck // a full disk shows in the missing line
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
