package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// How many random reads are timed: enough for a steady rate, few enough that a
// slow peer is not waited for.
const (
	localReads = 8000
	blobReads  = 400
	slowReads  = 40
)

func mibPerSecond(seconds float64, c config) float64 { return float64(c.size) / (1 << 20) / seconds }
func filesPerSecond(seconds float64, c config) float64 {
	return float64(c.files) / seconds
}
func justSeconds(seconds float64, _ config) float64 { return seconds }

// readLarge reads the large file from front to back: MiB/s.
func readLarge(_ context.Context, l *lab, m *mounted) (float64, error) {
	seconds, err := timed(func() error { return readStretch(filepath.Join(m.root, largeFile), 0, l.size) })
	return mibPerSecond(seconds, l.config), err
}

// readAgain is readLarge when it has just been done.
func readAgain(ctx context.Context, l *lab, m *mounted) (float64, error) {
	if _, err := readLarge(ctx, l, m); err != nil {
		return 0, err
	}
	return readLarge(ctx, l, m)
}

func readStretch(path string, off, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// The wrappers keep io.Copy from finding another way than reading.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(f, off, size), make([]byte, 1<<20))
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes from %d on, want %d", path, n, off, size)
	}
	return err
}

// readStrided reads the first MiB of every eight of the large file: MiB/s of
// what it wants.
func readStrided(_ context.Context, l *lab, m *mounted) (float64, error) {
	f, err := os.Open(filepath.Join(m.root, largeFile))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	read := 0
	seconds, err := timed(func() error {
		for off := int64(0); off+int64(len(b)) <= l.size; off += 8 << 20 {
			n, err := f.ReadAt(b, off)
			if err != nil {
				return err
			}
			read += n
		}
		return nil
	})
	return float64(read) / (1 << 20) / seconds, err
}

// readRandom reads pages of the large file at random places, each at most once,
// one at a time: reads a second.
func readRandom(reads int) work {
	return func(_ context.Context, l *lab, m *mounted) (float64, error) {
		read, done, err := randomReader(l, m)
		if err != nil {
			return 0, err
		}
		defer done()
		seconds, err := timed(func() error {
			for i := range reads {
				if err := read(i); err != nil {
					return err
				}
			}
			return nil
		})
		return float64(reads) / seconds, err
	}
}

// randomLatency is the median latency of the same, in microseconds.
func randomLatency(_ context.Context, l *lab, m *mounted) (float64, error) {
	read, done, err := randomReader(l, m)
	if err != nil {
		return 0, err
	}
	defer done()
	return medianLatency(blobReads, read)
}

// randomReader returns what reads the i-th of the random pages, with the
// kernel's read-ahead off: every read reaches the daemon.
func randomReader(l *lab, m *mounted) (read func(i int) error, done func() error, err error) {
	f, err := os.Open(filepath.Join(m.root, largeFile))
	if err != nil {
		return nil, nil, err
	}
	const adviceRandom = 1 // POSIX_FADV_RANDOM
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, adviceRandom, 0, 0); errno != 0 {
		f.Close()
		return nil, nil, errno
	}
	pages := rand.New(rand.NewPCG(1, 2)).Perm(int(l.size / 4096))
	b := make([]byte, 4096)
	return func(i int) error {
		_, err := f.ReadAt(b, int64(pages[i%len(pages)])*4096)
		return err
	}, f.Close, nil
}

// tarSmall has tar read the small files: files a second.
func tarSmall(ctx context.Context, l *lab, m *mounted) (float64, error) {
	var n counter
	seconds, err := timed(func() error { return pipe(ctx, &n, "tar", "-cf", "-", "-C", m.root, smallFolder) })
	if err == nil && int64(n) < int64(l.files)*512 {
		err = fmt.Errorf("tar wrote %d bytes", n)
	}
	return filesPerSecond(seconds, l.config), err
}

// findSmall has find list the small files: files a second.
func findSmall(ctx context.Context, l *lab, m *mounted) (float64, error) {
	seconds, err := timed(func() error { return find(ctx, filepath.Join(m.root, smallFolder), l.files) })
	return filesPerSecond(seconds, l.config), err
}

// findMany has find ask for the size of each of the many files: files a second.
func findMany(ctx context.Context, l *lab, m *mounted) (float64, error) {
	seconds, err := timed(func() error { return find(ctx, m.root, l.config.many, "-size", "+0") })
	return float64(l.config.many) / seconds, err
}

// find runs find and counts what it finds.
func find(ctx context.Context, root string, want int, tests ...string) error {
	var n counter
	args := append(append([]string{root, "-type", "f"}, tests...), "-printf", ".")
	err := pipe(ctx, &n, "find", args...)
	if err == nil && int(n) != want {
		err = fmt.Errorf("find found %d files in %s, want %d", n, root, want)
	}
	return err
}

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// pipe runs a program whose output goes through a pipe to out: a file to
// write to would be treated in another way (tar does not read for /dev/null).
func pipe(ctx context.Context, out io.Writer, name string, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, &said)
	}
	return nil
}

// residentAfterFind is the memory of the daemon after find has been everywhere,
// in bytes for each of the many files, be they there or not.
func residentAfterFind(files func(c config) int) work {
	return func(ctx context.Context, l *lab, m *mounted) (float64, error) {
		if err := find(ctx, m.root, files(l.config), "-size", "+0"); err != nil {
			return 0, err
		}
		resident, err := memory(m.pid, "VmRSS")
		return resident / float64(l.config.many), err
	}
}

func manyFiles(c config) int { return c.many }
func noFiles(config) int     { return 0 }

// peakOfReaders has 16 read a stretch of the large file each, at once, and
// returns the most memory the daemon had, in MiB.
func peakOfReaders(ctx context.Context, l *lab, m *mounted) (float64, error) {
	const readers = 16
	stretch := l.size / readers
	g, _ := errgroup.WithContext(ctx)
	for i := range int64(readers) {
		g.Go(func() error { return readStretch(filepath.Join(m.root, largeFile), i*stretch, stretch) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	peak, err := memory(m.pid, "VmHWM")
	return peak / (1 << 20), err
}
