// Package host plays the machine that a container group runs on: it starts a real
// runtime, in a simulated guest.
//
// Life of a group: Start holds the image against the runtime's own hash and the
// command line against the container policy, as the platform's enforcer does, and
// refuses what is not the same; the platform launches a guest under the policy; the
// runtime is started in a directory of the group's own, with the group's command
// line and variables and what the platform adds to both. What it says is kept in a
// file; its end, and whether it is started again, is the group's restart policy's.
// Stop has it end in order, and then whatever it has left.
package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"cloister/internal/fault"
	"cloister/internal/localcloud/arm"
)

// Config says what a Host stands on. All of it is required.
type Config struct {
	Program string // the path of cloisterd
	Dir     string // where the groups' directories are
	// Launch starts a guest under a container policy in a directory; Remove ends it.
	Launch func(dir string, policy []byte) error
	Remove func(dir string) error
	// Variables are NAME=VALUE, what the platform puts into every container.
	Variables func() []string
}

// Host runs container groups. It is safe for concurrent use.
type Host struct {
	Config
	digest string // of Program

	mu   sync.Mutex // guards runs
	runs map[string]*run
}

// New returns a host whose runtime is the program. One that is not there is of
// kind fault.NotFound.
func New(c Config) (*Host, error) {
	path, err := filepath.Abs(c.Program)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "`make build` makes bin/cloisterd", "the runtime for container groups: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, err
	}
	c.Program = path
	return &Host{Config: c, digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), runs: map[string]*run{}}, nil
}

// Start runs a group, in the place of one of the same id that has ended.
func (h *Host) Start(id string, g arm.Group) error {
	if err := h.admits(g); err != nil {
		return err
	}
	h.Stop(id)
	sum := sha256.Sum256([]byte(id))
	// Short: a socket lies in it.
	r := newRun(g, filepath.Join(h.Dir, hex.EncodeToString(sum[:4])))
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	if err := h.Launch(r.dir, g.Policy); err != nil {
		return err
	}
	if err := r.start(h.Program, h.Variables()); err != nil {
		return errors.Join(err, h.Remove(r.dir), os.RemoveAll(r.dir))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs[id] = r
	return nil
}

// policyProcess is the process of a simulated container policy (policy/cce).
var policyProcess = regexp.MustCompile(`(?s)^(?:#[^\n]*\n)*package cloister_simulated\n.*\nprocess := (\{.*\})`)

// admits plays the enforcer: another runtime, or another command line, than the
// policy says is not started.
func (h *Host) admits(g arm.Group) error {
	if want := arm.SimulatedImage + h.digest; g.Image != want {
		return arm.Refuse("InaccessibleImage", "The image '%s' is not accessible: the runtime of this simulated cloud is %s.", g.Image, want)
	}
	var process struct {
		Command []string `json:"command"`
	}
	found := policyProcess.FindSubmatch(g.Policy)
	if found == nil || json.Unmarshal(found[1], &process) != nil {
		return arm.Refuse("InvalidCcePolicy", "The container policy is not one of kind simulated, and no other is played here.")
	}
	if !slices.Equal(process.Command, g.Command) {
		return arm.Refuse("PolicyDenied", "The container policy denies the command line of container '%s': it admits %q.", g.Container, process.Command)
	}
	return nil
}

// Look returns what has become of a group.
func (h *Host) Look(id string) (arm.Run, bool) {
	r := h.find(id)
	if r == nil {
		return arm.Run{}, false
	}
	return r.look(), true
}

// Logs returns the end of what a group has said, at most 4 MiB, as the service
// keeps it.
func (h *Host) Logs(id string) (string, error) {
	r := h.find(id)
	if r == nil {
		return "", nil
	}
	return r.said()
}

// Stop ends a group, and returns when nothing is left of it.
func (h *Host) Stop(id string) error {
	h.mu.Lock()
	r := h.runs[id]
	delete(h.runs, id)
	h.mu.Unlock()
	if r == nil {
		return nil
	}
	r.end()
	return errors.Join(h.Remove(r.dir), os.RemoveAll(r.dir))
}

// Close ends all groups.
func (h *Host) Close() error {
	h.mu.Lock()
	var ids []string
	for id := range h.runs {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	errs := make([]error, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() { errs[i] = h.Stop(id) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (h *Host) find(id string) *run {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[id]
}

// logSize is how much of its output the service keeps of a container
// (https://learn.microsoft.com/azure/container-instances/container-instances-get-logs
// names no bound; 4 MiB is what a request here can carry).
const logSize = 4 << 20

// said reads the end of the log.
func (r *run) said() (string, error) {
	f, err := os.Open(filepath.Join(r.dir, logFile))
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	from := max(0, info.Size()-logSize)
	b := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
		return "", fmt.Errorf("reading what the runtime said: %w", err)
	}
	return string(b), nil
}
