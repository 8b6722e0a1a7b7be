package governance

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// TestTableIsAMap: a table and its forks against maps that are copied. What a
// fork is told, the table below does not see.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var at table[int, int]
		want := map[int]int{}
		for range rapid.IntRange(0, 4).Draw(t, "forks") {
			for range rapid.IntRange(0, 6).Draw(t, "sets") {
				k, v := rapid.IntRange(0, 5).Draw(t, "key"), rapid.Int().Draw(t, "value")
				at.set(k, v)
				want[k] = v
			}
			before, below := maps.Clone(want), at
			fork := below.fork()
			fork.set(0, rapid.Int().Draw(t, "of the fork"))
			same(t, &below, before)
			at = below.fork()
		}
		same(t, &at, want)
	})
}

func same(t *rapid.T, at *table[int, int], want map[int]int) {
	t.Helper()
	if got := maps.Collect(at.all()); !maps.Equal(got, want) || at.len() != len(want) {
		t.Fatalf("%v of %d, want %v", got, at.len(), want)
	}
	for k, v := range want {
		if got, ok := at.get(k); !ok || got != v {
			t.Fatalf("%d: %d %t, want %d", k, got, ok, v)
		}
	}
	if at.has(-1) {
		t.Fatal("it has what nobody set")
	}
}
