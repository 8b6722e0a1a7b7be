package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"cloister/fs"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// budget is the memory for inputs that are fetched whole and outputs that are
// published at the end: what is available at the start, less what everything
// else is to have. Where there are both, each kind has a half.
type budget struct {
	available int64 // bytes, of the machine or the container
	sink      int64 // bytes, of each output

	mu      sync.Mutex // guards sources
	sources int64      // bytes that are left for inputs
}

// runtimeMemory, in bytes, is for the program, its buffers and manifests: one of
// a hundred thousand files takes 14 MiB, and the program about 60.
const runtimeMemory = 128 << 20

func newBudget(s spec.Specification, available int64) *budget {
	b := &budget{available: available}
	left, atOnce := available-runtimeMemory, int64(1)
	if j := s.Jobs; j != nil {
		atOnce = int64(j.Together())
		left -= int64(j.MaxResult) * int64(j.Most()) // results wait in memory
	}
	if s.Model == spec.Monolithic && s.Application.Resources != nil {
		left -= int64(s.Application.Resources.MemoryMiB) << 20 * atOnce
	}
	var sources, sinks int64
	for _, v := range append(append([]spec.Source(nil), s.Code...), s.DataSources...) {
		if v.Fetch == spec.FetchWhole {
			sources++
		} else {
			left -= fs.DefaultMemory
		}
	}
	for _, v := range s.DataSinks {
		if v.Publish == spec.PublishAtEndPadded {
			sinks++
		} else {
			left -= fs.DefaultMemory
		}
	}
	left = max(0, left)
	b.sources = left
	if sinks > 0 {
		if sources > 0 {
			b.sources = left / 2
		}
		b.sink = (left - left/2*min(1, sources)) / sinks
	}
	return b
}

// grant takes the memory of an input that is fetched whole.
func (b *budget) grant(bytes int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes > b.sources {
		return fault.Errorf(fault.Refused, "give the container more memory, or have the parties agree on fetch: on-demand",
			"it takes %d MiB of memory, and of the %d MiB that are available %d are left for it", mib(bytes), mib(b.available), b.sources>>20)
	}
	b.sources -= bytes
	return nil
}

func mib(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }

// availableMemory is how many bytes more this process may use: what the machine
// has left, or its container, whichever is less.
func availableMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("looking for memory: %w", err)
	}
	_, line, _ := strings.Cut(string(text), "MemAvailable:")
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return 0, fault.Errorf(fault.Internal, "", "looking for memory: /proc/meminfo does not say how much is available")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("looking for memory: %w", err)
	}
	available := kib << 10
	// A container sees its own control group at the root; of version 2, or 1.
	for limit, used := range map[string]string{
		"/sys/fs/cgroup/memory.max":                   "/sys/fs/cgroup/memory.current",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes": "/sys/fs/cgroup/memory/memory.usage_in_bytes",
	} {
		if most, ok := number(limit); ok {
			now, _ := number(used)
			available = min(available, max(0, most-now))
		}
	}
	return available, nil
}

// number reads a file with one; "max" is none.
func number(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
