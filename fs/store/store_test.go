package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"cloister/fs/store"
	"cloister/fs/store/storetest"
	"cloister/internal/azurite"
	"cloister/internal/fault"
)

func open(t *testing.T, location string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), location, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, filepath.Join(t.TempDir(), "volume")) })
	})
	t.Run("blob container", func(t *testing.T) {
		server := azurite.Start(t)
		t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
		storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, server.NewURL()) })
	})
}

func TestOpenRefuses(t *testing.T) {
	for location, want := range map[string]struct {
		kind fault.Kind
		text string
	}{
		"":                                      {fault.Usage, "empty"},
		"s3://bucket/volume?secret":             {fault.Usage, "there is no store for s3://"},
		"file:///volume":                        {fault.Usage, "there is no store for file://"},
		"HTTP://10.1.2.3/acct/cont/vol":         {fault.Usage, "must be https"},
		filepath.Join(t.TempDir(), "no", "vol"): {fault.NotFound, "opening volume directory"},
	} {
		_, err := store.Open(t.Context(), location, store.Options{})
		if fault.KindOf(err) != want.kind || !strings.Contains(fmt.Sprint(err), want.text) || len(fault.Hints(err)) != 1 {
			t.Errorf("Open(%q): %v: %v, want %v with %q and a hint", location, fault.KindOf(err), err, want.kind, want.text)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("Open(%q) shows its query: %v", location, err)
		}
	}
}

// A consumer may neither import a store nor know which one it has: io/fs's
// sentinels and a type of its own must do.
func TestConsumersNeedNoImport(t *testing.T) {
	type entry = struct {
		Name string
		Size int64
	}
	s := open(t, t.TempDir())
	if err := s.Put(t.Context(), "d/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for e, err := range s.List(t.Context(), "") {
		if want := (entry{"d/x", 1}); err != nil || entry(e) != want {
			t.Errorf("listed %v, %v", e, err)
		}
	}
	if err := s.Put(t.Context(), "d/x", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put onto a taken name: %v", err)
	}
	if _, err := s.Size(t.Context(), "d/y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Size of what is not there: %v", err)
	}
}
