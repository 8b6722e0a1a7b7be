// Command bench measures Cloister side by side with its peers, on the same
// bytes, in the same run, and prints medians and ratios.
//
// Life of a run: the inputs are made once (one large file of random bytes and
// many small ones) and given to each contender to seal; then for each round
// and each work the contenders take turns, each on a mount made for that turn,
// so that a cold read is cold and a drift of the machine's speed meets all.
// Ratios are above 1 where Cloister is faster. Timings decide nothing: bench
// reports, tests judge.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

type config struct {
	bin    string
	dir    string
	size   int64
	files  int
	rounds int
}

func main() {
	os.Exit(run())
}

func run() int {
	var c config
	flag.StringVar(&c.bin, "bin", "bin", "folder of the binaries to measure")
	flag.StringVar(&c.dir, "dir", "/dev/shm", "where to work; on tmpfs the store costs nothing")
	flag.Int64Var(&c.size, "size", 1<<30, "bytes of the large file")
	flag.IntVar(&c.files, "files", 5000, "number of small files")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds; the median is printed")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func bench(ctx context.Context, c config) error {
	dir, err := os.MkdirTemp(c.dir, "cloister-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c.dir = dir

	source := filepath.Join(dir, "source")
	if err := makeInputs(source, c.size, c.files); err != nil {
		return fmt.Errorf("making the inputs: %w", err)
	}
	contenders := []contender{newCloister(c), newGocryptfs(c)}
	for _, who := range contenders {
		if err := who.seal(ctx, source); err != nil {
			return fmt.Errorf("sealing for %s: %w", who.name(), err)
		}
	}

	fmt.Printf("%s, %s, %d CPUs; %d MiB file, %d small files, store on %s, median of %d\n\n",
		time.Now().Format(time.DateOnly), runtime.GOARCH, runtime.NumCPU(), c.size>>20, c.files, filepath.Dir(dir), c.rounds)
	fmt.Printf("%-34s %14s %14s %8s\n", "work", contenders[0].name(), contenders[1].name(), "ratio")
	for _, w := range works(c) {
		figures := make([][]float64, len(contenders))
		for range c.rounds {
			for i, who := range contenders {
				seconds, err := turn(ctx, who, w)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", w.name, who.name(), err)
				}
				figures[i] = append(figures[i], w.amount/seconds)
			}
		}
		ours, theirs := median(figures[0]), median(figures[1])
		fmt.Printf("%-34s %9.0f %-4s %9.0f %-4s %8.2f\n", w.name, ours, w.unit, theirs, w.unit, ours/theirs)
	}
	return nil
}

// turn mounts, works, unmounts, and returns the seconds the work took.
func turn(ctx context.Context, who contender, w work) (seconds float64, err error) {
	root, unmount, err := who.mount(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if uerr := unmount(); err == nil {
			err = uerr
		}
	}()
	if w.prepare != nil {
		if err := w.prepare(root); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	err = w.run(root)
	return time.Since(start).Seconds(), err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
