package service

import (
	"net"
	"net/http"
	"sync"
	"time"

	"cloister/internal/fault"
)

// limiter counts requests by address: a token bucket each.
type limiter struct {
	rate float64 // tokens a second, and the most there are

	mu      sync.Mutex // guards buckets
	buckets map[string]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxBuckets is how many addresses are remembered. One that is forgotten has a
// full bucket, as has one that has not asked for a second.
const maxBuckets = 1 << 14

func newLimiter(rate int) *limiter {
	return &limiter{rate: float64(rate), buckets: map[string]bucket{}}
}

// take takes a token, if the address has one.
func (l *limiter) take(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[address]
	if !ok {
		if len(l.buckets) >= maxBuckets {
			clear(l.buckets)
		}
		b = bucket{l.rate, now}
	}
	b.tokens = min(l.rate, b.tokens+now.Sub(b.at).Seconds()*l.rate)
	b.at = now
	ok = b.tokens >= 1
	if ok {
		b.tokens--
	}
	l.buckets[address] = b
	return ok
}

// limited serves h to addresses that do not ask too often.
func (s *service) limited(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.limit.take(address(r), time.Now()) {
			s.fail(w, r, &status{http.StatusTooManyRequests, fault.Errorf(fault.Unavailable, "ask less often", "more than %d requests a second came from this address", s.Rate)})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// address is where a request is from, without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
