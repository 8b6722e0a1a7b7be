package spec

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
)

func public(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func signingKey(t testing.TB, seed byte) string {
	return public(t, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)).Public())
}

func recipientKey(t testing.TB) string {
	key, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return public(t, key.PublicKey())
}

// certificate is that of a root, in the specification's form.
func certificate(t testing.TB) string {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{4}, 32))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// A specification with a broker has one canonical form, says nothing of a vault
// in it, and gives the runtime the root that it pins.
func TestBroker(t *testing.T) {
	s := example(t)
	s.Code[0].Key = Key{Broker: &Broker{URL: "https://kbs.example", Resource: "lab/dek/model", KEK: "lab/kek/model", CA: certificate(t)}}
	canonical, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := `"key":{"broker":{"ca":"` + s.Code[0].Key.Broker.CA + `","kek":"lab/kek/model","resource":"lab/dek/model","url":"https://kbs.example"}},"mount":"/mnt/model"`
	if !bytes.Contains(canonical, []byte(want)) {
		t.Errorf("canonical form: %s", canonical)
	}
	back, err := ParseCanonical(canonical)
	if err != nil {
		t.Fatal(err)
	}
	if roots, err := back.Code[0].Key.Broker.Roots(); err != nil || roots == nil {
		t.Errorf("roots: %v, %v", roots, err)
	}
	if roots, err := (Broker{}).Roots(); err != nil || roots != nil {
		t.Errorf("the system's roots: %v, %v", roots, err)
	}
	if roots, err := (Broker{CA: "AAAA"}).Roots(); err == nil || roots != nil {
		t.Errorf("no certificate: %v, %v", roots, err)
	}
}

// transparencyKey is one of ECDSA on P-384.
const transparencyKey = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEUCVHfxcrD22LJZFSe3BiWRshBWQRY3zvq5F8QorDEUmzXSvzXcl2Qh0Qpq5/o5VT2FZmB9pUZ9zgYn3blKE4olgomqp7uip9VVeUUDTtspdDeCtkE7ov2uYN7VBAqAdu"

func TestTransparencyServices(t *testing.T) {
	keys, err := Attestation{TransparencyKeys: []string{transparencyKey}}.TransparencyServices()
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if again := public(t, keys[0]); again != transparencyKey {
		t.Errorf("it is %s", again)
	}
	for _, bad := range []string{"", "AAAA", signingKey(t, 1), transparencyKey[4:]} {
		if _, err := (Attestation{TransparencyKeys: []string{bad}}).TransparencyServices(); err == nil {
			t.Errorf("%q is taken for a transparency service's key", bad)
		}
	}
}

func verifierKey(name string, algorithm byte) string {
	key := append([]byte{algorithm}, bytes.Repeat([]byte{7}, 32)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(key)
}

func key(name string) Key {
	return Key{KEK: name + "-kek", Vault: "https://127.0.0.1:8444", Secret: "https://127.0.0.1:8445/secrets/" + name}
}

// example is a valid simulated specification with two parties.
func example(t testing.TB) Specification {
	return Specification{
		APIVersion: APIVersion, Name: "study", Kind: Simulated, Model: Monolithic,
		Parties: []Party{
			{Name: "hospital", SigningKey: signingKey(t, 1)},
			{Name: "lab", SigningKey: signingKey(t, 2), RecipientKey: recipientKey(t)},
		},
		Identities: []Identity{{Name: "reader", ClientID: "00000000-0000-0000-0000-00000000000a"}},
		Runtime:    &Runtime{Binary: "sha256:" + strings.Repeat("ab", 32)},
		Application: Application{
			Name: "count", Command: []string{"/usr/bin/count", "--all", "/mnt/data"},
			Environment: map[string]string{"B": "2", "A": "1 < 2"}, User: &User{UID: 1000, GID: 1000},
		},
		Code: []Source{{Name: "model", Party: "lab", Volume: strings.Repeat("0c", 16), Store: "/volumes/model", Mount: "/mnt/model", Key: key("model")}},
		DataSources: []Source{{Name: "records", Party: "hospital", Volume: strings.Repeat("0a", 16), Store: "https://acct.blob.core.windows.net/c/records",
			Mount: "/mnt/data", Key: key("records"), Identity: "reader"}},
		DataSinks: []Sink{{Name: "report", Party: "lab", Volume: strings.Repeat("0b", 16), Store: "http://127.0.0.1:10000/devstoreaccount1/c/out",
			Mount: "/mnt/out", Key: key("report"), Recipients: []string{"lab"}}},
		Network:     Network{Egress: EgressClosed},
		Endpoints:   []Endpoint{{Name: "api", Port: 8080}},
		Governance:  Governance{Ledger: "https://127.0.0.1:8446", LedgerKey: verifierKey("ledger.example", 1), Witnesses: []string{verifierKey("witness.example", 4), verifierKey("another.example", 4)}},
		Attestation: Attestation{Authority: "https://127.0.0.1:8443", MinSVN: 1},
	}
}

// azure turns the example into one for a real platform.
func azure(s *Specification) {
	s.Kind, s.Runtime = ACI, nil
	s.Attestation = Attestation{Authority: "https://sharedneu.neu.attest.azure.net", MinSVN: 104}
	s.Code[0].Store = "https://acct.blob.core.windows.net/c/model"
	s.Application.Image = &Image{Reference: "registry.example/lab/count@sha256:" + strings.Repeat("cd", 32), Layers: []string{strings.Repeat("11", 32)}}
}

func policyFile() *PolicyFile {
	return &PolicyFile{File: "policies/api.rego", Digest: "sha256:" + strings.Repeat("ef", 32)}
}

const risk = "The lab's program is reviewed by the hospital, so we accept a shared network."

// distributed turns the example into one for AKS that uses every field.
func distributed(s *Specification) {
	azure(s)
	s.Kind, s.Model, s.AcceptedRisk = AKS, Distributed, risk
	s.Identities[0].ResourceID = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/reader"
	s.Runtime = &Runtime{Image: &Image{Reference: "registry.example/cloisterd@sha256:" + strings.Repeat("ce", 32)}, Resources: &Resources{MilliCPU: 1000, MemoryMiB: 2048}}
	s.Application.Ports, s.Application.Resources = []uint32{9000, 8081}, &Resources{MilliCPU: 500, MemoryMiB: 1024}
	s.Application.Start, s.Application.Restart = StartManual, RestartNever
	s.Endpoints = []Endpoint{{Name: "api", Port: 8080, ApplicationPort: 8081, Protocol: ProtocolGRPC, Policy: policyFile()}}
	s.Network = Network{Egress: EgressList, Allow: []Destination{{"b.example", 443}, {"a.example", 443}}, Proxy: ProxySecure}
	s.DataSources[0].Fetch, s.DataSinks[0].Publish = FetchWhole, PublishAtEndPadded
	s.Governance.Threshold = 1
	s.Jobs = &Jobs{Start: []string{"lab", "hospital"}, Results: []string{"lab"}, MaxResult: 1024, Consent: ConsentJob, Count: 4, AtOnce: 2}
	s.Deployment = &Deployment{Replicas: 4, Registries: []Registry{{Server: "registry.example", Secret: "pull"}}}
}

func TestExampleIsValid(t *testing.T) {
	s := example(t)
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	azure(&s)
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	s.Deployment = &Deployment{Subnet: "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/rooms",
		Registries: []Registry{{Server: "registry.example", Identity: "reader"}}}
	s.Network = Network{Egress: EgressPolicy, Policy: policyFile()}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	all := example(t)
	distributed(&all)
	if err := all.Validate(); err != nil {
		t.Error(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.Parties[0].RecipientKey = public(t, rsaKey.Public())
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Specification)
		want   []string // "path: part of the reason"
	}{
		"head": {func(s *Specification) { s.APIVersion, s.Name, s.Model = "v2", "No", "split" },
			[]string{"apiVersion: not known", "name: not a name", "model: not known"}},
		"kind": {func(s *Specification) { azure(s); s.Kind = "gce" }, []string{"kind: not known"}},
		"parties": {func(s *Specification) { s.Parties = nil },
			[]string{"parties: nobody", "code[0].party: not among", "datasources[0].party: not among", "datasinks[0].party: not among", "datasinks[0].recipients[0]: not among"}},
		"party twice": {func(s *Specification) {
			s.Parties[0].Name, s.DataSources[0].Party, s.DataSinks[0].Recipients = "lab", "lab", nil
		}, []string{"parties[1].name: already a party"}},
		"signing key twice":  {func(s *Specification) { s.Parties[0].SigningKey = s.Parties[1].SigningKey }, []string{"parties[1].signingKey: another name"}},
		"signing key":        {func(s *Specification) { s.Parties[0].SigningKey = "AAAA" }, []string{"parties[0].signingKey: not a SubjectPublicKeyInfo"}},
		"signing key base64": {func(s *Specification) { s.Parties[0].SigningKey = "-----BEGIN" }, []string{"parties[0].signingKey: not base64"}},
		"encryption key":     {func(s *Specification) { s.Parties[0].SigningKey = recipientKey(t) }, []string{"parties[0].signingKey: does not serve"}},
		"recipient key":      {func(s *Specification) { s.Parties[1].RecipientKey = signingKey(t, 1) }, []string{"parties[1].recipientKey: does not serve"}},
		"no recipient key":   {func(s *Specification) { s.Parties[1].RecipientKey = "" }, []string{"datasinks[0].recipients[0]: no recipientKey"}},
		"identity": {func(s *Specification) {
			s.Identities = append(s.Identities, Identity{Name: "reader", ClientID: "x", TenantID: "y"})
		},
			[]string{"identities[1].name: already an identity", "identities[1].clientId: not a UUID", "identities[1].tenantId: not a UUID",
				"code[0].identity: 2 identities", "datasinks[0].identity: 2 identities"}},
		"no runtime":             {func(s *Specification) { s.Runtime = nil }, []string{"runtime: no image"}},
		"runtime digest":         {func(s *Specification) { s.Runtime.Binary = "ab" }, []string{"runtime.binary: not a digest"}},
		"cloud":                  {func(s *Specification) { azure(s); s.Cloud = "moon" }, []string{`cloud: "moon" is not known`}},
		"cloud of the simulated": {func(s *Specification) { s.Cloud = PublicCloud }, []string{"cloud: kind simulated is in none"}},
		"simulated pieces in a real kind": {func(s *Specification) { s.Kind = AKS },
			[]string{"runtime.binary: only in kind simulated", "application.image: needs an image", "code[0].store: not an https address", "attestation.authority: does not fit", "attestation.minSVN: not in 100"}},
		"image in simulated": {func(s *Specification) { s.Application.Image = &Image{} }, []string{"application.image: starts no image"}},
		"image": {func(s *Specification) {
			azure(s)
			s.Application.Image = &Image{Reference: "registry.example/app:latest", Layers: []string{"zz"}}
		}, []string{"application.image.reference: by digest", "application.image.layers[0]: dm-verity"}},
		"no layers": {func(s *Specification) { azure(s); s.Application.Image.Layers = nil }, nil},
		"tag and digest": {func(s *Specification) {
			azure(s)
			s.Application.Image.Reference = "r.example/app:1@sha256:" + strings.Repeat("cd", 32)
		}, []string{"application.image.reference: by digest"}},
		"no application": {func(s *Specification) { s.Application = Application{} }, []string{"application: nothing is to run"}},
		"application": {func(s *Specification) {
			s.Application.Name, s.Application.Command, s.Application.WorkingDir = "A", []string{"count", "a\nb"}, "tmp"
			s.Application.User = &User{UID: 0, GID: 1}
			s.Application.Environment = map[string]string{"A-B": "x", "CLOISTER_X": "x", "C": "\x1b"}
		}, []string{"application.name: not a name", "application.command[0]: absolute", "application.command[1]: control", "application.environment.A-B: not a variable",
			"application.environment.C: control", "application.environment.CLOISTER_X: runtime's", "application.workingDir: absolute", "application.user: root"}},
		"no command": {func(s *Specification) { s.Application.Command = nil }, []string{"application.command: empty"}},
		"volumes": {func(s *Specification) {
			s.DataSources[0].Name, s.DataSources[0].Volume, s.DataSources[0].Identity = "model", s.Code[0].Volume, "nobody"
			s.DataSinks[0].Volume, s.DataSinks[0].Party = "0B", "thief"
		}, []string{"datasources[0].name: already a volume", "datasources[0].identity: not among", "datasources[0].volume: already this volume", "datasinks[0].party: not among", "datasinks[0].volume: volume id"}},
		"stores": {func(s *Specification) {
			s.Code[0].Store, s.DataSources[0].Store, s.DataSinks[0].Store = "volumes/x", "http://acct.blob.core.windows.net/c", "https://acct.blob.core.windows.net/c?sig=secret"
		}, []string{"code[0].store: not an https", "datasources[0].store: not https", "datasinks[0].store: query"}},
		"keys": {func(s *Specification) {
			s.Code[0].Key = Key{KEK: "https://v/keys/x", Vault: "https://v.example/keys", Secret: "https://v.example/keys/x"}
			s.DataSources[0].Key = Key{}
			s.DataSinks[0].Key.Vault = "https://u:p@v.example"
		}, []string{"code[0].key.kek: key's name", "code[0].key.vault: path", "code[0].key.secret: name a secret", "datasources[0].key.kek: key's name", "datasources[0].key.vault: https", "datasources[0].key.secret: https", "datasinks[0].key.vault: user"}},
		"broker": {func(s *Specification) {
			s.Code[0].Key = Key{Broker: &Broker{URL: "https://kbs.example", Resource: "lab/dek/model", KEK: "lab/kek/model"}}
			s.DataSinks[0].Key = Key{Broker: &Broker{URL: "https://127.0.0.1:8447", Resource: "a/b/c.d", KEK: "_/-/0", CA: certificate(t)}}
		}, nil},
		"bad brokers": {func(s *Specification) {
			s.Code[0].Key.Broker = &Broker{URL: "http://127.0.0.1:8447", Resource: "lab/model", KEK: "lab/../kek"}
			s.DataSources[0].Key = Key{Broker: &Broker{URL: "https://kbs.example/kbs", Resource: "a/b/c", KEK: "a/b/c", CA: "AAAA"}}
			s.DataSinks[0].Key = Key{Broker: &Broker{}}
		}, []string{"code[0].key: a vault and a broker", "code[0].key.broker.url: not https", "code[0].key.broker.resource: broker's resource", "code[0].key.broker.kek: broker's resource",
			"datasources[0].key.broker.url: path", "datasources[0].key.broker.kek: wrapped DEK's", "datasources[0].key.broker.ca: not a certificate",
			"datasinks[0].key.broker.url: not an https", "datasinks[0].key.broker.resource: broker's resource", "datasinks[0].key.broker.kek: broker's resource"}},
		"a certificate in two lines": {func(s *Specification) {
			s.DataSources[0].Key = Key{Broker: &Broker{URL: "https://kbs.example", Resource: "a/b/c", KEK: "a/b/d", CA: certificate(t)[:40] + "\n" + certificate(t)[40:]}}
		}, []string{"datasources[0].key.broker.ca: base64 on one line"}},
		"mounts": {func(s *Specification) {
			s.Code[0].Mount, s.DataSources[0].Mount, s.DataSinks[0].Mount = "mnt", "/etc/x", "/etc/x/y"
		}, []string{"code[0].mount: absolute", "datasources[0].mount: reserved", "datasinks[0].mount: reserved", "datasinks[0].mount: overlaps"}},
		"mount root":  {func(s *Specification) { s.DataSources[0].Mount = "/" }, []string{"datasources[0].mount: reserved", "datasources[0].mount: overlaps", "datasinks[0].mount: overlaps"}},
		"mount dots":  {func(s *Specification) { s.DataSources[0].Mount = "/mnt/../dev" }, []string{"datasources[0].mount: shortest form"}},
		"same mount":  {func(s *Specification) { s.DataSources[0].Mount = "/mnt/model" }, []string{"datasources[0].mount: overlaps code[0].mount"}},
		"near mounts": {func(s *Specification) { s.DataSources[0].Mount = "/mnt/model2" }, nil},
		"recipients":  {func(s *Specification) { s.DataSinks[0].Recipients = []string{"lab", "lab", "x"} }, []string{"datasinks[0].recipients[1]: already this recipient", "datasinks[0].recipients[2]: not among"}},
		"network":     {func(s *Specification) { s.Network.Egress = "open" }, []string{"network.egress: not known"}},
		"endpoints": {func(s *Specification) {
			s.Endpoints = []Endpoint{{Name: "a", Port: 80}, {Name: "a", Port: 80}, {Name: "b", Port: 70000}}
		},
			[]string{"endpoints[1].name: already an endpoint", "endpoints[1].port: on this port", "endpoints[2].port: not a port"}},
		"governance": {func(s *Specification) {
			w := s.Governance.Witnesses[0]
			s.Governance = Governance{Ledger: "ftp://x", Witnesses: []string{w, w, strings.Replace(w, "witness", "wotness", 1)}}
		}, []string{"governance.ledger: https", "governance.ledgerKey: no ledger", "governance.witnesses[1]: already this witness", "governance.witnesses[2]: not a public key"}},
		"witness addresses": {func(s *Specification) {
			w := s.Governance.Witnesses
			s.Governance.WitnessAddresses = []string{w[0] + "@http://witness.example:8447", w[1] + "@https://x/y"}
		}, nil},
		"witness address twice": {func(s *Specification) {
			w := s.Governance.Witnesses[0]
			s.Governance.WitnessAddresses = []string{w + "@http://x", w + "@http://y", "other@http://x"}
		}, []string{"governance.witnessAddresses[1]: already the address of this witness", "governance.witnessAddresses[2]: none of the witnesses"}},
		"no witness address": {func(s *Specification) {
			w := s.Governance.Witnesses
			s.Governance.WitnessAddresses = []string{w[0], w[1] + "@http://u:p@x"}
		}, []string{"governance.witnessAddresses[0]: no address", "governance.witnessAddresses[1]: no address"}},
		"ledger threshold": {func(s *Specification) { s.Governance.Threshold = 3 }, []string{"governance.threshold: 3 of 2"}},
		"proxy and allow": {func(s *Specification) {
			s.Network = Network{Egress: EgressClosed, Allow: []Destination{{"*.x", 0}}, Proxy: "shut"}
		}, []string{"network.allow: egress closed", "network.allow[0].host: not a host", "network.allow[0].port: not a port", "network.proxy: not known"}},
		"empty list": {func(s *Specification) { s.Network = Network{Egress: EgressList} }, []string{"network.allow: no destination"}},
		"list": {func(s *Specification) {
			azure(s)
			s.Network = Network{Egress: EgressList, Proxy: ProxyOpen, Allow: []Destination{{"api.example", 443}, {"api.example", 443}, {"169.254.169.254", 80}, {"::01", 80}, {"127.0.0.1", 80}, {"2130706433", 80}}}
		}, []string{"network.allow[1]: already this destination", "network.allow[2].host: own services", "network.allow[3].host: not how", "network.allow[4].host: itself", "network.allow[5].host: not a host"}},
		"egress policy": {func(s *Specification) { s.Network = Network{Egress: EgressPolicy} }, []string{"network.policy: needs one"}},
		"policies": {func(s *Specification) {
			bad := &PolicyFile{File: "../x.rego", Digest: "x"}
			s.Network = Network{Egress: EgressClosed, Policy: bad, Proxy: ProxyOpen}
			s.Endpoints[0] = Endpoint{Name: "api", Port: 1, Protocol: ProtocolTCP, Policy: policyFile()}
		}, []string{"network.policy: asks no policy", "endpoints[0].policy: open", "endpoints[0].policy: tcp"}},
		"policy file": {func(s *Specification) {
			s.Network = Network{Egress: EgressPolicy, Policy: &PolicyFile{File: "../x.rego", Digest: "x"}}
		}, []string{"network.policy.file: not a file beside", "network.policy.digest: not a digest"}},
		"targets": {func(s *Specification) {
			s.Application.Ports = []uint32{80, 80, 0}
			s.Endpoints = []Endpoint{{Name: "a", Port: 80}, {Name: "b", Port: 81, ApplicationPort: 90}, {Name: "c", Port: 82, ApplicationPort: 90}, {Name: "d", Port: 83, Protocol: "x", ApplicationPort: 70000}}
		}, []string{"application.ports[1]: already this port", "application.ports[2]: not a port", "endpoints[1]: no port 90", "endpoints[2]: no port 90", "endpoints[2].applicationPort: already an endpoint",
			"endpoints[3].applicationPort: not a port", "endpoints[3]: no port 70000", "endpoints[3].protocol: not known"}},
		"distributed": {func(s *Specification) {
			distributed(s)
			s.AcceptedRisk, s.Runtime.Image, s.Network = "we accept the risk", nil, Network{Egress: EgressClosed}
		},
			[]string{"acceptedRisk: guards less", "runtime.image: sidecar needs"}},
		"shared port": {func(s *Specification) {
			distributed(s)
			s.Network = Network{Egress: EgressUnguarded}
			s.Application.Ports, s.Endpoints[0].ApplicationPort = nil, 0
		}, []string{"endpoints[0]: port 8080 is taken"}},
		"unguarded": {func(s *Specification) { s.Network, s.Endpoints = Network{Egress: EgressUnguarded}, nil }, []string{"network.egress: monolithic guards"}},
		"sidecar": {func(s *Specification) {
			distributed(s)
			s.Runtime = &Runtime{Binary: "x", Image: &Image{Reference: "x:1"}, Resources: &Resources{}}
		}, []string{"runtime.binary: only in kind simulated", "runtime.image.reference: by digest", "runtime.resources.milliCPU: not in", "runtime.resources.memoryMiB: not in"}},
		"risk in monolithic":    {func(s *Specification) { s.AcceptedRisk = "none" }, []string{"acceptedRisk: only the distributed"}},
		"sidecar in monolithic": {func(s *Specification) { azure(s); s.Runtime = &Runtime{Image: &Image{}} }, []string{"runtime: a container of its own"}},
		"life": {func(s *Specification) { s.Application.Start, s.Application.Restart = "later", "sometimes" },
			[]string{"application.start: not known", "application.restart: not known"}},
		"governance API": {func(s *Specification) { s.Application.GovernanceAPI = 70000 }, []string{"application.governanceAPI: 70000 is not a port"}},
		"governance API on the application's port": {func(s *Specification) {
			s.Application.Ports, s.Application.GovernanceAPI = []uint32{8080, 8300}, 8300
		}, []string{"application.governanceAPI: listens on port 8300 itself"}},
		"governance API beside the runtime": {func(s *Specification) {
			s.Network.Egress, s.Application.GovernanceAPI, s.Endpoints, s.Model, s.AcceptedRisk = EgressUnguarded, 8300, nil, Distributed, "the one application is ours and all of us have read it"
		},
			[]string{"application.governanceAPI: no network of its own"}},
		"nobody starts it": {func(s *Specification) { s.Application.Start, s.Endpoints = StartManual, nil }, []string{"application.start: nobody can call"}},
		"resources": {func(s *Specification) { s.Application.Resources = &Resources{MilliCPU: 1, MemoryMiB: 1} },
			[]string{"application.resources.milliCPU: not in", "application.resources.memoryMiB: not in"}},
		"container name": {func(s *Specification) { azure(s); s.Name, s.Application.Name = "a.b", "a_b" }, []string{"name: cannot name", "application.name: cannot name"}},
		"fetch and publish": {func(s *Specification) { s.DataSources[0].Fetch, s.DataSinks[0].Publish = "all", "at-end" },
			[]string{"datasources[0].fetch: not known", "datasinks[0].publish: not known"}},
		"resource id": {func(s *Specification) { s.Identities[0].ResourceID = "reader" }, []string{"identities[0].resourceId: not the resource id"}},
		"deployment": {func(s *Specification) {
			s.Deployment = &Deployment{Replicas: 2000, Subnet: "x", Registries: []Registry{{Server: "registry.example"}}}
		}, []string{"deployment.replicas: more than", "deployment.subnet: no subnet", "deployment.registries[0].server: no image", "deployment.registries[0]: one of"}},
		"replicas": {func(s *Specification) {
			s.DataSources[0].Name = s.DataSinks[0].Name + "-1"
			s.DataSinks[0].Key.Secret = "https://127.0.0.1:8444/secrets/" + strings.Repeat("a", 126)
			s.Deployment = &Deployment{Replicas: 2}
		}, []string{"datasinks[0].key.secret: does not name a secret", "datasinks[0].name: the name of another volume"}},
		"many replicas": {func(s *Specification) { s.Deployment = &Deployment{Replicas: 600} },
			[]string{"deployment.replicas: that a contract pins"}},
		"replicas that write nothing": {func(s *Specification) { s.DataSinks, s.Deployment = nil, &Deployment{Replicas: 2} },
			[]string{"datasinks: write nothing"}},
		"keys that cannot do it": {func(s *Specification) {
			s.Governance.LedgerKey, s.Governance.Witnesses = verifierKey("ledger.example", 4), []string{verifierKey("witness.example", 1), s.Parties[0].SigningKey}
		}, []string{"governance.ledgerKey: not a public key that signs checkpoints", "governance.witnesses[0]: not a public key that cosigns", "governance.witnesses[1]: not a public key that cosigns"}},
		"certificate of no ledger": {func(s *Specification) { s.Governance.Ledger, s.Governance.LedgerCA = "", "MIIB" },
			[]string{"governance.ledgerCA: there is no ledger", "governance.ledgerCA: it is not a certificate"}},
		"deployed without its ledger": {func(s *Specification) { azure(s); s.Governance.Ledger = "" }, []string{"governance.ledger: would not find its ledger"}},
		"a floor of what is not there": {func(s *Specification) {
			azure(s)
			s.Kind, s.Application.Image = CVM, nil
		}, []string{"attestation.minSVN: kind cvm has no utility VM"}},
		"deployment on aci": {func(s *Specification) {
			azure(s)
			s.Deployment = &Deployment{Subnet: "x", Registries: []Registry{{Server: "registry.example", Secret: "x"}, {Server: "registry.example", Identity: "x"}}}
		}, []string{"deployment.subnet: not the resource id", "deployment.registries[0].secret: no Kubernetes", "deployment.registries[1].server: already credentials", "deployment.registries[1].identity: not among"}},
		"replicas for ever": {func(s *Specification) {
			azure(s)
			s.Kind, s.Application.Restart, s.Deployment = AKS, RestartAlways, &Deployment{Replicas: 2, Registries: []Registry{{Server: "registry.example", Secret: "A b"}}}
		}, []string{"application.restart: until each has ended", "deployment.registries[0].secret: not the name"}},
		"attestation":       {func(s *Specification) { s.Attestation = Attestation{Authority: "http://127.0.0.1", MinSVN: 0} }, []string{"attestation.authority: not https", "attestation.minSVN: not in 1"}},
		"no attestation":    {func(s *Specification) { s.Attestation = Attestation{} }, []string{"attestation.authority: no attestation"}},
		"simulated afar":    {func(s *Specification) { s.Attestation.Authority = "https://sharedneu.neu.attest.azure.net" }, []string{"attestation.authority: does not fit kind simulated"}},
		"azure on loopback": {func(s *Specification) { azure(s); s.Attestation.Authority = "https://localhost:1" }, []string{"attestation.authority: does not fit kind aci"}},
		"transparency": {func(s *Specification) {
			s.Attestation.TransparencyKeys = []string{transparencyKey, signingKey(t, 1), transparencyKey}
		}, []string{"attestation.transparencyKeys[1]: does not serve", "attestation.transparencyKeys[2]: this key"}},
		"old SVN on a real kind": {func(s *Specification) { azure(s); s.Attestation.MinSVN = 99 }, []string{"attestation.minSVN: 99 is not in 100"}},
		"too many":               {func(s *Specification) { s.Application.Command = slices.Repeat([]string{"/x"}, 300) }, []string{"application.command: 300 entries"}},
	} {
		s := example(t)
		tc.change(&s)
		err := s.Validate()
		var problems Problems
		if errors.As(err, &problems) && fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: kind %v", name, fault.KindOf(err))
		}
		if len(problems) != len(tc.want) {
			t.Errorf("%s: got\n%v\nwant %q", name, err, tc.want)
			continue
		}
		for i, want := range tc.want {
			path, reason, _ := strings.Cut(want, ": ")
			if problems[i].Path != path || !strings.Contains(problems[i].Reason, reason) {
				t.Errorf("%s: got %q, want %q", name, problems[i], want)
			}
			if problems[i].Remedy == "" {
				t.Errorf("%s: %s has no remedy", name, path)
			}
		}
	}
}

func TestZeroIsInvalid(t *testing.T) {
	if err := (Specification{}).Validate(); err == nil {
		t.Error("the zero specification is valid")
	}
}

func TestCanonical(t *testing.T) {
	s := example(t)
	canonical, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(canonical, []byte(`{"apiVersion":"cloister/v1","application":{"command":["/usr/bin/count","--all","/mnt/data"],"environment":{"A":"1 < 2","B":"2"},`)) {
		t.Errorf("canonical form: %s", canonical)
	}
	back, err := ParseCanonical(canonical)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := back.Canonical(); !bytes.Equal(again, canonical) {
		t.Errorf("round trip:\n%s\n%s", canonical, again)
	}
	digest, err := s.Digest()
	if err != nil || digest != DigestOf(canonical) || !strings.HasPrefix(digest, "sha256:") || len(digest) != 71 {
		t.Errorf("digest %s, %v", digest, err)
	}
	plain := sha256.Sum256(canonical)
	if digest == "sha256:"+hex.EncodeToString(plain[:]) {
		t.Error("the digest has no prefix that sets it apart")
	}
}

func TestDigestIsOfTheMeaning(t *testing.T) {
	want, err := example(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	same := example(t)
	slices.Reverse(same.Parties)
	slices.Reverse(same.Governance.Witnesses)
	same.Identities = append([]Identity{}, same.Identities...)
	before := slices.Clone(same.Parties)
	if got, _ := same.Digest(); got != want {
		t.Error("the order of parties changes the digest")
	}
	if !reflect.DeepEqual(before, same.Parties) {
		t.Error("Digest reordered the caller's specification")
	}
	whole := example(t)
	distributed(&whole)
	wantWhole, _ := whole.Digest()
	slices.Reverse(whole.Application.Ports)
	slices.Reverse(whole.Network.Allow)
	if got, _ := whole.Digest(); got != wantWhole {
		t.Error("the order of ports or destinations changes the digest")
	}
	for name, change := range map[string]func(*Specification){
		"name":        func(s *Specification) { s.Name = "other" },
		"command":     func(s *Specification) { slices.Reverse(s.Application.Command) },
		"environment": func(s *Specification) { s.Application.Environment["A"] = "2" },
		"user":        func(s *Specification) { s.Application.User = nil },
		"sink":        func(s *Specification) { s.DataSinks[0].Recipients = nil },
		"binary":      func(s *Specification) { s.Runtime.Binary = "sha256:" + strings.Repeat("ac", 32) },
		"witness":     func(s *Specification) { s.Governance.Witnesses = s.Governance.Witnesses[:1] },
		"svn":         func(s *Specification) { s.Attestation.MinSVN = 2 },
	} {
		s := example(t)
		change(&s)
		if got, _ := s.Digest(); got == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func TestParseCanonicalRefuses(t *testing.T) {
	good, err := example(t).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		out := strings.Replace(string(good), old, new, 1)
		if out == string(good) {
			t.Fatalf("%q is not in the canonical form", old)
		}
		return out
	}
	for _, tc := range []struct{ in, text string }{
		{"", "EOF"},
		{" " + string(good), "not in canonical form"},
		{string(good) + "\n", "not in canonical form"},
		{string(good) + "{}", "not in canonical form"},
		{replace(`{"apiVersion"`, `{"apiVersion":"cloister/v1","apiVersion"`), "not in canonical form"},
		{replace(`"kind"`, `"Kind"`), "not in canonical form"},
		{replace(`{"apiVersion"`, `{"aaa":1,"apiVersion"`), "unknown field"},
		{replace(`"simulated"`, `"aci"`), "needs an image"},
		{replace(`"closed"`, `7`), "cannot unmarshal"},
		{`{}`, "not in canonical form"},
		{strings.Repeat(" ", MaxSize+1), "more than"},
	} {
		_, err := ParseCanonical([]byte(tc.in))
		if err == nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("ParseCanonical(%.60q) = %v; want a refusal with %q", tc.in, err, tc.text)
		}
	}
}

func TestFingerprint(t *testing.T) {
	p := example(t).Parties[0]
	got, err := p.Fingerprint()
	der, _ := base64.StdEncoding.DecodeString(p.SigningKey)
	sum := sha256.Sum256(der)
	if err != nil || got != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("Fingerprint = %s, %v", got, err)
	}
	if _, err := (Party{Name: "x", SigningKey: "?"}).Fingerprint(); err == nil {
		t.Error("a fingerprint of no key")
	}
}

// FuzzParseCanonical holds: what is accepted is valid and has exactly one
// encoding, the accepted one.
func FuzzParseCanonical(f *testing.F) {
	good, err := example(f).Canonical()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	whole := example(f)
	distributed(&whole)
	if good, err = whole.Canonical(); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseCanonical(data)
		if err != nil {
			return
		}
		again, err := s.Canonical()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted %q, which encodes as %q (%v)", data, again, err)
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
