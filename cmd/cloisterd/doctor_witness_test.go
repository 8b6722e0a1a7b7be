package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloister/internal/cli"
)

// TestDoctorAsksTheWitnesses: each that the specification has an address of, which is
// which: one that has not been offered the record, one that has withdrawn, and one
// that is down.
func TestDoctorAsksTheWitnesses(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	raw, err := os.ReadFile(r.Path("ledger", "ledger.pub"))
	must(t, err)
	ledger := strings.TrimSpace(string(raw))
	var addresses []string
	for _, name := range []string{"behind", "withdrawn", "down"} {
		dir := filepath.Join(t.TempDir(), name)
		r.cloister("witness", "init", "--ledger-key", ledger, "--name", name, dir)
		address, end := serveWitness(t, r, dir)
		addresses = append(addresses, address)
		if name == "down" {
			end()
		} else {
			defer end()
		}
		if name == "withdrawn" {
			r.cloister("witness", "withdraw", dir, "--reason", "enough")
		}
	}
	spec := r.Path("witnessed.yaml")
	raw, err = os.ReadFile(r.Path("specification.yaml"))
	must(t, err)
	must(t, os.WriteFile(spec, raw, 0o600))
	line := []string{"spec", "set", "governance", "--threshold", "1"}
	for _, a := range addresses {
		line = append(line, "--witness", a)
	}
	r.cloister(append(line, spec)...)
	changed := r.cloister("spec", "show", "--json", spec)
	code, out := visited{site: &site{Room: r.Room, t: t}, spec: func(string) string { return changed }}.doctor()
	if code != cli.ExitRefused { // the ledger's checkpoint has no cosignature
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"FAIL the witness behind: it is behind: it has cosigned 0 of ", "FAIL the witness withdrawn: ", "has withdrawn", "FAIL the witness down: ", "connection refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

// serveWitness has a witness served until end, and returns KEY@URL.
func serveWitness(t *testing.T, r *site, dir string) (address string, end func()) {
	t.Helper()
	cmd := r.Command("cloister", "witness", "serve", "--listen", "127.0.0.1:0", dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	end = func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		must(t, cmd.Wait())
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(strings.TrimPrefix(said, "ready ")), end
}
