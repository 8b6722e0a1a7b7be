// Command bench measures Cloister side by side with its peers, on the same
// bytes, in the same run, and prints each ratio beside the bar it must reach.
//
// Life of a run: the rows of the tables (rows_*.go) that -only selects are
// measured one after the other. For each round of a row, Cloister and the
// references take turns, each on a mount, a store or a folder made for that
// turn, so that cold is cold and a drift of the machine's speed meets all
// alike. What rows share (inputs, sealed volumes, Azurite) is in the lab, and
// made when a row first asks for it, so that one row alone is quick. Medians
// are compared. Timings decide nothing: bench reports, tests judge; it fails
// only where something could not be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
)

// config is what can be chosen on the command line.
type config struct {
	bin     string
	dir     string
	size    int64
	files   int
	many    int
	entries int
	rounds  int
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
	flag.IntVar(&c.many, "many", 1_000_000, "number of files in the volume of many files")
	flag.IntVar(&c.entries, "entries", 1_000_000, "number of entries in the ledger's log")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds; the median is printed")
	only := flag.String("only", "", "measure the rows whose name matches this regular expression")
	against := flag.String("against", "", "and hold them against the references whose name matches this one only")
	list := flag.Bool("list", false, "print the names of the rows and end")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := choose(*only, *against)
	switch {
	case err != nil:
	case *list:
		for _, r := range rows {
			fmt.Println(r.name)
		}
	default:
		err = measure(ctx, c, rows)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// choose returns the rows whose names match, in the order of the tables, with
// the references whose names match.
func choose(only, against string) (rows []row, err error) {
	name, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	peer, err := regexp.Compile(against)
	if err != nil {
		return nil, err
	}
	for _, r := range slices.Concat(inputRows(), scaleRows(), sealingRows(), outputRows(), startRows(), policyRows(), regoRows(), ledgerRows(), ingressRows()) {
		r.against = slices.DeleteFunc(r.against, func(ref reference) bool { return !peer.MatchString(ref.name) })
		if name.MatchString(r.name) && len(r.against) > 0 {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no row's name matches %q with a reference that matches %q; -list prints them", only, against)
	}
	return rows, nil
}

func measure(ctx context.Context, c config, rows []row) error {
	l, err := newLab(c)
	if err != nil {
		return err
	}
	defer l.close()
	printHeading(ctx, c)
	failed := 0
	for _, r := range rows {
		if err := r.measure(ctx, l); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", r.name, err)
			failed++
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d rows could not be measured", failed, len(rows))
	}
	return nil
}
