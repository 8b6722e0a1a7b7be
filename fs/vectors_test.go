package fs

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
	"cloister/internal/vectors"
)

// TestJournalVectors recovers the journals that package format's tests make.
func TestJournalVectors(t *testing.T) {
	refusals := map[string]error{"malformed": format.ErrMalformed, "authentication": format.ErrAuthentication, "refused": errRefused}
	for _, v := range vectors.Load(t, "journal") {
		names, err := recoverVector(t, &v)
		if err == nil && !slices.Equal(names, v.All("name")) {
			t.Errorf("%s: recovers %q, want %q", v.Name, names, v.All("name"))
		}
		v.Check(t, err, refusals, func(err, class error) bool {
			return fault.KindOf(err) == fault.Refused && (class == errRefused || errors.Is(err, class))
		})
	}
}

// errRefused stands for any refusal: a record that is missing has no sentinel.
var errRefused = errors.New("of kind Refused")

// recoverVector puts a vector's objects into a store, opens the volume for
// writing, and returns the names in the root.
func recoverVector(t *testing.T, v *vectors.Vector) (names []string, err error) {
	t.Helper()
	store, body := new(storetest.Memory), v.Body
	for _, object := range v.All("object") {
		var name string
		var n int
		if _, err := fmt.Sscan(object, &name, &n); err != nil || n > len(body) {
			t.Fatalf("%s: object %q: %v", v.Name, object, err)
		}
		check(t, store.Put(ctx, name, body[:n]))
		body = body[n:]
	}
	dek := v.Hex(t, "dek")
	key := func(format.Preamble) (*format.DEK, error) { return format.DEKFromBytes(dek) }
	o, err := OpenOutput(ctx, store, key, OutputOptions{})
	if err != nil {
		return nil, err
	}
	defer mustClose(t, o)
	err = o.ReadDir(format.RootInode, 0, func(e DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	return names, err
}
