package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fragment is how many bytes of a name or of contents are looked for. Random
// bytes hold a given fragment of this length once in 2^64 places.
const fragment = 8

// fragments collects what must not be seen in the store: the beginning of
// every name and of every file's contents in the source, where they are long
// enough to be told from chance.
func fragments(source string) (map[uint64]string, error) {
	found := map[uint64]string{}
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); len(name) >= fragment {
			found[binary.LittleEndian.Uint64([]byte(name))] = "the name " + name
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		// One byte over and over shows nothing: an epoch's name has zeros too.
		if err == nil && len(b) >= fragment && bytes.Count(b[:fragment], b[:1]) < fragment {
			found[binary.LittleEndian.Uint64(b)] = "the beginning of " + path
		}
		return err
	})
	return found, err
}

// scanStore looks for the fragments at every place of every object in the
// store, names of objects included.
func scanStore(store string, wanted map[uint64]string) (objects int, size int64, err error) {
	// One bit for each of 2^20 hashes keeps nearly all places from the map.
	const bits = 20
	var maybe [1 << bits / 64]uint64
	hash := func(v uint64) uint64 { return v * 0x9e3779b97f4a7c15 >> (64 - bits) }
	for v := range wanted {
		maybe[hash(v)/64] |= 1 << (hash(v) % 64)
	}
	err = filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		objects, size = objects+1, size+int64(len(b))
		for _, text := range [][]byte{b, []byte(d.Name())} {
			for i := 0; i+fragment <= len(text); i++ {
				v := binary.LittleEndian.Uint64(text[i:])
				if maybe[hash(v)/64]&(1<<(hash(v)%64)) == 0 {
					continue
				}
				if what, ok := wanted[v]; ok {
					return fmt.Errorf("%s is in the store, in %s at %d", what, d.Name(), i)
				}
			}
		}
		return nil
	})
	if err == nil && (objects == 0 || len(wanted) == 0) {
		err = fmt.Errorf("%d objects were searched for %d fragments: that shows nothing", objects, len(wanted))
	}
	return objects, size, err
}
