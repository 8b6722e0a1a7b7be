package broker

import (
	"bytes"
	"encoding/hex"
	"slices"
	"sync"

	"cloister/internal/localcloud/wire"
)

// store holds the resources and who is admitted to them, in one file.
type store struct {
	file string

	mu    sync.Mutex // guards state, and the file's order
	state state
}

type state struct {
	Simulated string              `json:"simulated"`
	Resources map[string][]byte   `json:"resources"`
	Admitted  map[string][]string `json:"admitted"` // host data in hexadecimal, by resource
}

func openStore(file string) (*store, error) {
	s := &store{file: file, state: state{Simulated: wire.Simulated, Resources: map[string][]byte{}, Admitted: map[string][]string{}}}
	_, err := wire.LoadJSON(file, &s.state)
	return s, err
}

func (s *store) put(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Resources[name] = data
	return wire.SaveJSON(s.file, s.state)
}

func (s *store) admit(name string, hostData [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	host := hex.EncodeToString(hostData[:])
	if slices.Contains(s.state.Admitted[name], host) {
		return nil
	}
	s.state.Admitted[name] = append(s.state.Admitted[name], host)
	return wire.SaveJSON(s.file, s.state)
}

// get returns a copy of a resource.
func (s *store) get(name string, hostData [32]byte) (data []byte, found, admitted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, found = s.state.Resources[name]
	return bytes.Clone(data), found, slices.Contains(s.state.Admitted[name], hex.EncodeToString(hostData[:]))
}
