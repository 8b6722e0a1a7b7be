//go:build linux

package main

import (
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
)

// linked is all that the shim has beside the standard library.
var linked = []string{
	"cloister/cmd/cloister-shim", "cloister/enclave/launch", "cloister/enclave/sidecar", "cloister/enclave/sidecar/shim", "cloister/internal/fault",
	"github.com/moby/sys/mountinfo", "golang.org/x/sys/unix",
}

// TestDependencies holds what is measured into every application's container to
// a list.
func TestDependencies(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-tags", "production", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(strings.Fields(string(out)))); !slices.Equal(got, linked) {
		t.Errorf("the shim links %q, reviewed are %q", got, linked)
	}
}

const (
	share  = "--share=/mnt"
	digest = "--specification-digest=sha256:ab"
	mount  = "--mount=/mnt/in"
)

func TestParse(t *testing.T) {
	c, err := parse([]string{share, digest, mount, "--mount", "/mnt/out", "--env", "A=b=c", "--env", "E=", "--workdir", "/work", "--pod-network", "--", "/bin/sh", "-c", "--mount"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Share != "/mnt" || c.Specification != "sha256:ab" || c.WorkingDir != "/work" || !c.PodNetwork || !reflect.DeepEqual(c.Mounts, []string{"/mnt/in", "/mnt/out"}) ||
		!reflect.DeepEqual(c.Environment, []string{"A=b=c", "E="}) || !reflect.DeepEqual(c.Command, []string{"/bin/sh", "-c", "--mount"}) {
		t.Errorf("%+v", c)
	}
}

func TestParseRefuses(t *testing.T) {
	for said, args := range map[string][]string{
		"--specification-digest is missing": {share, mount, "--", "/bin/sh"},
		"--mount is missing":                {share, digest, "--", "/bin/sh"},
		"there is no program":               {share, digest, mount},
		`"" is not a clean`:                 {digest, mount, "--", "/bin/sh"},
		`"sh" is not a clean`:               {share, digest, mount, "--", "sh"},
		`"/mnt/../in" is not a clean`:       {share, digest, "--mount=/mnt/../in", "--", "/bin/sh"},
		`"work" is not a clean`:             {share, digest, mount, "--workdir=work", "--", "/bin/sh"},
		`--env "A" is not`:                  {share, digest, mount, "--env=A", "--", "/bin/sh"},
		`--env "=b" is not`:                 {share, digest, mount, "--env==b", "--", "/bin/sh"},
		"not defined: -nonsense":            {share, digest, mount, "--nonsense", "--", "/bin/sh"},
	} {
		if _, err := parse(args); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), said) {
			t.Errorf("%q: %v", said, err)
		}
	}
}

// TestNotTheFirstProcess: only a PID namespace's first process can end all
// others, so the shim is nothing else.
func TestNotTheFirstProcess(t *testing.T) {
	if code := run([]string{share, digest, mount, "--", "/bin/true"}); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}
