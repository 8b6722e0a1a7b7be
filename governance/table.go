package governance

import "iter"

// table is a map of what grows with a log. It forks at once however large it
// is: a fork reads what it does not hold itself from the table below, which must
// not change meanwhile. Nothing is ever taken out of one.
type table[K comparable, V any] struct {
	below *table[K, V]
	own   map[K]V
	size  int
}

func (t *table[K, V]) fork() table[K, V] { return table[K, V]{below: t, size: t.len()} }

func (t *table[K, V]) len() int {
	if t == nil {
		return 0
	}
	return t.size
}

func (t *table[K, V]) get(key K) (v V, ok bool) {
	for ; t != nil && !ok; t = t.below {
		v, ok = t.own[key]
	}
	return v, ok
}

func (t *table[K, V]) has(key K) bool {
	_, ok := t.get(key)
	return ok
}

func (t *table[K, V]) set(key K, v V) {
	if !t.has(key) {
		t.size++
	}
	if t.own == nil {
		t.own = map[K]V{}
	}
	t.own[key] = v
}

// all yields everything once, in no order.
func (t *table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		seen := map[K]bool{}
		for ; t != nil; t = t.below {
			for k, v := range t.own {
				if seen[k] {
					continue
				}
				if t.below != nil {
					seen[k] = true
				}
				if !yield(k, v) {
					return
				}
			}
		}
	}
}
