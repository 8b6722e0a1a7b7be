package cce

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
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
	s.Application.Image = &spec.Image{
		Reference: "registry.example/lab/count@sha256:" + strings.Repeat("cd", 32),
		Layers:    []string{strings.Repeat("11", 32), strings.Repeat("22", 32)},
	}
	return s
}

func generate(t *testing.T, s spec.Specification) []byte {
	t.Helper()
	text, err := Generate(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestGolden(t *testing.T) {
	for name, s := range map[string]spec.Specification{"simulated.rego": example(t), "aci.rego": aci(t)} {
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
			"ledger":    func(s *spec.Specification) { s.Governance.LedgerKey = s.Parties[0].SigningKey },
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
	if text, err := Generate(s); err == nil || text != nil || fault.KindOf(err) != fault.Usage {
		t.Errorf("Generate = %q, %v", text, err)
	}
	noLayers, distributed := aci(t), aci(t)
	noLayers.Application.Image.Layers = nil
	distributed.Model, distributed.AcceptedRisk = spec.Distributed, "we have read and accept what a shared network means"
	distributed.Runtime = &spec.Runtime{Image: distributed.Application.Image}
	for _, s := range []spec.Specification{noLayers, distributed} {
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if text, err := Generate(s); err == nil || text != nil || fault.KindOf(err) != fault.Usage {
			t.Errorf("Generate = %q, %v", text, err)
		}
	}
	if _, err := Generate(spec.Specification{}); err == nil {
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
