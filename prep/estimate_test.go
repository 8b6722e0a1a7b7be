package prep_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
	"cloister/prep"
)

// TestEstimate: what is foretold is what Encrypt then makes.
func TestEstimate(t *testing.T) {
	source := filepath.Join(t.TempDir(), "in")
	write(t, source+"/d/empty", nil)
	for i := range 40 {
		write(t, fmt.Sprintf("%s/d/small-%d", source, i), noise(900_000, uint64(i)))
	}
	write(t, source+"/large", noise(40<<20, 7))
	must(t, os.Symlink("large", source+"/link"))
	must(t, os.Link(source+"/large", source+"/again"))
	for _, noPadding := range []bool{false, true} {
		e, err := prep.EstimateOf(t.Context(), source, noPadding)
		must(t, err)
		root := format.NewRootSecret()
		sealed, err := prep.Encrypt(t.Context(), new(storetest.Memory), prep.EncryptOptions{Source: source, Root: root, NoPadding: noPadding})
		must(t, err)
		got := prep.Sealed{Files: e.Files, Directories: e.Directories, Others: e.Others, Bytes: e.Bytes, NewObjects: e.Objects, SealedBytes: e.SealedBytes}
		want := prep.Sealed{Files: sealed.Files, Directories: sealed.Directories, Others: sealed.Others, Bytes: sealed.Bytes, NewObjects: sealed.NewObjects, SealedBytes: sealed.SealedBytes}
		if got != want || got.NewObjects < 4 {
			t.Errorf("no padding %v: foretold %+v, made %+v", noPadding, got, want)
		}
		if d := e.ManifestBytes - sealed.ManifestBytes; d < -32 || d > 32 { // a time in it has more digits or fewer
			t.Errorf("foretold a manifest of %d bytes, made %d", e.ManifestBytes, sealed.ManifestBytes)
		}
		if e.Sealing <= 0 {
			t.Errorf("sealing takes %v", e.Sealing)
		}
	}
	if _, err := prep.EstimateOf(t.Context(), source+"/none", false); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := prep.EstimateOf(ctx, source, false); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
