package service

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloister/governance"
	"cloister/governance/remote"
	"cloister/internal/fault"
)

// replays remembers the signed requests to one log, so that none is answered twice:
// in files of the log's directory, a line each, which its other servers and the next
// start read too. A file is of the requests signed within one period; it goes once
// all of them are too old to be answered.
//
// Of two servers that are asked the same at once, the one whose line comes first in
// the file answers: each writes its line, and then reads up to it. The kernel has a
// line before its request is answered, so a killed server forgets nothing; the disk
// has it a second later.
type replays struct {
	dir    string
	server string // random, in hexadecimal: whose line it is

	mu      sync.Mutex // guards what follows
	periods map[int64]*period
}

// period is the requests signed within one time of replayPeriod.
type period struct {
	file  *os.File
	lines *bufio.Reader
	asked map[string]bool // by line without server
	torn  string          // what was read of a line that is not whole yet
	// unsynced says that a sync is on its way.
	unsynced bool
}

const (
	replayPeriod = 2 * remote.MaxAge
	replayFile   = "asked-"
	replayLine   = 2*32 + 1 + 2*8 // id, space, server
)

func newReplays(dir string) *replays {
	var server [8]byte
	_, _ = rand.Read(server[:]) // it does not fail: the program would end
	return &replays{dir: dir, server: hex.EncodeToString(server[:]), periods: map[int64]*period{}}
}

// note refuses a request that was made before.
func (r *replays) note(asked remote.Asked) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.period(asked.Time.UnixMilli() / replayPeriod.Milliseconds())
	if err != nil {
		return fmt.Errorf("remembering a request: %w", err)
	}
	id := hex.EncodeToString(asked.ID[:])
	if err := p.read(func(string, string) {}); err != nil {
		return fmt.Errorf("reading what was asked: %w", err)
	}
	if p.asked[id] {
		return errReplayed()
	}
	if len(p.asked) >= maxAsked {
		return &status{http.StatusServiceUnavailable, fault.Errorf(fault.Unavailable, "ask less often", "more than %d reads within %s", maxAsked, replayPeriod)}
	}
	r.sync(p)
	return p.put(id, r.server)
}

func errReplayed() error {
	return &status{http.StatusConflict, governance.Refuse(governance.Replayed, "sign each request anew", "this request was made before")}
}

// put writes a request's line, and refuses where another server's came before it.
func (p *period) put(id, server string) error {
	if _, err := p.file.WriteString(id + " " + server + "\n"); err != nil {
		return fault.Errorf(fault.Unavailable, "see that the disk has room", "remembering a request: %w", err)
	}
	first := ""
	err := p.read(func(said, by string) {
		if said == id && first == "" {
			first = by
		}
	})
	if err == nil && first != server {
		err = errReplayed()
	}
	return err
}

// sync has the disk know within a second what the kernel knows. Where the period is
// over by then, its file is closed, and nobody needs it.
func (r *replays) sync(p *period) {
	if p.unsynced {
		return
	}
	p.unsynced = true
	time.AfterFunc(time.Second, func() {
		r.mu.Lock()
		p.unsynced = false
		r.mu.Unlock()
		_ = p.file.Sync()
	})
}

// read takes the lines that came since. Of a line that follows a part of one, left by
// a disk that was full, the end is whole.
func (p *period) read(see func(id, server string)) error {
	for {
		line, err := p.lines.ReadString('\n')
		line = p.torn + line
		if p.torn = ""; err != nil {
			if p.torn = line; errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		if id, server, ok := strings.Cut(line[max(0, len(line)-replayLine):], " "); ok {
			see(id, server)
			p.asked[id] = true
		}
	}
}

func (r *replays) period(n int64) (*period, error) {
	if p := r.periods[n]; p != nil {
		return p, nil
	}
	r.forget(time.Now())
	file, err := os.OpenFile(filepath.Join(r.dir, replayFile+strconv.FormatInt(n, 10)), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// It is read at places of its own: the file's is where the next line goes.
	lines := bufio.NewReader(io.NewSectionReader(file, 0, math.MaxInt64))
	r.periods[n] = &period{file: file, lines: lines, asked: map[string]bool{}}
	return r.periods[n], nil
}

// forget removes what nobody is answered any more: a request is good until MaxAge
// after its time, and one of the last period by a clock that is MaxAge behind.
func (r *replays) forget(now time.Time) {
	oldest := now.Add(-2*remote.MaxAge).UnixMilli() / replayPeriod.Milliseconds()
	for n, p := range r.periods {
		if n < oldest {
			p.file.Close()
			delete(r.periods, n)
		}
	}
	names, _ := filepath.Glob(filepath.Join(r.dir, replayFile+"*")) // the pattern is sound
	for _, name := range names {
		if n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(name), replayFile), 10, 64); err == nil && n < oldest {
			_ = os.Remove(name) // another server was faster
		}
	}
}
