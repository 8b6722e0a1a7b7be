package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// writeLarge writes the large file and ends with fsync: MiB/s.
func writeLarge(_ context.Context, l *lab, m *mounted) (float64, error) {
	source, err := l.source()
	if err != nil {
		return 0, err
	}
	from, err := os.Open(filepath.Join(source, largeFile))
	if err != nil {
		return 0, err
	}
	defer from.Close()
	seconds, err := timed(func() error { return writeFrom(filepath.Join(m.root, "written"), from) })
	return mibPerSecond(seconds, l.config), err
}

// writeFrom writes a new file in pieces of 1 MiB, and has it durable.
func writeFrom(path string, from io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{from}, make([]byte, 1<<20)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// createSmall writes the small files one after the other, and waits until the
// last is in the store: files a second.
func createSmall(_ context.Context, l *lab, m *mounted) (float64, error) {
	random := rand.NewChaCha8([32]byte{3})
	sizes := rand.New(random)
	files := make([][]byte, l.files)
	for i := range files {
		files[i] = randomBytes(random, sizes)
	}
	settle := m.finish
	if m.settle != nil {
		settle = m.settle
	}
	seconds, err := timed(func() error {
		for i, data := range files {
			if err := writeInFolders(m.root, i, 100, data); err != nil {
				return err
			}
		}
		return settle()
	})
	return filesPerSecond(seconds, l.config), err
}

// copySource copies the inputs into the mount: seconds.
func copySource(ctx context.Context, l *lab, m *mounted) (float64, error) {
	source, err := l.source()
	if err != nil {
		return 0, err
	}
	return timed(func() error { return command(ctx, nil, "", "cp", "-r", source+"/.", m.root) })
}

// writeRandom overwrites pages at random places of a file a quarter the size of
// the large one, and ends with one fsync: writes a second.
func writeRandom(_ context.Context, l *lab, m *mounted) (float64, error) {
	size := l.size / 4
	path := filepath.Join(m.root, "random")
	if err := writeFrom(path, io.LimitReader(rand.NewChaCha8([32]byte{4}), size)); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	pages := rand.New(rand.NewPCG(5, 6)).Perm(int(size / 4096))
	b := make([]byte, 4096)
	seconds, err := timed(func() error {
		for i := range localReads {
			if _, err := f.WriteAt(b, int64(pages[i%len(pages)])*4096); err != nil {
				return err
			}
		}
		return f.Sync()
	})
	return localReads / seconds, err
}

// cloneRepository has git clone a repository: seconds.
func cloneRepository(ctx context.Context, l *lab, m *mounted) (float64, error) {
	repository, err := l.repository()
	if err != nil {
		return 0, err
	}
	return timed(func() error {
		return command(ctx, nil, "", "git", "clone", "-q", "file://"+repository, filepath.Join(m.root, "clone"))
	})
}

// insertRows has sqlite3 make a database by 10,000 transactions: seconds.
func insertRows(ctx context.Context, _ *lab, m *mounted) (float64, error) {
	var script strings.Builder
	script.WriteString("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT);\n")
	for i := range 10_000 {
		fmt.Fprintf(&script, "INSERT INTO t VALUES (%d, 'the text of row %d');\n", i, i)
	}
	return timed(func() error {
		return command(ctx, nil, script.String(), "sqlite3", filepath.Join(m.root, "database"))
	})
}

// extractArchive has tar make the small files: seconds.
func extractArchive(ctx context.Context, l *lab, m *mounted) (float64, error) {
	archive, err := l.archive()
	if err != nil {
		return 0, err
	}
	return timed(func() error { return command(ctx, nil, "", "tar", "-xf", archive, "-C", m.root) })
}

// peakOfWriter writes four times the size of the large file, and returns the
// most memory the daemon had, in MiB.
func peakOfWriter(_ context.Context, l *lab, m *mounted) (float64, error) {
	if err := writeFrom(filepath.Join(m.root, "written"), io.LimitReader(rand.NewChaCha8([32]byte{7}), 4*l.size)); err != nil {
		return 0, err
	}
	peak, err := memory(m.pid, "VmHWM")
	return peak / (1 << 20), err
}
