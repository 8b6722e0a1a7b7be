package vault

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"sync"

	"cloister/internal/localcloud/wire"
)

// state is everything a vault holds, in the form of its file.
type state struct {
	Keys    collection[*keyVersion]    `json:"keys"`
	Secrets collection[*secretVersion] `json:"secrets"`
}

// meta is what keys and secrets have in common.
type meta struct {
	Version    string            `json:"version"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
}

func (m *meta) base() *meta { return m }

type item interface{ base() *meta }

// object is a named key or secret with its versions, oldest first.
type object[V item] struct {
	Versions []V `json:"versions"`
	// Deleted is set while the object is only recoverable; Unix seconds.
	Deleted int64 `json:"deleted,omitempty"`
	// Rotation is the key's rotation policy as it was set.
	Rotation json.RawMessage `json:"rotation,omitempty"`
}

func (o *object[V]) newest() V { return o.Versions[len(o.Versions)-1] }

type collection[V item] map[string]*object[V]

// live returns the named object if it is there and not deleted.
func (c collection[V]) live(kind, name string) (*object[V], error) {
	o := c[name]
	if o == nil || o.Deleted != 0 {
		return nil, notFound(kind, name)
	}
	return o, nil
}

// deleted returns the named object if it is deleted but recoverable.
func (c collection[V]) deleted(kind, name string) (*object[V], error) {
	o := c[name]
	if o == nil || o.Deleted == 0 {
		return nil, deletedNotFound(kind, name)
	}
	return o, nil
}

// find returns a version of a live object, the newest where version is "".
func (c collection[V]) find(kind, name, version string) (V, error) {
	o, err := c.live(kind, name)
	if err == nil && version == "" {
		return o.newest(), nil
	}
	if err == nil {
		for _, v := range o.Versions {
			if v.base().Version == version {
				return v, nil
			}
		}
		err = notFound(kind, name+"/"+version)
	}
	var none V
	return none, err
}

// add appends a version, and makes the object if there is none.
func (c collection[V]) add(kind, name string, v V) error {
	o := c[name]
	if o == nil {
		o = &object[V]{}
		c[name] = o
	}
	if o.Deleted != 0 {
		return conflict(kind, name)
	}
	o.Versions = append(o.Versions, v)
	return nil
}

// newVersion returns a version's name: 32 hex digits.
func newVersion() string {
	var id [16]byte
	rand.Read(id[:]) //nolint:errcheck // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

// store keeps a state in memory and on disk.
type store struct {
	path string

	mu    sync.Mutex // guards state and generation
	state state
	// generation counts changes, so that an older snapshot never overwrites a newer.
	generation int

	disk    sync.Mutex // serialises writers of path; guards written
	written int
}

func openStore(path string) (*store, error) {
	s := &store{path: path}
	if _, err := wire.LoadJSON(path, &s.state); err != nil {
		return nil, err
	}
	if s.state.Keys == nil {
		s.state.Keys = collection[*keyVersion]{}
	}
	if s.state.Secrets == nil {
		s.state.Secrets = collection[*secretVersion]{}
	}
	return s, nil
}

// view runs f on the state; f must not change it nor keep references into it.
func (s *store) view(f func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f(&s.state)
}

// update runs f on the state and, when f succeeds, returns once the change is in
// the file. f must fail before it changes anything.
func (s *store) update(f func(*state) error) error {
	s.mu.Lock()
	if err := f(&s.state); err != nil {
		s.mu.Unlock()
		return err
	}
	s.generation++
	generation := s.generation
	snapshot, err := json.MarshalIndent(&s.state, "", "  ")
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if generation <= s.written {
		return nil
	}
	if err := wire.WriteFile(s.path, snapshot); err != nil {
		return err
	}
	s.written = generation
	return nil
}
