package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// cursor is from which entry on a watch has something to do.
type cursor struct {
	file string // "" for none

	mu    sync.Mutex // guards what follows, and the file
	next  uint64     // the first entry that was not printed
	ends  []uint64   // printed and not told yet, rising
	saved string     // what the file holds
}

// openCursor begins at --from, or where the file of --cursor says.
func openCursor(c *urfave.Context) (*cursor, error) {
	k := &cursor{file: c.String("cursor"), next: c.Uint64("from")}
	if k.file == "" {
		return k, nil
	}
	raw, err := os.ReadFile(k.file)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading --cursor: %w", err)
	}
	if c.IsSet("from") {
		return nil, fault.Errorf(fault.Usage, "leave --from out, or name another file", "the cursor %s says already where to begin", k.file)
	}
	if k.next, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 63); err != nil {
		return nil, fault.Errorf(fault.Usage, "remove it to begin with the first entry, or write the number of one", "the cursor %s holds no entry", k.file)
	}
	k.saved = string(raw)
	return k, nil
}

// from is the first entry that was not printed, or not told.
func (k *cursor) from() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.first()
}

func (k *cursor) first() uint64 {
	if len(k.ends) > 0 {
		return k.ends[0]
	}
	return k.next
}

func (k *cursor) untold() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.ends)
}

// seen: all before the entry was printed.
func (k *cursor) seen(next uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next = next
	return k.save()
}

// telling: what is at the entry is to be told.
func (k *cursor) telling(entry uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ends = append(k.ends, entry)
}

// told: what is at the entry was told.
func (k *cursor) told(entry uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ends = slices.DeleteFunc(k.ends, func(e uint64) bool { return e == entry })
	return k.save()
}

// save writes the file where that has changed. The caller holds mu.
func (k *cursor) save() error {
	line := fmt.Sprintf("%d\n", k.first())
	if k.file == "" || line == k.saved {
		return nil
	}
	if err := replaceFile(k.file, []byte(line)); err != nil {
		return fmt.Errorf("keeping --cursor: %w", err)
	}
	k.saved = line
	return nil
}
