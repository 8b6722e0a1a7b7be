package prep_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
	"cloister/internal/fault"
	"cloister/prep"
)

// cseWrite is a writer of the layout of its own: see the description of
// prep.CSE.
func cseWrite(t *testing.T, path string, key, content []byte, block int) {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	padding := (block - len(content)%block) % block
	padded := append(bytes.Clone(content), make([]byte, padding)...)
	var out []byte
	for ; len(padded) > 0; padded = padded[block:] {
		nonce := make([]byte, 12)
		rand.Read(nonce)
		out = append(out, nonce...)
		out = aead.Seal(out, nonce, padded[:block], nil)
	}
	write(t, path, binary.BigEndian.AppendUint64(out, uint64(padding)))
}

func importCSE(s prep.Store, source string, key []byte, block int64) (*prep.Sealed, error) {
	from, err := prep.NewCSE(key, block)
	if err != nil {
		return nil, err
	}
	return prep.Encrypt(context.Background(), s, prep.EncryptOptions{Source: source, Root: testRoot(), From: from})
}

func TestImport(t *testing.T) {
	key := noise(32, 77)
	for _, block := range []int{1000, 64 << 10, prep.CSEBlockSize} {
		plain, sealed := filepath.Join(t.TempDir(), "plain"), filepath.Join(t.TempDir(), "sealed")
		sizes := []int{0, 1, block - 1, block, block + 1, 3*block - 5}
		for i, size := range sizes {
			name := fmt.Sprintf("d%d/f\xff%d", i%2, i)
			write(t, plain+"/"+name, noise(size, uint64(i)))
			cseWrite(t, sealed+"/"+name, key, noise(size, uint64(i)), block)
		}
		if err := os.Symlink("d0", sealed+"/link"); err != nil {
			t.Fatal(err)
		}
		s := new(storetest.Memory)
		r, err := importCSE(s, sealed, key, int64(block))
		if err != nil {
			t.Fatal(err)
		}
		if r.Files != uint64(len(sizes)) {
			t.Errorf("%+v", r)
		}
		out := filepath.Join(t.TempDir(), "out")
		if _, err := decrypt(s, out, &r.Reference); err != nil {
			t.Fatal(err)
		}
		os.Remove(out + "/link")
		for i, size := range sizes {
			name := fmt.Sprintf("/d%d/f\xff%d", i%2, i)
			if got, err := os.ReadFile(out + name); err != nil || !bytes.Equal(got, noise(size, uint64(i))) {
				t.Errorf("blocks of %d: a file of %d came out with %d, %v", block, size, len(got), err)
			}
		}
		if again, err := importCSE(s, sealed, key, int64(block)); err != nil || again.ReusedFiles != r.Files {
			t.Errorf("again: %+v, %v", again, err)
		}
	}
}

// TestImportRefuses has every way in which a file can be other than was
// written that the layout lets one see. Each is refused by the file's name.
func TestImportRefuses(t *testing.T) {
	const block = 1000
	key, good := noise(32, 77), filepath.Join(t.TempDir(), "good")
	cseWrite(t, good, key, noise(2500, 1), block)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(whole)) }
	files := map[string][]byte{
		"nothing at all":     {},
		"seven bytes":        make([]byte, 7),
		"no trailer":         whole[:len(whole)-8],
		"an empty file's":    binary.BigEndian.AppendUint64(nil, 5),
		"a longer padding":   changed(func(b []byte) []byte { b[len(b)-1]++; return b }),
		"all of it padding":  binary.BigEndian.AppendUint64(bytes.Clone(whole[:len(whole)-8]), block),
		"a huge padding":     binary.BigEndian.AppendUint64(bytes.Clone(whole[:len(whole)-8]), 1<<63),
		"plaintext":          noise(2048, 5),
		"a byte of a tag":    changed(func(b []byte) []byte { b[block+cseOver-1] ^= 1; return b }),
		"a byte of a nonce":  changed(func(b []byte) []byte { b[0] ^= 1; return b }),
		"a byte of the last": changed(func(b []byte) []byte { b[2*(block+cseOver)+40] ^= 1; return b }),
	}
	for i := 1; i < len(whole); i += 131 {
		files[fmt.Sprintf("cut at %d", i)] = whole[:i]
	}
	for what, content := range files {
		source := t.TempDir()
		write(t, source+"/good", whole)
		write(t, source+"/the bad one", content)
		s := new(storetest.Memory)
		_, err := importCSE(s, source, key, block)
		if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "/the bad one") {
			t.Errorf("%s: %v, want it refused by name", what, err)
		}
		for name := range objects(t, s) {
			if strings.HasPrefix(name, format.ManifestPrefix) {
				t.Errorf("%s: published", what)
			}
		}
	}
	source := t.TempDir()
	write(t, source+"/good", whole)
	for what, try := range map[string]func() error{
		"another key":        func() error { return second(importCSE(new(storetest.Memory), source, noise(32, 78), block)) },
		"another block size": func() error { return second(importCSE(new(storetest.Memory), source, key, 1001)) },
	} {
		if err := try(); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), source+"/good") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := prep.NewCSE(make([]byte, n), block); fault.KindOf(err) != fault.Usage {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
	for _, n := range []int64{-1, 0, 1<<30 + 1} {
		if _, err := prep.NewCSE(key, n); fault.KindOf(err) != fault.Usage {
			t.Errorf("blocks of %d bytes: %v", n, err)
		}
	}
}

const cseOver = 28

func FuzzImport(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(make([]byte, 100+28+8))
	f.Fuzz(func(t *testing.T, content []byte) {
		source := t.TempDir()
		write(t, source+"/f", content)
		r, err := importCSE(new(storetest.Memory), source, make([]byte, 32), 100)
		if err == nil && r.Bytes > uint64(len(content)) {
			t.Errorf("%d bytes came out of %d", r.Bytes, len(content))
		}
	})
}
