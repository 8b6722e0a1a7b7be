package prep_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/prep"
)

func testRoot() *format.RootSecret {
	root, err := format.RootSecretFromBytes([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	return root
}

// old is a modification time that lies well before any run of a test: files of
// it count as unchanged in the next epoch.
var old = time.Date(2020, 2, 29, 12, 0, 0, 123456789, time.UTC)

// write makes a file with these contents, and the time old.
func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

// noise returns n bytes that are the same in every run.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func encrypt(t testing.TB, s prep.Store, source string) *prep.Sealed {
	t.Helper()
	sealed, err := prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot()})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func verify(s prep.Store, ref *format.Reference) (*prep.Verified, error) {
	return prep.Verify(context.Background(), s, prep.VerifyOptions{Key: testRoot(), Reference: ref})
}

func decrypt(s prep.Store, target string, ref *format.Reference) (*prep.Decrypted, error) {
	return prep.Decrypt(context.Background(), s, target, prep.DecryptOptions{Key: testRoot(), Reference: ref})
}

// mustRoundTrip verifies a volume, decrypts it and compares it with source.
func mustRoundTrip(t testing.TB, s prep.Store, source string, ref format.Reference, special bool) string {
	t.Helper()
	if _, err := verify(s, &ref); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "out")
	if _, err := prep.Decrypt(context.Background(), s, target, prep.DecryptOptions{Key: testRoot(), Reference: &ref, Special: special}); err != nil {
		t.Fatal(err)
	}
	sameTrees(t, source, target)
	return target
}

// sameTrees compares two folders in everything a volume keeps.
func sameTrees(t testing.TB, a, b string) {
	t.Helper()
	in, out := snapshot(t, a), snapshot(t, b)
	if len(in) == 0 {
		t.Fatal("nothing to compare")
	}
	for _, path := range slices.Sorted(maps.Keys(in)) {
		if in[path] != out[path] {
			t.Errorf("%q differs:\n in  %s\n out %s", path, in[path], out[path])
		}
	}
	for path := range out {
		if _, ok := in[path]; !ok {
			t.Errorf("%q has come from nowhere", path)
		}
	}
}

// snapshot describes every file below dir in one line, by path.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	firstOf := map[string]string{} // inode → first path, for hard links
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%v mtime %d", info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			line += fmt.Sprintf(" size %d sha256 %x", info.Size(), hash(t, path))
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" to %q", target)
		}
		system, inode := systemSnapshot(t, path, info)
		if first, ok := firstOf[inode]; ok && inode != "" {
			line += " same as " + first
		} else {
			firstOf[inode] = name
		}
		files[name] = line + system
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func hash(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}

// objects returns the names and contents of a store.
func objects(t testing.TB, s prep.Store) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for e, err := range s.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name] = make([]byte, e.Size)
		if err := s.Get(context.Background(), e.Name, 0, all[e.Name]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// storeOf returns a store with these objects.
func storeOf(t testing.TB, all map[string][]byte) *storetest.Memory {
	t.Helper()
	s := new(storetest.Memory)
	for name, data := range all {
		if err := s.Put(context.Background(), name, data); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func dataNames(all map[string][]byte) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool {
		return !strings.HasPrefix(name, format.DataPrefix)
	})
}

func mustNotExist(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there (%v)", path, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
