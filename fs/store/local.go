package store

import "cloister/fs/store/dir"

// Local reports whether a request costs little more than the bytes it moves:
// true of a directory, where the system keeps and reads ahead by itself.
func (s *Store) Local() bool {
	_, ok := s.backend.(*dir.Store)
	return ok
}
