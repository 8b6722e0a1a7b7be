package main

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// work is something an application does to a mounted tree.
type work struct {
	name    string
	amount  float64 // of unit, done by run
	unit    string
	prepare func(root string) error // not timed
	run     func(root string) error
}

const (
	largeFile   = "large"
	smallFolder = "small"
	randomReads = 8000
)

func works(c config) []work {
	mib := float64(c.size) / (1 << 20)
	readLarge := func(root string) error { return readAll(filepath.Join(root, largeFile), c.size) }
	return []work{
		{name: "cold sequential read", amount: mib, unit: "MB/s", run: readLarge},
		{name: "warm sequential read", amount: mib, unit: "MB/s", prepare: readLarge, run: readLarge},
		{name: "4 KiB random read, cold", amount: randomReads, unit: "/s", run: func(root string) error {
			return readRandom(filepath.Join(root, largeFile), c.size)
		}},
		{name: fmt.Sprintf("%d small files, cold", c.files), amount: float64(c.files), unit: "/s", run: func(root string) error {
			return readTree(filepath.Join(root, smallFolder), c.files)
		}},
	}
}

// makeInputs writes one file of size bytes and count files of 0.5 to 8 KiB in
// folders of 100. The bytes are random, so nothing compresses, and the same in
// every run.
func makeInputs(dir string, size int64, count int) error {
	random := rand.NewChaCha8([32]byte{1})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	large, err := os.Create(filepath.Join(dir, largeFile))
	if err != nil {
		return err
	}
	defer large.Close()
	if _, err := io.CopyN(large, random, size); err != nil {
		return err
	}
	sizes := rand.New(random)
	for i := range count {
		folder := filepath.Join(dir, smallFolder, fmt.Sprintf("%03d", i/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		b := make([]byte, 512+sizes.IntN(8<<10-512))
		random.Read(b)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%05d", i)), b, 0o644); err != nil {
			return err
		}
	}
	return large.Close()
}

func readAll(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, want %d", path, n, size)
	}
	return err
}

// readRandom reads pages at random places, each at most once, with the
// kernel's read-ahead off: every read reaches the daemon.
func readRandom(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const adviceRandom = 1 // POSIX_FADV_RANDOM
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, adviceRandom, 0, 0); errno != 0 {
		return errno
	}
	pages := rand.New(rand.NewPCG(1, 2)).Perm(int(size / 4096))
	b := make([]byte, 4096)
	for i := range randomReads {
		if _, err := f.ReadAt(b, int64(pages[i%len(pages)])*4096); err != nil {
			return err
		}
	}
	return nil
}

func readTree(root string, want int) error {
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		_, err = os.ReadFile(path)
		return err
	})
	if err == nil && files != want {
		err = fmt.Errorf("%s has %d files, want %d", root, files, want)
	}
	return err
}
