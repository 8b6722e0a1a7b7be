package cache

// spare is memory that held ranges and will again, by its size in bytes.
type spare map[int64][][]byte

// take returns n bytes of it, or nil.
func (s spare) take(n int64) []byte {
	list := s[n]
	if len(list) == 0 {
		return nil
	}
	last := len(list) - 1
	b := list[last]
	list[last], s[n] = nil, list[:last]
	return b
}

func (s spare) put(b []byte) {
	if n := int64(len(b)); n > 0 {
		s[n] = append(s[n], b)
	}
}

func (s spare) bytes() (held int64) {
	for n, list := range s {
		held += n * int64(len(list))
	}
	return held
}

// trim leaves at most limit bytes to it, and the rest to the collector.
func (s spare) trim(limit int64) {
	held := s.bytes()
	for n := range s {
		for ; held > max(limit, 0) && len(s[n]) > 0; held -= n {
			s.take(n)
		}
		if len(s[n]) == 0 {
			delete(s, n)
		}
	}
}
