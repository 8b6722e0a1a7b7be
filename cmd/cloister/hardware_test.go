package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/internal/hsm"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// buildHelper builds the helper, which alone links C.
func buildHelper(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), hsm.Helper)
	cmd := exec.Command("go", "build", "-o", path, "../cloister-pkcs11")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the helper (./internal/setup/install gcc libc6-dev:gcc): %v\n%s", err, out)
	}
	return path
}

// newToken makes a token of SoftHSM, in a directory of the test's own.
func newToken(t *testing.T, label, pin string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "so-"+pin, "--pin", pin).CombinedOutput()
	if err != nil {
		t.Fatalf("making a token (./internal/setup/install softhsm2:softhsm2-util): %v\n%s", err, out)
	}
}

// TestKeyInAToken makes a key in SoftHSM through the real helper, and signs a
// statement with it that anybody can check.
func TestKeyInAToken(t *testing.T) {
	helper, q := buildHelper(t), hsm.Request{Module: softHSM, Token: "desk", Key: "lab", PIN: "246813"}
	newToken(t, "desk", "246813")
	t.Setenv("PATH", filepath.Dir(helper)+":"+os.Getenv("PATH"))
	dir := t.TempDir()
	pin, file := filepath.Join(dir, "pin"), filepath.Join(dir, "lab.party")
	if err := os.WriteFile(pin, []byte("246813\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := runCloister(t, "--pin-file", pin, "party", "keygen", "--name", "lab", "--token", "desk", "--module", softHSM, file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	private, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(private), "privateKey") || strings.Contains(string(private), "246813") {
		t.Errorf("the party's file: %v\n%s", err, private)
	}
	doc, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	party, err := statement.ParseDocument(doc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statement.ParsePublicKey(party.Key); err != nil {
		t.Fatal(err)
	}
	// A volume's signature is the shortest way to one by the token.
	key := filepath.Join(dir, "key")
	volume := filepath.Join(dir, "volume")
	for _, args := range [][]string{{"prep", "keygen", key}, {"--pin-file", pin, "prep", "encrypt", "--key", key, "--sign", file, dir + "/data", volume},
		{"prep", "decrypt", "--key", key, "--writer", file + ".pub", volume, dir + "/out"}} {
		if err := os.MkdirAll(dir+"/data", 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := runCloister(t, args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	for name, tc := range map[string]struct {
		change func(*hsm.Request)
		kind   fault.Kind
	}{
		"wrong PIN":     {func(q *hsm.Request) { q.PIN = "000000" }, fault.Denied},
		"no such token": {func(q *hsm.Request) { q.Token = "elsewhere" }, fault.NotFound},
		"no such key":   {func(q *hsm.Request) { q.Key = "other" }, fault.NotFound},
		"no module":     {func(q *hsm.Request) { q.Module = "/nowhere.so" }, fault.NotFound},
		"key again":     {func(q *hsm.Request) { q.Do = hsm.Generate }, fault.Conflict},
		"unknown wish":  {func(q *hsm.Request) { q.Do = "export" }, fault.Usage},
	} {
		bad := q
		bad.Do, bad.Digest = hsm.Sign, make([]byte, 32)
		tc.change(&bad)
		if _, err := hsm.Call(t.Context(), helper, bad); fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v is of kind %v, want %v", name, err, fault.KindOf(err), tc.kind)
		}
	}
}

// runCloister runs the program in a process of its own.
func runCloister(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloister")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}
