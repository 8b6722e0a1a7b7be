//go:build !production

package azurekeys_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/enclave"
	"cloister/enclave/attest"
	"cloister/enclave/azure"
	"cloister/enclave/azurekeys"
	"cloister/enclave/envelope"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/vault"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/cloudtest"
	"cloister/internal/localcloud/platform"
	"cloister/policy/release"
	"cloister/prep/provision"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

var containerPolicy = cloudtest.ContainerPolicy

// world is a cloud, a guest in it and keys provisioned for that guest.
type world struct {
	cloud *localcloud.Cloud
	roots *x509.CertPool
	guest string // its directory
	vm    bool   // it is a confidential VM
	dek   *envelope.DEK
	plan  enclave.Plan
}

func newWorld(t testing.TB, guest platform.GuestConfig) *world {
	t.Helper()
	cloud, roots := cloudtest.Cloud(t)
	w := &world{cloud: cloud, roots: roots, guest: cloudtest.Guest(t, cloud, guest), vm: guest.VM}
	w.provision(t)
	return w
}

func (w *world) clientOptions() policy.ClientOptions {
	return policy.ClientOptions{Transport: azure.NewTransport(w.roots), Retry: policy.RetryOptions{MaxRetries: -1}}
}

// agreed is the release policy for the container the parties agreed on.
func (w *world) agreed(t testing.TB) release.Policy {
	r := release.Requirements{
		Authority: w.cloud.Endpoints().Attestation, Platform: release.SimulatedSNP,
		HostData: (&snp.SecurityContext{Policy: containerPolicy}).HostData(), MinGuestSVN: 2,
	}
	if w.vm {
		r.Platform, r.HostData = release.AnySimulatedCVM, [32]byte{}
	}
	p, err := release.New(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// as makes the environment that of an identity of the cloud with a federated
// token, as Kubernetes does for a workload.
func (w *world) as(t testing.TB, name string) azure.Identity {
	id, err := w.cloud.AddIdentity(name)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.cloud.FederatedToken(name)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	e := w.cloud.Endpoints()
	return azure.Identity{ClientID: id.ClientID, TenantID: e.Tenant, AuthorityHost: e.Authority, PrivateCloud: true, Transport: azure.NewTransport(w.roots)}
}

// provision plays the owner.
func (w *world) provision(t testing.TB) {
	t.Helper()
	cred, err := w.as(t, "owner").Credential()
	if err != nil {
		t.Fatal(err)
	}
	client := provision.New(provision.Options{Credential: cred, Client: w.clientOptions(), PrivateCloud: true})
	name := "k" + strings.ReplaceAll(filepath.Base(w.guest), "guest", "")
	e := w.cloud.Endpoints()
	kek, err := client.ApplyKEK(t.Context(), provision.KEK{Vault: e.HSM, Name: name, Policy: w.agreed(t), Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	w.dek, err = envelope.NewDEK(slices.Repeat([]byte{0xd5}, envelope.DEKSize))
	if err != nil {
		t.Fatal(err)
	}
	id := [16]byte{0xa1}
	dek, err := client.ApplyDEK(t.Context(), provision.WrappedDEK{Vault: e.Vault, Name: name, VolumeID: id, KeyVersion: 1, DEK: w.dek}, kek)
	if err != nil {
		t.Fatal(err)
	}
	if !kek.Changed || !dek.Changed {
		t.Error("nothing was provisioned")
	}
	w.plan = enclave.Plan{Application: "app", Data: []enclave.Volume{{
		Name:       "sales",
		Key:        envelope.Expected{VolumeID: id, KeyVersion: 1, CheckValue: envelope.CheckValue(w.dek.Bytes(), id)},
		WrappedDEK: e.Vault + "/secrets/" + name, KEK: e.HSM + "/keys/" + name, ReleasePolicy: w.agreed(t),
	}}}
}

// requirements are what the runtime demands of its machine.
var requirements = azurekeys.Requirements{
	SMT: snp.SMTAllowed, MinTCB: snp.Floors{snp.Milan: {Bootloader: 4, SNP: 24, Microcode: 219}}, MinUVMSVN: 100,
}

// source is the runtime's, from production parts.
func (w *world) source(t testing.TB, id azure.Identity, require azurekeys.Requirements) *azurekeys.Source {
	t.Helper()
	cred, err := id.Credential()
	if err != nil {
		t.Fatal(err)
	}
	a, err := attest.New(attest.Options{Authority: w.cloud.Endpoints().Attestation, Skew: time.Minute, Client: w.clientOptions()})
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(vault.Options{Credential: cred, Client: w.clientOptions(), Roots: w.roots, PrivateCloud: true})
	s := azurekeys.New(simulated.New(w.guest), require, a, func(string) (*vault.Client, error) { return v, nil })
	t.Cleanup(s.Close)
	return s
}

// ledger consents to everything and keeps the record.
type ledger struct {
	events  []string
	appends int
	toKeys  int       // appends until all keys of the last stage were in hand
	keysAt  time.Time // then
}

func (l *ledger) Record(_ context.Context, events ...enclave.Event) (int, error) {
	// Accesses to data are recorded when the keys that open it are there.
	if events[0].Kind == enclave.EventData {
		l.toKeys, l.keysAt = l.appends, time.Now()
	}
	l.appends++
	for _, e := range events {
		if e.Kind == enclave.EventConsent {
			l.events = append(l.events, "consent "+e.Name)
		} else {
			l.events = append(l.events, e.Kind)
		}
	}
	return len(events), nil
}

// open goes from the environment's identity to a mounted volume.
func (w *world) open(t testing.TB, s *azurekeys.Source) (*ledger, map[string]string, error) {
	t.Helper()
	l, mounted := &ledger{}, map[string]string{}
	gate := &enclave.Gate{
		Governance: l, Keys: s,
		Mount: func(_ context.Context, volumes []enclave.Opened) error {
			for _, v := range volumes {
				mounted[v.Name] = string(v.DEK.Bytes())
			}
			return nil
		},
		Start: func(context.Context) error { return nil },
	}
	defer gate.Close()
	err := gate.Open(t.Context(), w.plan)
	return l, mounted, err
}

// requests counts what a service has been asked, from the cloud's own log.
func (w *world) requests(t testing.TB, service string) int {
	t.Helper()
	return w.count(t, `"service":"`+service+`"`)
}

func (w *world) releases(t testing.TB) int { return w.count(t, "/release\"") }

func (w *world) count(t testing.TB, what string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(w.cloud.Endpoints().CA), localcloud.RequestsFile))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, what) {
			n++
		}
	}
	return n
}
