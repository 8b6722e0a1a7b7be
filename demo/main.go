// Command demo runs Cloister on this machine: first the guide, two parties'
// collaboration, command by command; then the main job with real input. That seals
// the Go standard library's source, agrees on what may read it, provisions the
// keys in the simulated cloud, starts the runtime, lets unmodified programs of the
// system read every file through the mount and write a report to the output mount,
// decrypts the report and compares it with the source. Then it shows three refusals.
//
// Life of the demo: guided.go walks the guide; main.go is the story of the big job,
// one function a phase of the user flow, told with the commands that a user types
// (package cleanroom has them); run.go shows them with their times; refusals.go and
// scan.go look at the result with an attacker's eyes.
// It needs Go and /dev/fuse, and leaves nothing behind.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run())
}

func run() int {
	bin := flag.String("bin", "bin", "folder of the binaries")
	keep := flag.Bool("keep", false, "keep the folder with everything the demo made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := guided(ctx, *bin)
	if err == nil {
		fmt.Println("\n\nThe main job, with real input")
		err = demo(ctx, *bin, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

func demo(ctx context.Context, bin string, keep bool) (err error) {
	d, err := newStage(ctx, bin)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.clean(keep))
	}()
	for _, phase := range []struct {
		name string
		do   func(*stage) error
	}{
		{"A cloud on this machine", startCloud},
		{"Data preparation", prepareData},
		{"Specification generation", specify},
		{"Pre-provisioning", func(d *stage) error { return d.PreProvision() }},
		{"Agreement", func(d *stage) error { return d.Agree() }},
		{"Resource provisioning", func(d *stage) error { return d.Provision() }},
		{"Application execution", execute},
		{"Consolidation", consolidate},
		{"Refusal 1: the container policy changed by one byte", refuseChangedPolicy},
		{"Refusal 2: a ciphertext bit flipped", refuseFlippedBit},
		{"Refusal 3: an old manifest put back", refuseOldManifest},
	} {
		fmt.Printf("\n== %s\n", phase.name)
		if err := phase.do(d); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(phase.name), err)
		}
	}
	fmt.Printf("\n%d bytes in, %d bytes out, %.1f seconds, peak memory of the runtime %d MiB\n",
		d.bytesIn, d.bytesOut, time.Since(d.start).Seconds(), d.peakMemory>>20)
	return nil
}

// startCloud also lets what this program does itself find the cloud.
func startCloud(d *stage) error {
	if err := d.StartCloud(); err != nil {
		return err
	}
	for _, line := range d.Env {
		name, value, _ := strings.Cut(line, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// prepareData is the data owner at home: a key, and the folder sealed with it.
func prepareData(d *stage) error {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("asking go where its source is: %w", err)
	}
	// The folder itself may be a link, as distributions lay it out.
	if d.source, err = filepath.EvalSymlinks(filepath.Join(strings.TrimSpace(string(goroot)), "src")); err != nil {
		return err
	}
	if err := d.Prepare(d.source); err != nil {
		return err
	}
	d.say("volume reference %s", d.Reference)
	wanted, err := fragments(d.source)
	if err != nil {
		return err
	}
	objects, size, err := scanStore(d.Path("store", "input"), wanted)
	if err != nil {
		return err
	}
	d.say("searched %d bytes in %d objects for the names and beginnings of all files, %d in all: none is there", size, objects, len(wanted))
	return nil
}

// specify writes down what may run on whose data: programs of the system that
// know nothing of Cloister.
func specify(d *stage) error {
	return d.Specify("cd $IN && find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2 > $OUT/sha256.txt")
}

// execute launches the container and lets the runtime do its work.
func execute(d *stage) error {
	out, err := d.runtime("guest", d.Policy())
	if err != nil {
		return err
	}
	// What the run depended on is still there, and the doctor finds it so.
	if err := d.Doctor("guest"); err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if ref, ok := strings.CutPrefix(strings.TrimSpace(line), "output report "); ok {
			d.output = ref
		}
	}
	if d.output == "" {
		return fmt.Errorf("the runtime named no output: %q", out)
	}
	_, err = d.Cloister("audit", "verify", "--ledger", d.Path("ledger"))
	return err
}

// consolidate is the analyst at home with the result.
func consolidate(d *stage) error {
	if _, err := d.Cloister("prep", "decrypt", "--key", d.Path("analyst.key"), "--reference", d.output, d.Path("store", "output"), d.Path("result")); err != nil {
		return err
	}
	got, err := os.ReadFile(d.Path("result", "sha256.txt"))
	if err != nil {
		return err
	}
	want, files, size, err := expectedReport(d.source)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the decrypted report, %d bytes, is not what the source gives, %d bytes", len(got), len(want))
	}
	d.bytesIn, d.bytesOut = size, int64(len(got))
	d.say("the decrypted report has the right SHA-256 of all %d files", files)
	return nil
}

// expectedReport is what the application must write, from the source itself.
func expectedReport(source string) (report []byte, files int, size int64, err error) {
	type line struct{ path, text string }
	var lines []line
	err = filepath.WalkDir(source, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		size += int64(len(b))
		name := "./" + strings.TrimPrefix(path, source+"/")
		lines = append(lines, line{name, fmt.Sprintf("%x  %s\n", sha256.Sum256(b), name)})
		return nil
	})
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.path, b.path) })
	for _, l := range lines {
		report = append(report, l.text...)
	}
	return report, len(lines), size, err
}
