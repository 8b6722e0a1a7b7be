package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/fs/store/object"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, t.TempDir()) })
}

func TestOpen(t *testing.T) {
	base := t.TempDir()
	absent := filepath.Join(base, "absent")
	if _, err := Open(absent, false); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), absent) {
		t.Errorf("opening an absent directory: %v", err)
	}
	open(t, filepath.Join(absent, "deeper"))
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, create := range []bool{false, true} {
		if _, err := Open(file, create); fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) == 0 {
			t.Errorf("opening a file as a directory: %v: %v", fault.KindOf(err), err)
		}
	}
}

func TestModesAreTheOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	s := open(t, path)
	if err := s.Put(t.Context(), "d/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700 | os.ModeDir, "d": 0o700 | os.ModeDir, "d/x": 0o600} {
		info, err := os.Lstat(filepath.Join(path, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v: %v", name, info.Mode(), want, err)
		}
	}
}

func TestLinksAreRefused(t *testing.T) {
	outside, path := t.TempDir(), t.TempDir()
	s := open(t, path)
	if err := s.Put(t.Context(), "d/real", []byte("real")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"d/inside":  "real",
		"d/outside": filepath.Join(outside, "secret"),
		"e":         "d",
		"f":         outside,
	} {
		if err := os.Symlink(target, filepath.Join(path, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d/inside", "d/outside", "e/real", "f/secret"} {
		if err := s.Get(t.Context(), name, 0, make([]byte, 1)); fault.KindOf(err) != fault.Refused {
			t.Errorf("Get(%q): %v", name, err)
		}
		if _, err := s.Size(t.Context(), name); fault.KindOf(err) != fault.Refused {
			t.Errorf("Size(%q): %v", name, err)
		}
	}
	for _, name := range []string{"e/new", "f/new", "d/inside"} {
		if err := s.Put(t.Context(), name, nil); fault.KindOf(err) != fault.Refused {
			t.Errorf("Put(%q): %v", name, err)
		}
	}
	for _, prefix := range []string{"", "d/", "e/", "f/"} {
		var last error
		for _, err := range s.List(t.Context(), prefix) {
			last = err
		}
		if fault.KindOf(last) != fault.Refused || !strings.Contains(last.Error(), "symbolic link") {
			t.Errorf("List(%q): %v", prefix, last)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
		t.Error("an object was written outside the volume")
	}
}

func TestForeignFilesAreNotListed(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	for _, name := range []string{".DS_Store", "notes for me.txt", ".cloister-put-X"} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range s.List(t.Context(), "") {
		t.Errorf("listed: %v %v", e, err)
	}
}

func TestNothingIsLeftOfAFailedPut(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Past the check at its start, so that the temporary file is already there.
	if err := s.put(ctx, "d/x", make([]byte, 100)); !errors.Is(err, context.Canceled) {
		t.Fatalf("put: %v", err)
	}
	if err := os.Mkdir(filepath.Join(path, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.publish("no-such-temp", "x"); err == nil {
		t.Error("publish of nothing succeeds")
	}
	if got := tree(t, path); !slices.Equal(got, []string{"d", "taken"}) {
		t.Errorf("the directory holds %q", got)
	}
}

func tree(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	return got
}

func TestStaleTempsAreCleared(t *testing.T) {
	path := t.TempDir()
	for name, age := range map[string]time.Duration{
		tempPrefix + "OLD": staleAfter + time.Hour,
		tempPrefix + "NEW": time.Hour,
		".other":           staleAfter + time.Hour,
	} {
		file := filepath.Join(path, name)
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := len(tree(t, path)); got != 3 {
		t.Errorf("opening for reading removed something: %d files left", got)
	}
	open(t, path)
	if got, want := tree(t, path), []string{tempPrefix + "NEW", ".other"}; !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
}

func TestOpenFilesAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	s.files.max = 4
	for i := range 20 {
		if err := s.Put(t.Context(), fmt.Sprintf("d/%d", i), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		for i := range 20 {
			p := make([]byte, 1)
			if err := s.Get(t.Context(), fmt.Sprintf("d/%d", i), 0, p); err != nil || p[0] != byte(i) {
				t.Fatalf("round %d, object %d: %v %v", round, i, p, err)
			}
		}
	}
	if n := s.files.recent.Len(); n != 4 || len(s.files.byName) != 4 {
		t.Errorf("%d files are open, want 4", n)
	}
	f, err := s.files.acquire("d/19")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "d/19"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Errorf("a reader lost its file to a delete: %v", err)
	}
	s.files.release(f)
	if _, err := f.ReadAt(p, 0); err == nil {
		t.Error("the file stays open after its last reader")
	}
}

func TestAnObjectCutShort(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	if err := s.Put(t.Context(), "d/x", bytes.Repeat([]byte("x"), 100)); err != nil {
		t.Fatal(err)
	}
	if err := s.Get(t.Context(), "d/x", 0, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(path, "d/x"), 50); err != nil {
		t.Fatal(err)
	}
	err := s.Get(t.Context(), "d/x", 0, make([]byte, 100))
	want := "reading object d/x of " + path + ": it has 50 bytes, 100 were asked for at 0"
	if fault.KindOf(err) != fault.Refused || err.Error() != want || len(fault.Hints(err)) != 1 {
		t.Errorf("got %v %q %q, want %q", fault.KindOf(err), err, fault.Hints(err), want)
	}
}

func TestTakenNameSaysSo(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Put(t.Context(), "d/x", nil); err != nil {
		t.Fatal(err)
	}
	err := s.publish("d/x", "d/x") // the link itself, past the first look
	if !errors.Is(err, object.ErrExist) {
		t.Errorf("publish onto a taken name: %v", err)
	}
}
