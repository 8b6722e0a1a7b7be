// Command demo runs Cloister's main job on this machine, with real input: it
// seals the Go standard library's source, agrees on what may read it, provisions
// the keys in the simulated cloud, starts the runtime, lets unmodified programs
// of the system read every file through the mount and write a report to the
// output mount, decrypts the report and compares it with the source. Then it
// shows three refusals.
//
// Life of the demo: main.go is the story, one function a phase of the user
// flow, told with the commands that a user types; run.go starts them and keeps
// the time; refusals.go and scan.go look at the result with an attacker's eyes.
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
	if err := demo(ctx, *bin, *keep); err != nil {
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
		{"Pre-provisioning", preProvision},
		{"Agreement", agree},
		{"Resource provisioning", provision},
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

// startCloud starts the simulated cloud: attestation service, key vault,
// managed HSM, identity, and a processor that plays AMD's.
func startCloud(d *stage) error {
	if err := d.serve("cloister", "local", "up", "--dir", d.path("cloud")); err != nil {
		return err
	}
	return d.readEndpoints()
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
	if _, err := d.cloister("prep", "keygen", d.path("hospital.key")); err != nil {
		return err
	}
	if d.reference, err = d.cloister("prep", "encrypt", "--key", d.path("hospital.key"), d.source, d.path("store", "input")); err != nil {
		return err
	}
	d.say("volume reference %s", d.reference)
	if _, err := d.cloister("prep", "keygen", d.path("analyst.key")); err != nil {
		return err
	}
	if d.sink, err = d.cloister("prep", "sink", "--key", d.path("analyst.key")); err != nil {
		return err
	}
	wanted, err := fragments(d.source)
	if err != nil {
		return err
	}
	objects, size, err := scanStore(d.path("store", "input"), wanted)
	if err != nil {
		return err
	}
	d.say("searched %d bytes in %d objects for the names and beginnings of all files, %d in all: none is there", size, objects, len(wanted))
	return nil
}

// specify writes down what may run on whose data.
func specify(d *stage) error {
	for _, party := range []string{"hospital", "analyst"} {
		if _, err := d.cloister("party", "keygen", "--name", party, d.path(party+".party")); err != nil {
			return err
		}
	}
	ledgerKey, err := d.cloister("ledger", "init", d.path("ledger"))
	if err != nil {
		return err
	}
	spec := d.path("specification.yaml")
	inputVolume := strings.Split(d.reference, ".")[1]
	sinkVolume := strings.Split(d.sink, ":")[0]
	script := "cd " + d.path("mnt", "input") + " && find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2 > " + d.path("mnt", "report") + "/sha256.txt"
	return d.all(
		[]string{"spec", "init", "--name", "source-report", "--kind", "simulated", spec},
		[]string{"spec", "set", "kind", "--runtime-binary", filepath.Join(d.bin, "cloisterd"), spec, "simulated"},
		[]string{"spec", "set", "governance", "--ledger-key", ledgerKey, spec},
		[]string{"spec", "set", "attestation", "--authority", d.endpoints.Attestation, "--min-svn", "100", spec},
		[]string{"spec", "add", "party", "--name", "hospital", "--signing-key", d.path("hospital.party.pub"), spec},
		[]string{"spec", "add", "party", "--name", "analyst", "--signing-key", d.path("analyst.party.pub"), spec},
		[]string{"spec", "add", "application", "--name", "checksums", "--env", "PATH=/usr/bin:/bin", spec, "/bin/sh", "-c", script},
		[]string{"spec", "add", "datasource", "--name", "source", "--party", "hospital", "--volume", inputVolume,
			"--store", d.path("store", "input"), "--mount", d.path("mnt", "input"),
			"--kek", "hospital-kek", "--vault", d.endpoints.HSM, "--secret", d.endpoints.Vault + "/secrets/hospital-dek", spec},
		[]string{"spec", "add", "datasink", "--name", "report", "--party", "analyst", "--volume", sinkVolume,
			"--store", d.path("store", "output"), "--mount", d.path("mnt", "report"),
			"--kek", "analyst-kek", "--vault", d.endpoints.HSM, "--secret", d.endpoints.Vault + "/secrets/analyst-dek", spec},
		[]string{"spec", "validate", spec},
	)
}

// preProvision translates the specification into what the platform enforces.
func preProvision(d *stage) error {
	return d.all([]string{"policy", "generate", "--out", d.path("policy"), d.path("specification.yaml")})
}

// agree is the contract: both parties approve the same digests, and consent.
func agree(d *stage) error {
	by := func(party string, args ...string) []string {
		return append(args, "--ledger", d.path("ledger"), "--party", d.path(party+".party"))
	}
	return d.all(
		by("analyst", "contract", "propose", "--specification", d.path("specification.yaml"),
			"--volume", "source="+d.reference, "--volume", "report="+d.sink),
		by("hospital", "contract", "approve", "--specification", d.path("specification.yaml")),
		by("analyst", "contract", "approve", "--specification", d.path("specification.yaml")),
		by("hospital", "consent", "grant"),
		by("analyst", "consent", "grant"),
	)
}

// provision puts each party's keys where only the agreed container gets them.
func provision(d *stage) error {
	for party, volume := range map[string]string{"hospital": "source", "analyst": "report"} {
		if err := d.all([]string{"provision", "apply", "--specification", d.path("specification.yaml"),
			"--key-release-policy", d.path("policy", "key-release-policy.json"), "--key", d.path(party + ".key"), volume}); err != nil {
			return err
		}
	}
	return nil
}

// execute launches the container and lets the runtime do its work.
func execute(d *stage) error {
	out, err := d.runtime(d.path("guest"), d.path("policy", "container-policy.rego"))
	if err != nil {
		return err
	}
	// What the run depended on is still there, and the doctor finds it so.
	if _, err := d.timed(d.command("cloisterd", "doctor", "--specification", d.path("specification.json"),
		"--ledger", d.path("ledger"), "--platform", "simulated:"+d.path("guest"))); err != nil {
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
	return d.all([]string{"audit", "verify", "--ledger", d.path("ledger")})
}

// consolidate is the analyst at home with the result.
func consolidate(d *stage) error {
	if _, err := d.cloister("prep", "decrypt", "--key", d.path("analyst.key"), "--reference", d.output, d.path("store", "output"), d.path("result")); err != nil {
		return err
	}
	got, err := os.ReadFile(d.path("result", "sha256.txt"))
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
