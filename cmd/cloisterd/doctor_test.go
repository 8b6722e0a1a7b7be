package main

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloister/internal/cli"

	"golang.org/x/mod/sumdb/note"
)

// Without a specification there is nothing to ask the others about.
func TestDoctorWithoutASpecification(t *testing.T) {
	t.Setenv("CLOISTER_SPECIFICATION", "")
	broken := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(broken, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		file string
		code int
		want string
	}{
		"none":   {filepath.Join(t.TempDir(), "nowhere"), cli.ExitNotFound, "     change: give the canonical form"},
		"broken": {broken, cli.ExitRefused, "FAIL the specification: "},
	} {
		var out, errs bytes.Buffer
		a := app()
		a.Writer, a.ErrWriter = &out, &errs
		code := cli.Main(a, []string{"cloisterd", "doctor", "--ledger", t.TempDir(), "--specification", tc.file})
		if code != tc.code || !strings.Contains(out.String(), tc.want) || strings.Count(out.String(), "FAIL") != 1 || strings.Contains(out.String(), "ok ") {
			t.Errorf("%s: exit %d\n%s%s", name, code, &out, &errs)
		}
	}
}

// visited is one visit of the doctor to a room.
type visited struct {
	*site
	env  []string // beside the room's
	spec func(string) string
	args map[string]string // in place of the room's
	bare bool              // without /dev
}

// doctor runs the real doctor and returns its exit code and what it printed.
func (v visited) doctor() (int, string) {
	v.t.Helper()
	canonical := v.cloister("spec", "show", "--json", v.Path("specification.yaml"))
	if v.spec != nil {
		changed := v.spec(canonical)
		if changed == canonical {
			v.t.Fatal("the specification is as it was")
		}
		canonical = changed
	}
	file := filepath.Join(v.t.TempDir(), "specification.json")
	must(v.t, os.WriteFile(file, []byte(canonical), 0o644))
	args := map[string]string{"--specification": file, "--ledger": v.Ledger, "--platform": "simulated:" + v.Path("guest")}
	line := []string{"doctor", "--allow-swap"}
	for name, value := range args {
		if other, ok := v.args[name]; ok {
			value = other
		}
		line = append(line, name, value)
	}
	cmd := v.Command("cloisterd", line...)
	if v.bare {
		attr := *cmd.SysProcAttr
		attr.Cloneflags = syscall.CLONE_NEWNS
		if uid := os.Getuid(); uid != 0 {
			attr.Cloneflags |= syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		within := exec.Command("sh", append([]string{"-c", `mount --make-rprivate / && mount -t tmpfs none /dev && exec "$0" "$@"`}, cmd.Args...)...)
		within.Dir, within.Env, within.SysProcAttr = cmd.Dir, cmd.Env, &attr
		cmd = within
	}
	cmd.Env = append(cmd.Env, v.env...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		v.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// deny is a vault, and an attestation service, that admits nobody.
func deny(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/tenant", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusForbidden)
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return "https://" + l.Addr().String()
}

// TestDoctorNamesWhatIsInTheWay: a sound room is sound; and with one dependency
// failing at a time, the doctor says what it tried, what came back and what to
// change, finds all the rest in order, exits with the failure's code, and never
// prints a key or a token.
func TestDoctorNamesWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	r := newRoom(t, os.Getuid())
	e := r.Endpoints
	swap := func(old, now string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, old, now) }
	}
	closed := closedPort(t)
	stranger := httptest.NewTLSServer(http.HandlerFunc(deny))
	t.Cleanup(stranger.Close)
	both := filepath.Join(t.TempDir(), "roots.pem") // the cloud's authority and the stranger's
	own, err := os.ReadFile(r.Path("cloud", "ca.pem"))
	must(t, err)
	must(t, os.WriteFile(both, append(own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Certificate().Raw})...), 0o644))
	nobodys := filepath.Join(t.TempDir(), "root.pem")
	must(t, os.WriteFile(nobodys, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Certificate().Raw}), 0o644))
	assertion := filepath.Join(t.TempDir(), "token") // of the platform, for workload identity
	workload := strings.Fields(r.cloister("local", "env", "--dir", r.Path("cloud"), "--identity", "clean-room", "--federated-token", assertion))
	_, other, err := note.GenerateKey(rand.Reader, "other-ledger")
	must(t, err)
	nowhere := strings.Replace(r.Ledger, "/ledger,", "/nowhere,", 1)
	ledger, err := os.ReadFile(r.Path("ledger", "ledger.pub"))
	must(t, err)
	faulty := func(service string, args ...string) func(on bool) {
		return func(on bool) {
			line := []string{"local", "fault", "--dir", r.Path("cloud")}
			if on {
				line = append(line, args...)
			}
			r.cloister(append(line, service)...)
		}
	}

	for _, tc := range []struct {
		name  string
		visit visited
		fault func(on bool)
		code  int
		// want is what failed, in order: what was tried, what came back, what to
		// change.
		want [][3]string
	}{
		{name: "sound"},
		{name: "sound, by workload identity", visit: visited{env: workload}},
		{name: "the attestation service refuses the connection", code: cli.ExitUnavailable, visit: visited{spec: swap(e.Attestation, closed)},
			want: [][3]string{{"attestation by " + closed, "connection refused", "start the service, or correct the address"}}},
		{name: "the HSM refuses the connection", code: cli.ExitUnavailable, visit: visited{spec: swap(e.HSM, closed)},
			want: [][3]string{{"the vault " + closed + " of source", "connection refused", "start the service"}, {"the vault " + closed + " of report", "connection refused", "start the service"}}},
		{name: "another TLS root", code: cli.ExitUnavailable, visit: visited{env: []string{"SSL_CERT_FILE=" + nobodys}},
			want: [][3]string{
				{"attestation by " + e.Attestation, "certificate signed by unknown authority", "trust the authority of the service's certificate (SSL_CERT_FILE)"},
				{"the vault " + e.HSM + " of source", "unknown authority", "SSL_CERT_FILE"}, {"the vault " + e.Vault + " of source", "unknown authority", "SSL_CERT_FILE"},
				{"the vault " + e.HSM + " of report", "unknown authority", "SSL_CERT_FILE"}, {"the vault " + e.Vault + " of report", "unknown authority", "SSL_CERT_FILE"},
			}},
		{name: "the attestation service answers 403", code: cli.ExitDenied, visit: visited{env: []string{"SSL_CERT_FILE=" + both}, spec: swap(e.Attestation, stranger.URL)},
			want: [][3]string{{"attestation by " + stranger.URL, "denies access: ", "ask its operator to admit this machine"}}},
		{name: "the vault denies the identity", code: cli.ExitDenied, visit: visited{env: []string{"SSL_CERT_FILE=" + both}, spec: swap(e.Vault, stranger.URL)},
			want: [][3]string{{"the wrapped DEK of source", "403", "the role Key Vault Secrets User"}, {"the wrapped DEK of report", "403", "the role Key Vault Secrets User"}}},
		{name: "another service in the vault's place", code: cli.ExitRefused, visit: visited{spec: swap(e.Vault, e.Attestation)},
			want: [][3]string{
				{"the vault " + e.Attestation + " of source", "it answers HTTP 404, and no vault's challenge", "correct the address"},
				{"the vault " + e.Attestation + " of report", "it answers HTTP 404", "correct the address"},
			}},
		{name: "the secret is not there", code: cli.ExitNotFound, visit: visited{spec: swap("/secrets/hospital-dek", "/secrets/hospital-sled")},
			want: [][3]string{{"the wrapped DEK of source", "SecretNotFound", "provision the volume's key"}}},
		{name: "the attestation token has expired", code: cli.ExitRefused, fault: faulty("attestation", "--clock-skew=-10h"),
			want: [][3]string{{"attestation by " + e.Attestation, "expiry: expected after ", "compare this machine's clock"}}},
		{name: "the attestation service's clock is ahead", code: cli.ExitRefused, fault: faulty("attestation", "--clock-skew=1h"),
			want: [][3]string{{"attestation by " + e.Attestation, "not before: expected no later than ", "compare this machine's clock"}}},
		{name: "the attestation service throttles", code: cli.ExitUnavailable, fault: faulty("attestation", "--status=429", "--times=9"),
			want: [][3]string{{"attestation by " + e.Attestation, "429", "try again later"}}},
		{name: "the platform's token has expired", code: cli.ExitDenied, visit: visited{env: workload}, fault: faulty("authority", "--clock-skew=48h"),
			want: [][3]string{
				{"the identity of source", "AADSTS700027", "set the variables of workload identity"},
				{"the identity of report", "AADSTS700027", "set the variables of workload identity"},
			}},
		{name: "the vault finds the identity's token expired", code: cli.ExitDenied, fault: faulty("vault", "--clock-skew=48h"),
			want: [][3]string{{"the wrapped DEK of source", "token expired at ", "compare this machine's clock with the vault's"}, {"the wrapped DEK of report", "token expired at ", "compare this machine's clock with the vault's"}}},
		{name: "no ledger", code: cli.ExitNotFound, visit: visited{args: map[string]string{"--ledger": nowhere}},
			want: [][3]string{{"the ledger " + nowhere, "there is no /nowhere/contract here", "openapi.json"}}},
		{name: "no server of ledgers", code: cli.ExitUnavailable, visit: visited{args: map[string]string{"--ledger": closed + "/ledger"}},
			want: [][3]string{{"the ledger " + closed + "/ledger", "connection refused", "see that the ledger runs"}}},
		{name: "another ledger's key", code: cli.ExitRefused, visit: visited{spec: swap(strings.TrimSpace(string(ledger)), other)},
			want: [][3]string{{"the ledger " + r.Ledger, "checkpoint", ""}}},
		{name: "no /dev/fuse", code: cli.ExitUnavailable, visit: visited{bare: true},
			want: [][3]string{{"mounts", "/dev/fuse: no such file or directory", "give the container /dev/fuse"}}},
		{name: "no security context", code: cli.ExitNotFound, visit: visited{args: map[string]string{"--platform": "simulated:" + r.Path("nowhere")}},
			want: [][3]string{{"the platform", "amd-root.pem", "start `cloister local` and name its directory"}}},
		{name: "no processor", code: cli.ExitUnavailable, fault: func(on bool) {
			if on {
				r.cloister("local", "guest", "--dir", r.Path("cloud"), "--remove", r.Path("guest"))
			} else {
				must(t, r.Guest("guest", r.Policy()))
			}
		}, want: [][3]string{{"attestation by " + e.Attestation, "asking the simulated processor", "cloister local"}, {"the ledger " + r.Ledger, "asking the simulated processor", "cloister local"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.fault != nil {
				tc.fault(true)
				defer tc.fault(false)
			}
			tc.visit.site = &site{Room: r.Room, t: t}
			code, out := tc.visit.doctor()
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			checkFailures(t, out, tc.want)
			tc.visit.checkNoSecret(t, out)
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// checkFailures holds what the doctor printed against what is to fail: that,
// and nothing else.
func checkFailures(t *testing.T, out string, want [][3]string) {
	t.Helper()
	blocks := strings.Split("\n"+out, "\nFAIL ")[1:]
	if len(blocks) != len(want) || !strings.Contains(out, "ok   ") {
		t.Errorf("%d failures, want %d", len(blocks), len(want))
		return
	}
	for i, w := range want {
		said, _, _ := strings.Cut(blocks[i], "\nok   ")
		for _, hint := range []string{w[0] + ": ", w[1]} {
			if !strings.Contains(said, hint) {
				t.Errorf("failure %d says %q, want %q in it", i, said, hint)
			}
		}
		if _, change, ok := strings.Cut(said, "\n     change: "); !ok || !strings.Contains(change, w[2]) {
			t.Errorf("failure %d says to change %q, want %q", i, change, w[2])
		}
	}
}

// checkNoSecret looks for tokens, the identity's secret and the DEKs.
func (v visited) checkNoSecret(t *testing.T, out string) {
	t.Helper()
	secrets := map[string]string{"a token": "eyJ"}
	for _, line := range v.Env {
		if secret, ok := strings.CutPrefix(line, "IDENTITY_HEADER="); ok {
			secrets["the identity's secret"] = secret
		}
	}
	for name, dek := range v.deks() {
		secrets["the DEK of "+name] = string(dek)
		secrets["the DEK of "+name+" in hex"] = fmt.Sprintf("%x", dek)
	}
	if len(secrets) < 6 {
		t.Fatalf("only %d secrets are looked for", len(secrets))
	}
	for name, secret := range secrets {
		if strings.Contains(out, secret) {
			t.Errorf("the doctor prints %s", name)
		}
	}
}
