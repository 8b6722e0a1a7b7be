package template

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
)

var update = flag.Bool("update", false, "write the golden files anew")

const subscription = "/subscriptions/00000000-0000-0000-0000-00000000000b/resourceGroups/lab/providers"

// The Rego file that the example pins.
const (
	policyName = "policies/api.rego"
	policyText = "package api\nallow if input.method == \"GET\" # <&> \u00e9\n"
)

// aci is the example of package spec with all that a template says.
func aci(t *testing.T) spec.Specification {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "spec", "yaml", "testdata", "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := yaml.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	s.Kind, s.Runtime = spec.ACI, nil
	s.Attestation = spec.Attestation{Authority: "https://sharedneu.neu.attest.azure.net", MinSVN: 104}
	s.Code[0].Store = "https://acct.blob.core.windows.net/c/model"
	s.Identities[0].ResourceID = subscription + "/Microsoft.ManagedIdentity/userAssignedIdentities/reader"
	s.Application.Image = &spec.Image{Reference: "registry.example/lab/count@sha256:" + strings.Repeat("cd", 32)}
	s.Application.Resources = &spec.Resources{MilliCPU: 2250, MemoryMiB: 5000}
	s.Application.Ports, s.Application.Restart = []uint32{9090, 8080}, spec.RestartOnFailure
	s.Endpoints = []spec.Endpoint{{Name: "api", Port: 8443, ApplicationPort: 8080, Policy: &spec.PolicyFile{File: policyName, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(policyText)))}}, {Name: "admin", Port: 443, ApplicationPort: 9090}}
	s.Deployment = &spec.Deployment{
		Subnet:     subscription + "/Microsoft.Network/virtualNetworks/lab/subnets/rooms",
		Registries: []spec.Registry{{Server: "registry.example", Identity: "reader"}},
	}
	return s
}

// simulated is the same for the software platform, which has no images.
func simulated(t *testing.T) spec.Specification {
	s := aci(t)
	s.Kind, s.Runtime = spec.Simulated, &spec.Runtime{Binary: "sha256:" + strings.Repeat("ab", 32)}
	s.Attestation = spec.Attestation{Authority: "https://127.0.0.1:8080", MinSVN: 100}
	s.Application.Image, s.Application.Ports, s.Deployment = nil, nil, nil
	s.Endpoints = s.Endpoints[:1]
	return s
}

func aks(t *testing.T) spec.Specification {
	s := aci(t)
	s.Kind = spec.AKS
	s.Deployment = &spec.Deployment{Registries: []spec.Registry{{Server: "registry.example", Secret: "pull"}}}
	return s
}

func distributed(s spec.Specification) spec.Specification {
	s.Model, s.AcceptedRisk = spec.Distributed, "we have read and accept what a shared network means"
	s.Runtime = &spec.Runtime{
		Image:     &spec.Image{Reference: "registry.example/cloister/runtime@sha256:" + strings.Repeat("ef", 32)},
		Resources: &spec.Resources{MilliCPU: 500, MemoryMiB: 1024},
	}
	return s
}

// replicated has several identities, one of them without a resource.
func replicated(s spec.Specification) spec.Specification {
	s.Deployment.Replicas, s.Application.Restart = 4, spec.RestartNever
	s.Identities = append(s.Identities, spec.Identity{Name: "another", ClientID: "00000000-0000-0000-0000-00000000000c", TenantID: "00000000-0000-0000-0000-00000000000d"})
	s.Code[0].Identity, s.DataSinks[0].Identity = "reader", "another"
	return s
}

func severalGroups(s spec.Specification) spec.Specification {
	s.Deployment.Replicas, s.Application.Restart = 4, spec.RestartNever
	return s
}

func inputs() cce.Inputs {
	return cce.Inputs{Policies: map[string][]byte{policyName: []byte(policyText)}, Images: map[string]cce.Image{
		"registry.example/lab/count@sha256:" + strings.Repeat("cd", 32): {
			Layers: []string{strings.Repeat("11", 32), strings.Repeat("22", 32)}, Environment: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"},
		},
		"registry.example/cloister/runtime@sha256:" + strings.Repeat("ef", 32): {Layers: []string{strings.Repeat("33", 32)}},
	}}
}

// all are specifications by the golden files of their templates.
func all(t *testing.T) map[string]spec.Specification {
	return map[string]spec.Specification{
		"aci.json": aci(t), "aci_distributed.json": distributed(aci(t)), "aci_replicas.json": severalGroups(aci(t)), "simulated.json": simulated(t),
		"aks.yaml": aks(t), "aks_distributed.yaml": distributed(aks(t)), "aks_replicas.yaml": replicated(distributed(aks(t))),
	}
}

func made(t *testing.T, s spec.Specification) Template {
	t.Helper()
	got, err := Generate(s, inputs())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGolden(t *testing.T) {
	for name, s := range all(t) {
		file := filepath.Join("testdata", name)
		got := made(t, s)
		if *update {
			if err := os.WriteFile(file, got.Text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Text, want) {
			t.Errorf("%s: the template no longer comes out the same; got\n%s", name, got.Text)
		}
	}
}

// TestDeterministicToTheByte: and the order of what is a set has no say.
func TestDeterministicToTheByte(t *testing.T) {
	for name, s := range all(t) {
		first := made(t, s)
		slices.Reverse(s.Endpoints)
		slices.Reverse(s.Identities)
		for range 10 {
			if again := made(t, s); !bytes.Equal(first.Text, again.Text) {
				t.Fatalf("%s: two runs differ", name)
			}
		}
	}
}

// TestHoldsExactlyThePolicy: what the platform is handed, and hashes into
// HOST_DATA, is what `policy generate` writes, to the byte.
func TestHoldsExactlyThePolicy(t *testing.T) {
	for name, s := range all(t) {
		policy, err := cce.Generate(s, inputs())
		if err != nil {
			t.Fatal(err)
		}
		held, err := base64.StdEncoding.DecodeString(deployed(t, made(t, s)).policy)
		if err != nil || !bytes.Equal(held, policy) {
			t.Errorf("%s: holds another policy (%v)", name, err)
		}
	}
}

// TestCarriesThePolicies: the Rego files are in the runtime's container, to the
// byte, and in no other; without them there is no template.
func TestCarriesThePolicies(t *testing.T) {
	for name, s := range all(t) {
		for i, c := range deployed(t, made(t, s)).containers {
			var list []map[string]string
			for _, v := range c.Environment {
				if value, ok := strings.CutPrefix(v, cce.PoliciesVariable+"="); ok {
					texts, err := cce.ReadPolicies(value)
					if err != nil {
						t.Error(err)
					}
					list = append(list, texts)
				}
			}
			if i == 0 && !reflect.DeepEqual(list, []map[string]string{{policyName: policyText}}) || i > 0 && list != nil {
				t.Errorf("%s: container %s has the policies %q", name, c.name, list)
			}
		}
		in := inputs()
		in.Policies = map[string][]byte{policyName: []byte(policyText + "\n")}
		if _, err := Generate(s, in); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), policyName) {
			t.Errorf("%s: with another policy: %v", name, err)
		}
		in.Policies = nil
		if _, err := Generate(s, in); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), policyName) {
			t.Errorf("%s: without the policy: %v", name, err)
		}
	}
}

// TestARMRoundTrip: Azure's own client library knows every field, and loses none.
func TestARMRoundTrip(t *testing.T) {
	for _, s := range []spec.Specification{aci(t), distributed(aci(t))} {
		var template struct{ Resources []map[string]any }
		if err := json.Unmarshal(made(t, s).Text, &template); err != nil {
			t.Fatal(err)
		}
		want := template.Resources[0]
		if want["apiVersion"] != "2023-05-01" { // the library's own
			t.Errorf("API version %v", want["apiVersion"])
		}
		delete(want, "apiVersion") // of the envelope, not of the resource
		if lost := lostInARM(t, want); lost != nil {
			t.Errorf("Azure's library reads it otherwise: %s", lost)
		}
		want["properties"].(map[string]any)["containers"].([]any)[0].(map[string]any)["properties"].(map[string]any)["enviromentVariables"] = []any{}
		if lost := lostInARM(t, want); len(lost) != 1 || !strings.HasSuffix(lost[0], "enviromentVariables is missing") {
			t.Errorf("a slip of the pen was not seen: %s", lost)
		}
	}
}

func lostInARM(t *testing.T, resource map[string]any) []string {
	t.Helper()
	text, err := json.Marshal(resource)
	if err != nil {
		t.Fatal(err)
	}
	var group armcontainerinstance.ContainerGroup
	if err := json.Unmarshal(text, &group); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(group); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	return differences("", resource, got)
}

// TestWordsOfTheTemplateLanguage: a command is what the specification says, not
// what a template language makes of it.
func TestWordsOfTheTemplateLanguage(t *testing.T) {
	words := []string{"/usr/bin/count", "[resourceGroup().id]", "[a] b", "$(HOSTNAME)", "$$", "$HOME", "\"<&>", "yes", "0x1F", "- a: b", "\u00e9", "[[x]"}
	for _, s := range []spec.Specification{aci(t), distributed(aci(t)), aks(t), distributed(aks(t))} {
		s.Application.Command = words
		want, err := cce.Containers(s, inputs())
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range deployed(t, made(t, s)).containers {
			if !reflect.DeepEqual(got.Command, want[i].Command) {
				t.Errorf("%s %s: command %q, want %q", s.Kind, got.name, got.Command, want[i].Command)
			}
		}
	}
	// Nor what the API is sent without a deployment that evaluates it.
	s := severalGroups(aci(t))
	s.Application.Command = words
	resources, err := made(t, s).Resources("westeurope")
	if err != nil || len(resources) != 4 {
		t.Fatalf("%d resources, %v", len(resources), err)
	}
	want, err := cce.Containers(s, inputs())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range resources {
		got := lookedAt(t, r.Body)
		last := got.Variables[len(got.Variables)-1]
		if r.Name != fmt.Sprintf("study-%d", i) || r.Body["location"] != "westeurope" || !slices.Equal(got.Command, want[0].Command) || last != (variable{cce.ReplicaVariable, fmt.Sprint(i)}) {
			t.Errorf("%s in %v: command %q, %v", r.Name, r.Body["location"], got.Command, last)
		}
	}
	for plain, written := range map[string]string{"[f()]": "[[f()]", "[a] b": "[a] b", "[[x]": "[[[x]", "a": "a"} {
		if got := armLiteral(plain); got != written {
			t.Errorf("%q is written %q, want %q", plain, got, written)
		}
	}
}

// lookedAt is the first container of a request's body.
func lookedAt(t *testing.T, body map[string]any) (c struct {
	Command   []string   `json:"command"`
	Variables []variable `json:"environmentVariables"`
}) {
	t.Helper()
	first := body["properties"].(map[string]any)["containers"].([]any)[0].(map[string]any)["properties"]
	text, err := json.Marshal(first)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzResources: what a folder holds is a stranger's; it is read, or refused.
func FuzzResources(f *testing.F) {
	for _, name := range []string{"aci.json", "aci_replicas.json", "aks.yaml", "aks_replicas.yaml", "simulated.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, strings.HasSuffix(name, ".json"))
	}
	f.Fuzz(func(t *testing.T, text []byte, isARM bool) {
		tm := Template{Name: Kubernetes, Text: text}
		if isARM {
			tm.Name = ARM
		}
		list, err := tm.Resources("here")
		if err != nil && fault.KindOf(err) != fault.Usage {
			t.Errorf("%v", err)
		}
		for _, r := range list {
			if r.Name == "" || r.Kind == "" || r.APIVersion == "" || r.Body == nil {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestRefuses(t *testing.T) {
	for want, s := range map[string]func() spec.Specification{
		"in one container, not in two":       func() spec.Specification { s := distributed(aci(t)); s.Kind = spec.Simulated; return s },
		"no template for kind cvm":           func() spec.Specification { s := aci(t); s.Kind = spec.CVM; return s },
		"identity reader has no resource id": func() spec.Specification { s := aci(t); s.Identities[0].ResourceID = ""; return s },
		"no place for the identity that pulls from": func() spec.Specification {
			s := aks(t)
			s.Deployment.Registries = aci(t).Deployment.Registries
			return s
		},
		"is longer than 63": func() spec.Specification { s := replicated(aks(t)); s.Name = strings.Repeat("a", 62); return s },
	} {
		got, err := Generate(s(), inputs())
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), want) || len(fault.Hints(err)) == 0 || got.Text != nil {
			t.Errorf("want %q: %v", want, err)
		}
	}
	invalid := aci(t)
	invalid.Attestation.MinSVN = 1
	if got, err := Generate(invalid, inputs()); fault.KindOf(err) != fault.Usage || got.Text != nil {
		t.Errorf("an invalid specification: %v", err)
	}
}

// TestVerifyNamesWhatWasChanged, in whatever way, and nothing where only the
// spelling was.
func TestVerifyNamesWhatWasChanged(t *testing.T) {
	group, manifest := made(t, distributed(aci(t))), made(t, replicated(distributed(aks(t))))
	for _, tm := range []Template{group, manifest} {
		if err := tm.Verify(tm.Text); err != nil {
			t.Error(err)
		}
	}
	var v any
	if err := json.Unmarshal(group.Text, &v); err != nil {
		t.Fatal(err)
	}
	compact, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := group.Verify(compact); err != nil {
		t.Error(err)
	}
	if err := manifest.Verify(append([]byte("---\n# ours\n"), manifest.Text...)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		of             Template
		from, to, want string
	}{
		{group, `"sku": "Confidential"`, `"sku": "Standard"`, `resources[0].properties.sku is "Standard", and should be "Confidential"`},
		{group, `"ccePolicy": "`, `"ccePolicy": "AA`, "resources[0].properties.confidentialComputeProperties.ccePolicy is "},
		{group, `"privileged": false`, `"privileged": true`, `resources[0].properties.containers[1].properties.securityContext.privileged is "true"`},
		{group, `"readOnly": true`, `"readOnly": false`, "containers[1].properties.volumeMounts[0].readOnly"},
		{group, `"sku": "Confidential",`, "", "resources[0].properties.sku is missing"},
		{group, `"sku": "Confidential",`, `"sku": "Confidential", "SKU": "Standard",`, "resources[0].properties.SKU was added"},
		{group, `"cpu": 0.5`, `"cpu": 5`, "resources.requests.cpu"},
		{manifest, "mountPropagation: HostToContainer", "mountPropagation: Bidirectional", "[1].spec.template.spec.containers[1].volumeMounts[0].mountPropagation"},
		{manifest, "completions: 4", "completions: 5", `[1].spec.completions is "5", and should be "4"`},
		{manifest, "virtualization: virtualnode2", "kubernetes.io/os: linux", "nodeSelector"},
		{manifest, "kind: ServiceAccount", "kind: ServiceAccount\nsecrets: []", "[0].secrets was added"},
		{manifest, separator, separator + "kind: Pod\n" + separator, "[2] was added"},
	} {
		changed := bytes.Replace(c.of.Text, []byte(c.from), []byte(c.to), 1)
		if bytes.Equal(changed, c.of.Text) {
			t.Fatalf("the template has no %q", c.from)
		}
		if err := c.of.Verify(changed); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s made %q: want %q: %v", c.from, c.to, c.want, err)
		}
	}
	twice := bytes.Replace(group.Text, []byte(`"sku"`), []byte(`"sku": "Standard", "sku"`), 1)
	for text, tm := range map[string]Template{string(twice): group, "": group, "{": group, "\xff": group, "a: b: c": manifest, "a: 1\na: 2\n": manifest} {
		if err := tm.Verify([]byte(text)); fault.KindOf(err) != fault.Usage {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// TestResources: in the service's units nobody gets less than was agreed.
func TestResources(t *testing.T) {
	for given, want := range map[spec.Resources]armAmounts{
		{MilliCPU: 10, MemoryMiB: 64}:     {0.01, 0.1},
		{MilliCPU: 11, MemoryMiB: 1024}:   {0.02, 1},
		{MilliCPU: 2250, MemoryMiB: 5000}: {2.25, 4.9},
		standard:                          {1, 1.5},
	} {
		if got := (container{resources: given}).armResources(); got.Requests != want || got.Limits != want {
			t.Errorf("%+v: %+v, want %+v", given, got, want)
		}
	}
}

// TestOnlyEndpointsAreExposed: of a pod, or a container group, the ports of the
// endpoints, which the runtime's container has; of the application's none, whatever
// it listens on.
func TestOnlyEndpointsAreExposed(t *testing.T) {
	for _, s := range []spec.Specification{distributed(aci(t)), distributed(aks(t))} {
		r, err := roomOf(s, inputs())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Application.Ports) == 0 || len(s.Endpoints) == 0 {
			t.Fatal("the example listens nowhere")
		}
		if runtime := r.containers[0]; !slices.Equal(runtime.ports, portsOf(s)) || len(r.containers) != 2 || r.containers[1].ports != nil {
			t.Errorf("%s: exposed are %v of the runtime's container and %v of the application's", s.Kind, runtime.ports, r.containers[1].ports)
		}
		ports := regexp.MustCompile(`(?i)"?(?:container)?port"?: *([0-9]+)`).FindAllStringSubmatch(string(made(t, s).Text), -1)
		if len(ports) == 0 {
			t.Errorf("%s: no port is exposed", s.Kind)
		}
		for _, p := range ports {
			if !slices.ContainsFunc(s.Endpoints, func(e spec.Endpoint) bool { return fmt.Sprint(e.Port) == p[1] }) {
				t.Errorf("%s: port %s is exposed, which is no endpoint's", s.Kind, p[1])
			}
		}
	}
}
