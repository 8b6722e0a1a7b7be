package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"cloister/fs/store"
	"cloister/fs/store/diskcache"
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
	t.Run("with a cache", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Store {
			s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "volume"), store.Options{Create: true,
				Cache: diskcache.Options{Dir: t.TempDir(), Size: diskcache.MinSize}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		})
	})
}

// Two writers at once on one volume, each with a store of its own: one makes an
// object, the other is told.
func TestTwoWriters(t *testing.T) {
	server := azurite.Start(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
	for name, location := range map[string]string{"directory": t.TempDir(), "blob container": server.NewURL()} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t, location), open(t, location)
			for i := range 20 {
				name := fmt.Sprintf("manifest/%016x", i)
				errs := make(chan error, 2)
				for _, s := range []*store.Store{a, b} {
					go func() { errs <- s.Put(t.Context(), name, []byte(name)) }()
				}
				one, two := <-errs, <-errs
				if (one == nil) == (two == nil) {
					t.Errorf("%s: %v and %v, want one winner", name, one, two)
				}
				if lost := cmp.Or(one, two); !errors.Is(lost, store.ErrExist) || fault.KindOf(lost) != fault.Conflict {
					t.Errorf("%s: who was second is told %v", name, lost)
				}
			}
		})
	}
}

// Fresh is for every store; only a cache makes it differ from Get. And a cache
// makes a directory no longer local.
func TestFresh(t *testing.T) {
	const name = "data/00"
	plain, dir := open(t, t.TempDir()), t.TempDir()
	openCached := func() *store.Store {
		s, err := store.Open(t.Context(), plain.String(), store.Options{Cache: diskcache.Options{Dir: dir, Size: diskcache.MinSize}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	cached := openCached()
	if !plain.Local() || cached.Local() {
		t.Errorf("local: %v, and with a cache %v", plain.Local(), cached.Local())
	}
	put := func(data string) {
		if err := errors.Join(plain.Delete(t.Context(), name), plain.Put(t.Context(), name, []byte(data))); err != nil {
			t.Fatal(err)
		}
	}
	get := func(f func(context.Context, string, int64, []byte) error) string {
		p := make([]byte, 3)
		if err := f(t.Context(), name, 0, p); err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	put("old")
	get(cached.Get)
	put("new")
	cached = openCached() // the directory store beneath keeps files open
	if plain, old, fresh := get(plain.Fresh), get(cached.Get), get(cached.Fresh); plain != "new" || old != "old" || fresh != "new" {
		t.Errorf("Fresh of the store gives %s; with a cache Get gives %s, Fresh %s", plain, old, fresh)
	}
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
