// Package layers holds the test that keeps the architecture: which of our
// packages may import which.
package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rule says what a package (and, with a trailing slash, every package below
// it) may import of ours, and why. internal/fault is open to all.
type rule struct {
	pkg   string
	allow []string
	why   string
}

// The first rule that matches a package decides.
var rules = []rule{
	{"fs/format", nil, "the format is a leaf: it must be readable, testable and fuzzable alone"},
	{"fs/cache", nil, "a cache knows bytes, not formats"},
	{"fs/store/", []string{"fs/store/"}, "stores know bytes, not formats"},
	{"fs/internal/voltest", []string{"fs/format"}, "a test part: it makes volumes, and must not share code with what reads them beyond the format"},
	{"fs/mount", []string{"fs", "fs/format"}, "the FUSE adapter only translates; the file system is in fs"},
	{"fs", []string{"fs/format", "fs/cache"}, "fs does not know where bytes or keys come from"},

	{"policy/", []string{"policy/"}, "policy is what was agreed: it knows nothing of how it is carried out"},
	{"governance/", []string{"governance/", "policy/"}, "governance judges statements about policies, nothing else"},

	{"enclave/envelope", nil, "the wrap envelope is a leaf shared by owner and runtime"},
	{"enclave/", []string{"enclave/", "policy/", "governance/", "attested/proof"}, "enclave does not know what a key opens"},
	{"attested/proof", []string{"enclave/snp"}, "what both ends of attested TLS say: the runtime links it, and must not have the client's side"},
	{"attested", []string{"attested/proof", "enclave/snp", "policy/"}, "clients import this: keep what it drags in small"},

	{"prep/", []string{"prep/", "policy/", "fs", "fs/format", "fs/store/", "enclave/envelope", "governance/"}, "the owner's side never needs the enclave's"},

	{"internal/fault", nil, "everything imports it"},
	{"internal/layers", nil, "a test"},
	{"internal/cli", nil, "the exit path of every binary"},
	{"internal/memory", nil, "a leaf: every binary that holds keys, the enclave's among them, starts with it"},
	{"internal/azurite", nil, "a test part"},
	{"internal/cleanroom", nil, "it drives the binaries from outside, as a user does"},
	{"internal/duckdb", nil, "a test part"},
	{"internal/chromium", nil, "a test part"},
	{"internal/setup", nil, "what installs test parts"},
	{"internal/swtpm", nil, "a test part"},
	{"internal/vectors", nil, "a test part"},
	{"internal/webhook", nil, "it tells a message, and does not know of what"},
	{"internal/image/build", []string{"internal/image", "internal/cli", "policy/infra"}, "it makes files out of files"},
	{"internal/podman", nil, "a test part"},
	{"internal/image", []string{"policy/image", "policy/infra"}, "images know programs, not what they do; policy/image opens and measures them"},
	{"internal/bench", []string{"internal/azurite", "internal/cleanroom", "governance/", "internal/localcloud/", "attested/", "enclave/proxy", "enclave/snp/", "policy/spec"}, "it measures the binaries from outside; only a log of a million entries it makes, as no binary does, and an endpoint stands beside a bare proxy in one process"},
	{"internal/localcloud/", []string{"internal/localcloud/", "policy/", "enclave/envelope", "enclave/snp"}, "emulated services must not share code with the clients they judge, beyond the formats"},

	{"internal/hsm", nil, "cloister and its helper say no more to each other than this"},

	{"cmd/cloister-pkcs11", []string{"internal/hsm"}, "it has a stranger's C library in its process: it must have nothing else"},
	{"cmd/cloister-shim", []string{"enclave/sidecar/shim", "enclave/launch"}, "it is measured into every application's image: nothing that it can do without"},
	{"cmd/cloister-rego", []string{"enclave/rego", "enclave/launch"}, "it evaluates what strangers wrote and sent: it must have nothing to lose"},
	{"cmd/cloister-ledger", []string{"governance/", "enclave/evidence", "enclave/snp", "enclave/snp/", "internal/cli"}, "it keeps the record, and knows nothing of what the record is about, but whose evidence may read it, and how to show its own"},
	{"cmd/cloisterd", []string{"fs/", "enclave/", "policy/", "governance/", "attested/proof", "internal/cli", "internal/memory"}, "the trusted computing base: never prep, never the emulator"},
	{"cmd/cloister", []string{"fs/", "enclave/", "policy/", "governance/", "attested/", "prep/", "internal/", "docs"}, "binaries join the packages; quickstart has the guide's steps"},
	{"cmd/", []string{"fs/", "enclave/", "policy/", "governance/", "attested/", "prep/", "internal/"}, "binaries join the packages"},
	{"demo", []string{"fs/", "enclave/", "policy/", "prep/", "internal/cli", "internal/cleanroom", "docs", "docs/walk"}, "it drives the binaries, walks the guide, and plays the attacker with the packages"},
	{"docs", nil, "pages, the guide's steps, and the tests that hold them to the code"},
	{"docs/walk", []string{"docs"}, "it drives the binaries from outside, as the guide's reader does"},
	{"testdata/", []string{"fs/", "enclave/", "policy/", "governance/", "attested/", "prep/", "internal/"}, "generators of vectors"},
}

func matches(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/"); ok {
		return pkg == dir || strings.HasPrefix(pkg, pattern)
	}
	return pkg == pattern
}

func TestLayers(t *testing.T) {
	const module = "cloister/"
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	packages := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		name := strings.TrimPrefix(p.ImportPath, module)
		i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.pkg, name) })
		if i < 0 {
			t.Errorf("%s: no rule; say in this file what it may import and why", name)
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, module)
			if !ours || imp == "internal/fault" {
				continue
			}
			if !slices.ContainsFunc(rules[i].allow, func(a string) bool { return matches(a, imp) }) {
				t.Errorf("%s imports %s, but %s", name, imp, rules[i].why)
			}
		}
	}
	if packages < 3 {
		t.Fatalf("go list found %d packages: the test looked at nothing", packages)
	}
}
