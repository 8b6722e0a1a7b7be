package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloister/enclave"
	"cloister/fs"
	"cloister/fs/store"
)

// monitor is what this runtime can say of its run: to `cloisterd status`, and as
// metrics where the parties allow that. It names volumes as the specification
// does, and never a file.
type monitor struct {
	consent, audit requests // asked of the ledger
	appends        requests // by it, whatever they say

	mu     sync.Mutex // guards all below
	status status
	stores map[string]*requests // by volume
	volume map[string]*mounted
}

// status is what `cloisterd status --json` prints.
type status struct {
	Run      string         `json:"run"` // "" before there is one
	Contract string         `json:"contract"`
	Version  uint64         `json:"version"`
	Starts   int            `json:"starts"`         // of the application
	Exit     *int           `json:"exit,omitempty"` // of the application, its newest end
	Steps    []step         `json:"steps"`          // what was reached, and when
	Volumes  []volumeStatus `json:"volumes"`
	Consent  uint64         `json:"consentChecks"`
	Audit    uint64         `json:"auditRecords"`
}

type step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"` // since the process began
}

type volumeStatus struct {
	Name      string `json:"name"`
	Writable  bool   `json:"writable"`
	Reads     uint64 `json:"reads"`
	ReadBytes uint64 `json:"readBytes"`
	Hits      uint64 `json:"cacheHits"`
	Misses    uint64 `json:"cacheMisses"`
	Written   uint64 `json:"writtenBytes"`
	Sequence  uint64 `json:"sequence"` // of an output's journal
	Requests  uint64 `json:"storeRequests"`
	Errors    uint64 `json:"storeErrors"`
}

func newMonitor() *monitor {
	return &monitor{stores: map[string]*requests{}, volume: map[string]*mounted{}}
}

// maxSteps bounds what is kept of steps: of a run that goes on for long, how it began
// and how it goes.
const maxSteps = 256

// reached notes a step.
func (m *monitor) reached(name string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.status.Steps) == maxSteps {
		m.status.Steps = slices.Delete(m.status.Steps, maxSteps/2, maxSteps/2+1)
	}
	m.status.Steps = append(m.status.Steps, step{name, time.Since(processBegan()).Seconds()})
}

// set changes the status.
func (m *monitor) set(change func(*status)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.status)
}

// recorded counts what the ledger was asked, each event as long as all took.
func (m *monitor) recorded(events []enclave.Event, accepted int, began time.Time, err error) {
	if m == nil {
		return
	}
	for i, e := range events {
		var failed error
		if i >= accepted {
			failed = err
		}
		if e.Kind == enclave.EventConsent {
			m.consent.took(began, 0, failed)
		} else {
			m.audit.took(began, 0, failed)
		}
		if failed == nil {
			m.reached(strings.TrimSpace(e.Kind + " " + e.Volume))
		}
	}
}

// mounted has a volume told of.
func (m *monitor) mounted(v *mounted) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volume[v.name] = v
}

// count has the requests to a volume's store counted.
func (m *monitor) count(volume string, s *store.Store) counted {
	if m == nil {
		return counted{s, new(requests)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stores[volume] == nil {
		m.stores[volume] = new(requests)
	}
	return counted{s, m.stores[volume]}
}

// read returns the status as it is now.
func (m *monitor) read() status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Steps = append([]step(nil), s.Steps...)
	s.Consent, s.Audit = m.consent.count.Load(), m.audit.count.Load()
	for _, name := range sorted(m.volume) {
		v, r := m.volume[name], m.stores[name]
		s.Volumes = append(s.Volumes, v.status(r))
	}
	return s
}

func (v *mounted) status(r *requests) volumeStatus {
	s := volumeStatus{Name: v.name, Requests: r.count.Load(), Errors: r.errors.Load()}
	if in := v.input; in != nil {
		st := in.Stats()
		s.Reads, s.ReadBytes, s.Hits, s.Misses = st.Reads, st.Bytes, st.Hits, st.Misses
	}
	if out := v.written; out != nil {
		s.Writable, s.Written, s.Sequence = true, out.Written(), out.Head().Sequence
	}
	return s
}

// requests counts requests, those that failed, their bytes and how long they took.
type requests struct {
	count, errors, bytes atomic.Uint64
	latency              fs.Latency
}

// took notes a request that began at a time and moved n bytes.
func (r *requests) took(began time.Time, n int, err error) {
	r.count.Add(1)
	r.latency.Took(time.Since(began))
	if err != nil {
		r.errors.Add(1)
	} else {
		r.bytes.Add(uint64(n))
	}
}

// counted is a store whose requests are counted.
type counted struct {
	*store.Store
	requests *requests
}

func (c counted) Get(ctx context.Context, name string, off int64, p []byte) error {
	began := time.Now()
	err := c.Store.Get(ctx, name, off, p)
	c.requests.took(began, len(p), err)
	return err
}

func (c counted) Put(ctx context.Context, name string, data []byte) error {
	began := time.Now()
	err := c.Store.Put(ctx, name, data)
	c.requests.took(began, len(data), err)
	return err
}

// clockTicks are those of /proc/PID/stat a second: USER_HZ, 100 on all that Go
// runs on.
const clockTicks = 100

// processBegan is when this process was started, of a container its first: to a
// hundredth of a second (proc(5)).
var processBegan = sync.OnceValue(func() time.Time {
	now := time.Now()
	stat, err := os.ReadFile("/proc/self/stat")
	uptime, err2 := os.ReadFile("/proc/uptime")
	_, after, ok := strings.Cut(string(stat), ") ") // the name may have spaces
	fields, up := strings.Fields(after), strings.Fields(string(uptime))
	if err != nil || err2 != nil || !ok || len(fields) < 20 || len(up) < 1 {
		return now
	}
	ticks, err := strconv.ParseFloat(fields[19], 64) // field 22, starttime
	since, err2 := strconv.ParseFloat(up[0], 64)
	if err != nil || err2 != nil {
		return now
	}
	return now.Add(-time.Duration((since - ticks/clockTicks) * float64(time.Second)))
})
