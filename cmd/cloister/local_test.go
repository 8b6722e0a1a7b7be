package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloister/internal/cli"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/platform"
)

// buildCloister returns the path of the real binary.
func buildCloister(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloister")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// localUp runs "cloister local up" and returns when it has said "ready".
func localUp(t *testing.T, binary, dir string) (up *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	up = exec.Command(binary, "local", "up", "--dir", dir)
	stderr = &bytes.Buffer{}
	up.Stderr = stderr
	stdout, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Process.Kill(); up.Wait() }) //nolint:errcheck // it has ended already
	begun := time.Now()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready "+dir+"\n" {
		t.Fatalf("%q %v\n%s", line, err, stderr)
	}
	t.Logf("ready after %v", time.Since(begun).Round(time.Millisecond))
	return up, stderr
}

func run(t *testing.T, binary string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	command := exec.Command(binary, append([]string{"local"}, args...)...)
	var out, errOut strings.Builder
	command.Stdout, command.Stderr = &out, &errOut
	err := command.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), errOut.String()
}

func TestLocalCommands(t *testing.T) {
	binary := buildCloister(t)
	root, err := os.MkdirTemp("", "local") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	dir, guest, policy := filepath.Join(root, "state"), filepath.Join(root, "guest"), filepath.Join(root, "policy.rego")
	if err := os.WriteFile(policy, []byte("package policy\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if code, out, errOut := run(t, binary, "env", "--dir", dir); code != cli.ExitNotFound || out != "" || !strings.Contains(errOut, "hint: start one there with cloister local up") {
		t.Errorf("env without a cloud: %d %q %q", code, out, errOut)
	}
	if code, _, errOut := run(t, binary, "guest", "--dir", dir, "--policy", policy, guest); code != cli.ExitUnavailable || !strings.Contains(errOut, "hint: start it with cloister local up") {
		t.Errorf("guest without a cloud: %d %q", code, errOut)
	}
	up, banner := localUp(t, binary, dir)
	if code, out, errOut := run(t, binary, "guest", "--dir", dir, "--policy", policy, "--debug", "--vmpl", "2", guest); code != 0 || out != "ready "+guest+"\n" || !strings.Contains(errOut, "SIMULATED") {
		t.Errorf("guest: %d %q %q", code, out, errOut)
	}
	if _, err := os.Stat(filepath.Join(guest, platform.SocketFile)); err != nil {
		t.Error(err)
	}
	checkEnvironment(t, binary, dir, filepath.Join(root, "token"))
	for name, tc := range map[string]struct {
		code int
		args []string
	}{
		"no policy":        {cli.ExitUsage, []string{"guest", "--dir", dir, guest}},
		"no policy file":   {cli.ExitNotFound, []string{"guest", "--dir", dir, "--policy", policy + "x", guest}},
		"taken directory":  {cli.ExitConflict, []string{"guest", "--dir", dir, "--policy", policy, guest}},
		"second cloud":     {cli.ExitConflict, []string{"up", "--dir", dir}},
		"no guest":         {cli.ExitUsage, []string{"guest", "--dir", dir, "--policy", policy}},
		"fault":            {cli.ExitOK, []string{"fault", "--dir", dir, "--status", "500", "vault"}},
		"expired keys":     {cli.ExitOK, []string{"fault", "--dir", dir, "--expired-keys", "hsm"}},
		"no keys":          {cli.ExitUsage, []string{"fault", "--dir", dir, "--expired-keys", "authority"}},
		"unknown service":  {cli.ExitUsage, []string{"fault", "--dir", dir, "disk"}},
		"unknown status":   {cli.ExitUsage, []string{"fault", "--dir", dir, "--status", "404", "vault"}},
		"superfluous word": {cli.ExitUsage, []string{"env", "--dir", dir, "x"}},
	} {
		if code, out, errOut := run(t, binary, tc.args...); code != tc.code || out != "" {
			t.Errorf("%s: %d, want %d; %q %q", name, code, tc.code, out, errOut)
		}
	}
	if code, _, errOut := run(t, binary, "guest", "--dir", dir, "--remove", guest); code != 0 {
		t.Errorf("remove: %d %q", code, errOut)
	}
	if err := up.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, banner)
	}
	if !strings.HasPrefix(banner.String(), "SIMULATED:") {
		t.Errorf("banner %q", banner)
	}
	for _, socket := range []string{filepath.Join(dir, "admin.sock"), filepath.Join(guest, platform.SocketFile)} {
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("left behind: %s (%v)", socket, err)
		}
	}
}

// checkEnvironment gets a token with nothing but what "local env" prints.
func checkEnvironment(t *testing.T, binary, dir, tokenFile string) {
	t.Helper()
	code, out, errOut := run(t, binary, "env", "--dir", dir, "--identity", "owner", "--federated-token", tokenFile)
	if code != 0 {
		t.Fatalf("env: %d %s", code, errOut)
	}
	env := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	for _, name := range []string{"AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"} {
		if env[name] == "" {
			t.Errorf("no %s in %q", name, out)
		}
	}
	if env["SSL_CERT_FILE"] != filepath.Join(dir, localcloud.CAFile) || env["AZURE_FEDERATED_TOKEN_FILE"] != tokenFile {
		t.Errorf("%q", out)
	}
	if info, err := os.Stat(tokenFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v %v", info, err)
	}
	r, err := http.NewRequest(http.MethodGet, env["IDENTITY_ENDPOINT"]+"?api-version=2019-08-01&resource=https://vault.azure.net", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "access_token") {
		t.Errorf("%d %s %v", resp.StatusCode, body, err)
	}
}
