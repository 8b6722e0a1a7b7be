package fs

import (
	"strings"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
)

// TestOutputHeadIsAManifest: a head may name a finished epoch. Less than it is
// refused, and so is another manifest in its place; more is welcome.
func TestOutputHeadIsAManifest(t *testing.T) {
	store := &storetest.Memory{}
	first := mustClose(t, mustOpen(t, store, OutputOptions{}))
	second := mustClose(t, mustOpen(t, store, OutputOptions{}))
	for name, tc := range map[string]struct {
		head Head
		want string // "" for an output that opens
	}{
		"older":      {Head{Epoch: 1, Digest: first.Manifest}, ""},
		"the newest": {Head{Epoch: 2, Digest: second.Manifest}, ""},
		"another":    {Head{Epoch: 2, Digest: first.Manifest}, "the manifest of epoch 2 with digest"},
		"the next":   {Head{Epoch: 3, Digest: first.Manifest}, "the manifest of epoch 3 is missing"},
		"far ahead":  {Head{Epoch: 1 << 60, Digest: format.Digest{}}, "is missing"},
	} {
		head := tc.head
		// Each on a copy: opening claims an epoch.
		o, err := OpenOutput(ctx, store.Clone(), testKey, OutputOptions{Head: &head, Create: true})
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			o.kill()
			continue
		}
		if err == nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want a refusal with %q", name, err, tc.want)
		}
	}
}
