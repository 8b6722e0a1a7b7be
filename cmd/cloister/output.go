package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

func jsonFlag() urfave.Flag {
	return &urfave.BoolFlag{Name: "json", Usage: "print the result on standard output as one JSON object"}
}

// printResult prints v as one line of JSON if --json is given, and otherwise
// what text prints.
func printResult(c *urfave.Context, v any, text func(stdout, stderr io.Writer)) error {
	if !c.Bool("json") {
		text(c.App.Writer, c.App.ErrWriter)
		return nil
	}
	e := json.NewEncoder(c.App.Writer)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// action makes a command's action of run. takes is what it must be given:
// "--NAME" for a flag, and the arguments' names in their order. Flags may stand
// behind the arguments. A signal that ended it is reported as that, with the
// remedy.
func action(run func(c *urfave.Context, args []string) error, takes ...string) urfave.ActionFunc {
	var required, names []string
	for _, t := range takes {
		if flag, ok := strings.CutPrefix(t, "--"); ok {
			required = append(required, flag)
			continue
		}
		names = append(names, t)
	}
	return func(c *urfave.Context) error {
		args, err := anyOrder(c, required, names...)
		if err != nil {
			return err
		}
		err = run(c, args)
		if err != nil && c.Context.Err() != nil && errors.Is(err, context.Canceled) {
			return fault.Errorf(fault.Incomplete, "run the same command again", "%s was interrupted", c.Command.HelpName)
		}
		return err
	}
}

// progress shows how far work has come, on a terminal, once it has taken a
// second. It implements prep.Progress.
type progress struct {
	total, done atomic.Int64
	counts      bool // things, not bytes
	began       time.Time
	stopped     chan struct{}
	gone        sync.WaitGroup
}

// showAfter is how long work takes before it is worth a bar.
const showAfter = time.Second

// startProgress begins to watch work called name. The caller stops it before
// it prints anything.
func startProgress(c *urfave.Context, name string) *progress { return watchWork(c, name, false) }

// startCounter is startProgress for work that is counted in things, called name.
func startCounter(c *urfave.Context, name string) *progress { return watchWork(c, name, true) }

func watchWork(c *urfave.Context, name string, counts bool) *progress {
	p := &progress{counts: counts, began: time.Now(), stopped: make(chan struct{})}
	if !isTerminal(c.App.ErrWriter) {
		return p
	}
	p.gone.Go(func() {
		select {
		case <-p.stopped:
		case <-time.After(showAfter):
			p.show(c.App.ErrWriter, name)
		}
	})
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *progress) Total(bytes int64) { p.total.Store(bytes) }
func (p *progress) Done(bytes int64)  { p.done.Add(bytes) }

// stop takes the bar away.
func (p *progress) stop() {
	close(p.stopped)
	p.gone.Wait()
}

// elapsed is how long the work has taken, for the result.
func (p *progress) elapsed() time.Duration { return time.Since(p.began).Round(time.Millisecond) }

func (p *progress) show(w io.Writer, name string) {
	bars := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	so, rate := decor.CountersKiloByte("% .1f / % .1f "), decor.NewAverageSpeed(decor.SizeB1000(0), "% .1f ", p.began)
	least := int64(1)
	if p.counts {
		so, rate, least = decor.CountersNoUnit("%d / %d "), decor.NewAverageSpeed(0, "%.1f/s ", p.began), 0
	}
	bar := bars.AddBar(0,
		mpb.PrependDecorators(decor.Name(name+" "), so),
		mpb.AppendDecorators(
			rate,
			decor.NewAverageETA(decor.ET_STYLE_GO, p.began, nil)))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		// A bar that reaches its total is finished; until the work has ended
		// there is always a byte to go.
		done := p.done.Load()
		bar.SetTotal(max(p.total.Load(), done+least), false)
		bar.SetCurrent(done)
		select {
		case <-tick.C:
		case <-p.stopped:
			bar.Abort(true)
			bars.Wait()
			return
		}
	}
}

// parseSize reads a number of bytes with an optional unit: KiB, MiB, GiB, or K,
// M, G for the same.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	shift, ok := map[string]int{"": 0, "B": 0, "KiB": 10, "K": 10, "MiB": 20, "M": 20, "GiB": 30, "G": 30}[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && (!ok || n <= 0 || n > 1<<62>>shift) {
		err = errors.New("out of range, or an unknown unit")
	}
	if err != nil {
		return 0, fault.Errorf(fault.Usage, "give a number and KiB, MiB or GiB, such as 512MiB", "size %q: %w", s, err)
	}
	return n << shift, nil
}

// size prints a number of bytes for people.
func size[N int64 | uint64](n N) string {
	if n < 1000 {
		return count(n, "byte")
	}
	return fmt.Sprintf("% .1f", decor.SizeB1000(int64(n)))
}

// count prints a number of things.
func count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", thing)
	}
	if strings.HasSuffix(thing, "y") {
		thing = strings.TrimSuffix(thing, "y") + "ie"
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
