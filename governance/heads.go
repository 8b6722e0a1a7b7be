package governance

import "cloister/governance/statement"

// Head is how far an output volume has come, by the word of the runs that wrote
// it.
type Head struct {
	Epoch    uint64
	Sequence uint64 // of the newest journal record in that epoch; 0: the epoch's manifest
	Digest   string // of the record or manifest, as statement.Digest writes it
}

// before reports whether the volume has come further at other. A manifest ends
// its epoch.
func (h Head) before(other Head) bool {
	if h.Epoch != other.Epoch {
		return h.Epoch < other.Epoch
	}
	return h.Sequence != 0 && (other.Sequence == 0 || h.Sequence < other.Sequence)
}

// OutputHead returns the furthest that any run said an output volume has come
// since its owner last pinned it in the contract, and false where none said
// anything. Whoever opens the volume wants at least that.
//
// A head counts whoever's run said it: it only ever raises what a store must
// show. So a false one can stop a run, which the store can too, and never make
// a run take less than was written.
func (s *State) OutputHead(volume string) (Head, bool) {
	h, ok := s.heads[volume]
	return h, ok
}

func (s *State) raise(version uint64, b *statement.JournalHead) {
	h := Head{b.Epoch, b.Sequence, b.Head}
	if was, ok := s.heads[b.Volume]; version < s.pinned[b.Volume] || ok && !was.before(h) {
		return
	}
	if s.heads == nil {
		s.heads = map[string]Head{}
	}
	s.heads[b.Volume] = h
}

// repin forgets what runs said of the sinks that a new version is first to pin
// so: their owner's word is newer.
func (s *State) repin(next statement.Contract) {
	for _, v := range next.Volumes {
		was, _ := s.contract.Volume(v.Name)
		if v.Kind != statement.SinkVolume || v.ID == was.ID && (v.Reference == "" || v.Reference == was.Reference) {
			continue
		}
		if s.pinned == nil {
			s.pinned = map[string]uint64{}
		}
		s.pinned[v.Name] = next.Version
		delete(s.heads, v.Name)
	}
}
