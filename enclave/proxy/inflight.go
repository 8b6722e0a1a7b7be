package proxy

import "sync"

// inFlight are the requests that are served, tunnels and WebSockets among them, so
// that an end can wait for theirs.
type inFlight struct {
	mu     sync.Mutex // guards closed
	closed bool
	all    sync.WaitGroup
}

// enter reports whether a request may begin, which leave ends.
func (f *inFlight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.all.Add(1)
	}
	return !f.closed
}

func (f *inFlight) leave() { f.all.Done() }

// close lets no request begin any more, and wait waits for those that have.
func (f *inFlight) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

func (f *inFlight) wait() { f.all.Wait() }
