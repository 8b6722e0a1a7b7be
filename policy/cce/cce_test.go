package cce

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

func example(t *testing.T) spec.Specification {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "spec", "yaml", "testdata", "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := yaml.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func aci(t *testing.T) spec.Specification {
	s := example(t)
	s.Kind, s.Runtime = spec.ACI, nil
	s.Attestation = spec.Attestation{Authority: "https://sharedneu.neu.attest.azure.net", MinSVN: 104}
	s.Code[0].Store = "https://acct.blob.core.windows.net/c/model"
	s.Network = spec.Network{Egress: spec.EgressPolicy, Policy: &spec.PolicyFile{File: "egress.rego", Digest: digestOf("package egress\n")}}
	s.Application.Image = &spec.Image{
		Reference: "registry.example/lab/count@sha256:" + strings.Repeat("cd", 32),
		Layers:    []string{strings.Repeat("11", 32), strings.Repeat("22", 32)},
	}
	return s
}

func aks(t *testing.T) spec.Specification {
	s := aci(t)
	s.Kind = spec.AKS
	return s
}

// distributed has the runtime in an image of its own.
func distributed(t *testing.T, s spec.Specification) spec.Specification {
	t.Helper()
	s.Model, s.AcceptedRisk = spec.Distributed, "we have read and accept what a shared network means"
	s.Runtime = &spec.Runtime{Image: &spec.Image{Reference: "registry.example/cloister/runtime@sha256:" + strings.Repeat("ef", 32)}}
	return s
}

// inputs are the images of these specifications.
func inputs() Inputs {
	return Inputs{Images: map[string]Image{
		"registry.example/lab/count@sha256:" + strings.Repeat("cd", 32): {
			Layers: []string{strings.Repeat("11", 32), strings.Repeat("22", 32)}, Environment: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"},
		},
		"registry.example/cloister/runtime@sha256:" + strings.Repeat("ef", 32): {Layers: []string{strings.Repeat("33", 32)}, WorkingDir: "/run"},
	}}
}

func generate(t *testing.T, s spec.Specification) []byte {
	t.Helper()
	text, err := Generate(s, inputs())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func replicated(s spec.Specification) spec.Specification {
	s.Deployment, s.Application.Restart = &spec.Deployment{Replicas: 3}, spec.RestartNever
	return s
}

// TestReplicasAreToldTheirIndex: and nothing else is admitted for it, nor where
// there is one alone.
func TestReplicasAreToldTheirIndex(t *testing.T) {
	admits := func(s spec.Specification, variable string) bool {
		list, err := Containers(s, inputs())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list[0].EnvRules, func(r EnvRule) bool {
			return r.Strategy == MatchRE2 && regexp.MustCompile("^(?:"+r.Pattern+")$").MatchString(variable)
		})
	}
	for _, s := range []spec.Specification{replicated(aci(t)), replicated(distributed(t, aks(t)))} {
		for variable, want := range map[string]bool{ReplicaVariable + "=0": true, ReplicaVariable + "=2": true, ReplicaVariable + "=x": false, ReplicaVariable + "=": false, "X" + ReplicaVariable + "=0": false} {
			if admits(s, variable) != want {
				t.Errorf("kind %s: %s is admitted: %t", s.Kind, variable, !want)
			}
		}
	}
	if admits(aci(t), ReplicaVariable+"=0") {
		t.Error("one that has no replicas is told an index")
	}
}

func TestGolden(t *testing.T) {
	for name, s := range map[string]spec.Specification{
		"simulated.rego": example(t), "aci.rego": aci(t), "aks.rego": aks(t),
		"aci_distributed.rego": distributed(t, aci(t)), "aks_distributed.rego": distributed(t, aks(t)),
		"aci_replicas.rego": replicated(aci(t)), "aks_replicas.rego": replicated(distributed(t, aks(t))),
	} {
		file := filepath.Join("testdata", name)
		got := generate(t, s)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: a policy that was agreed to no longer comes out the same; got\n%s", name, got)
		}
	}
}

func TestDeterministicToTheByte(t *testing.T) {
	for range 20 {
		if !bytes.Equal(generate(t, aci(t)), generate(t, aci(t))) {
			t.Fatal("two runs differ")
		}
	}
	if HostData(generate(t, example(t))) == HostData(generate(t, aci(t))) {
		t.Error("two policies have one digest")
	}
}

// containers reads the list back out of the text, as the framework would.
func containers(t *testing.T, text []byte) []map[string]any {
	t.Helper()
	_, rest, ok := strings.Cut(string(text), "\ncontainers := ")
	line, _, end := strings.Cut(rest, "\n")
	var list []map[string]any
	if err := json.Unmarshal([]byte(line), &list); !ok || !end || err != nil {
		t.Fatalf("no list of containers: %v", err)
	}
	return list
}

func TestPlatformPolicyAdmitsOneCommandLine(t *testing.T) {
	s := aci(t)
	digest, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	list := containers(t, generate(t, s))
	if len(list) != 2 || list[1]["name"] != "pause-container" {
		t.Fatalf("containers: %v", list)
	}
	command, _ := json.Marshal(list[0]["command"])
	want := `["/cloisterd","run","--specification-digest","` + digest + `","--ledger-key","` + s.Governance.LedgerKey + `"]`
	if string(command) != want {
		t.Errorf("command %s, want %s", command, want)
	}
	layers, _ := json.Marshal(list[0]["layers"])
	if want := `["` + strings.Repeat("11", 32) + `","` + strings.Repeat("22", 32) + `"]`; string(layers) != want {
		t.Errorf("layers %s, want %s", layers, want)
	}
	for _, c := range list {
		if c["allow_stdio_access"] != false || len(c["exec_processes"].([]any)) != 0 {
			t.Errorf("%s: output or further processes are open to the host", c["name"])
		}
	}
}

func TestEveryChangeOfTheSpecificationChangesHostData(t *testing.T) {
	for kind, fresh := range map[string]func(*testing.T) spec.Specification{"simulated": example, "aci": aci} {
		before := HostData(generate(t, fresh(t)))
		for name, change := range map[string]func(*spec.Specification){
			"command":   func(s *spec.Specification) { s.Application.Command[1] = "--none" },
			"party":     func(s *spec.Specification) { s.Parties[1].RecipientKey = ""; s.DataSinks[0].Recipients = nil },
			"volume":    func(s *spec.Specification) { s.DataSources[0].Volume = strings.Repeat("ff", 16) },
			"vault":     func(s *spec.Specification) { s.DataSources[0].Key.Vault = "https://other.example" },
			"witnesses": func(s *spec.Specification) { s.Governance.Witnesses = nil },
			"ledger": func(s *spec.Specification) {
				s.Governance.LedgerKey = "other.example+093e8954+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"
			},
		} {
			s := fresh(t)
			change(&s)
			if HostData(generate(t, s)) == before {
				t.Errorf("%s: %s does not change HostData", kind, name)
			}
		}
	}
}

// TestSimulatedIsNeverReal keeps what stands between the two kinds of text.
func TestSimulatedIsNeverReal(t *testing.T) {
	sim, real := string(generate(t, example(t))), string(generate(t, aci(t)))
	for _, word := range []string{"\npackage policy\n", "data.framework", "api_version", "framework_version", "containers :=", "layers"} {
		if strings.Contains("\n"+sim, word) {
			t.Errorf("the simulated policy contains %q", word)
		}
		if !strings.Contains("\n"+real, word) {
			t.Errorf("the platform's policy does not contain %q", word)
		}
	}
	for _, word := range []string{"imulated", "runtime_binary_sha256"} {
		if strings.Contains(real, word) {
			t.Errorf("the platform's policy contains %q", word)
		}
		if !strings.Contains(sim, word) {
			t.Errorf("the simulated policy does not contain %q", word)
		}
	}
	if !strings.Contains(sim, example(t).Runtime.Binary) {
		t.Error("the simulated policy does not pin the runtime's binary")
	}
}

func TestGenerateRefusesAnInvalidSpecification(t *testing.T) {
	s := example(t)
	s.Attestation.MinSVN = 0
	if text, err := Generate(s, Inputs{}); err == nil || text != nil || fault.KindOf(err) != fault.Usage {
		t.Errorf("Generate = %q, %v", text, err)
	}
	if _, err := Generate(spec.Specification{}, Inputs{}); err == nil {
		t.Error("a policy for nothing")
	}
}

func TestHostData(t *testing.T) {
	// SHA-256 of "abc", FIPS 180-4.
	if got := Digest([]byte("abc")); got != "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Error(got)
	}
	if HostData(nil) != sha256.Sum256(nil) {
		t.Error("HostData is not the hash of the raw text")
	}
}

// TestTheImagesDecide: what the specification names by digest is what is run.
func TestTheImagesDecide(t *testing.T) {
	reference := aci(t).Application.Image.Reference
	for text, in := range map[string]Inputs{
		"has no layer hashes":             {},
		"and the specification says":      {Images: map[string]Image{reference: {Layers: []string{strings.Repeat("12", 32)}}}},
		"names no variable":               {Images: map[string]Image{reference: {Layers: aci(t).Application.Image.Layers, Environment: []string{"PATH"}}}},
		"has a value that no policy can ": {Images: map[string]Image{reference: {Layers: aci(t).Application.Image.Layers, Environment: []string{"KEY=a\xffb"}}}},
		`"NUL" of its environment`:        {Images: map[string]Image{reference: {Layers: aci(t).Application.Image.Layers, Environment: []string{"NUL=\x00"}}}},
	} {
		s := aci(t)
		if len(in.Images) == 0 {
			s.Application.Image.Layers = nil
		}
		if got, err := Generate(s, in); err == nil || got != nil || !strings.Contains(err.Error(), text) || len(fault.Hints(err)) == 0 {
			t.Errorf("want %q: %q, %v", text, got, err)
		}
	}
}

// TestImageEnvironmentIsRequired: a variable of the image may neither be left
// out by the host nor changed.
func TestImageEnvironmentIsRequired(t *testing.T) {
	rules, _ := json.Marshal(containers(t, generate(t, aci(t)))[0]["env_rules"])
	if want := `{"pattern":"LANG=C.UTF-8","required":true,"strategy":"string"}`; !strings.Contains(string(rules), want) {
		t.Errorf("no %s in %s", want, rules)
	}
}

func TestDistributed(t *testing.T) {
	list := containers(t, generate(t, distributed(t, aci(t))))
	if len(list) != 3 || list[0]["name"] != RuntimeName || list[1]["name"] != "count" {
		t.Fatalf("containers: %v", list)
	}
	if list[0]["working_dir"] != "/run" || list[1]["working_dir"] != "/" {
		t.Errorf("working directories %v and %v", list[0]["working_dir"], list[1]["working_dir"])
	}
	app := list[1]
	if app["allow_elevated"] != false || app["no_new_privileges"] != true {
		t.Errorf("the application's container may be privileged, or become it: %v", app)
	}
	for set, caps := range app["capabilities"].(map[string]any) {
		if len(caps.([]any)) != 0 {
			t.Errorf("the application's container has capabilities (%s): %v", set, caps)
		}
	}
	user, _ := json.Marshal(app["user"])
	if want := `{"group_idnames":[{"pattern":"1000","strategy":"id"}],"umask":"0022","user_idname":{"pattern":"1000","strategy":"id"}}`; string(user) != want {
		t.Errorf("user %s, want %s", user, want)
	}
	s := distributed(t, aci(t))
	digest, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	command, _ := json.Marshal(app["command"])
	want := `["/cloister-shim","--share","/mnt","--specification-digest","` + digest + `","--mount","/mnt/data","--mount","/mnt/model","--mount","/mnt/out",` +
		`"--env","GREETING=a: b # no comment","--env","LEVEL=2","--","/usr/bin/count","--all","/mnt/data"]`
	if string(command) != want {
		t.Errorf("command %s, want %s", command, want)
	}
	s.DataSources[0].Mount = "/data"
	if _, err := Generate(s, inputs()); err == nil || !strings.Contains(err.Error(), "have none in common") {
		t.Errorf("no directory to share: %v", err)
	}
}
