//go:build !production

package kbs_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/enclave"
	"cloister/enclave/envelope"
	"cloister/enclave/kbs"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/cloudtest"
	"cloister/internal/localcloud/platform"
	"cloister/prep/provision"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

var containerPolicy = cloudtest.ContainerPolicy

// world is a broker, a guest and keys placed for that guest.
type world struct {
	cloud *localcloud.Cloud
	roots *x509.CertPool
	guest string // its directory
	dek   *envelope.DEK
	keys  provision.BrokerKeys
	plan  enclave.Plan
}

var worlds = 0 // each has resources of its own at the one broker

func newWorld(t testing.TB, guest platform.GuestConfig) *world {
	t.Helper()
	cloud, roots := cloudtest.Cloud(t)
	w := &world{cloud: cloud, roots: roots, guest: cloudtest.Guest(t, cloud, guest)}
	w.provision(t)
	return w
}

// provision plays the owner, who places the keys, and the broker's operator, who
// admits the agreed container.
func (w *world) provision(t testing.TB) {
	t.Helper()
	worlds++
	e := w.cloud.Endpoints()
	text, err := os.ReadFile(e.BrokerToken)
	if err != nil {
		t.Fatal(err)
	}
	token, err := provision.NewBrokerToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if w.dek, err = envelope.NewDEK(slices.Repeat([]byte{0xd5}, envelope.DEKSize)); err != nil {
		t.Fatal(err)
	}
	id := [16]byte{0xa1}
	w.keys = provision.BrokerKeys{URL: e.Broker, Roots: w.roots, Token: token, VolumeID: id, KeyVersion: 1, DEK: w.dek,
		KEK: fmt.Sprintf("hospital/kek/sales-%d", worlds), Resource: fmt.Sprintf("hospital/wrapped-dek/sales-%d", worlds)}
	if err := provision.ApplyBroker(t.Context(), w.keys); err != nil {
		t.Fatal(err)
	}
	if err := w.cloud.Admit(containerPolicy, []string{w.keys.KEK, w.keys.Resource}); err != nil {
		t.Fatal(err)
	}
	w.plan = enclave.Plan{Application: "app", Data: []enclave.Volume{{
		Name:       "sales",
		Key:        envelope.Expected{VolumeID: id, KeyVersion: 1, CheckValue: envelope.CheckValue(w.dek.Bytes(), id)},
		WrappedDEK: kbs.Address(e.Broker, w.keys.Resource), KEK: kbs.Address(e.Broker, w.keys.KEK),
	}}}
}

// requirements are what the runtime demands of its machine.
var requirements = snp.Requirements{
	SMT: snp.SMTAllowed, MinTCB: snp.Floors{snp.Milan: {Bootloader: 4, SNP: 24, Microcode: 219}}, MinUVMSVN: 100,
}

// judged is how a machine proves itself, to itself first.
func (w *world) judged(ctx context.Context, about snp.Statement) (*snp.Evidence, error) {
	e, _, err := snp.Prove(ctx, simulated.New(w.guest), requirements, about)
	return e, err
}

// unjudged is how a machine would that has no scruples.
func (w *world) unjudged(ctx context.Context, about snp.Statement) (*snp.Evidence, error) {
	return snp.Collect(ctx, simulated.New(w.guest), about)
}

// client is the runtime's, to the cloud's broker or to what stands before it.
func (w *world) client(t testing.TB, url string, prove func(context.Context, snp.Statement) (*snp.Evidence, error)) *kbs.Client {
	t.Helper()
	c, err := kbs.New(kbs.Options{URL: url, Roots: w.roots, Prove: prove, Retry: policy.RetryOptions{MaxRetries: -1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// source is the runtime's, from production parts.
func (w *world) source(t testing.TB) *kbs.Source {
	return kbs.NewSource(map[string]*kbs.Client{"sales": w.client(t, w.cloud.Endpoints().Broker, w.judged)})
}

// ledger consents to everything and keeps the record, and what the broker had
// been asked by then.
type ledger struct {
	events []string
	asked  func() []string
}

func (l *ledger) Record(_ context.Context, events ...enclave.Event) (int, error) {
	for _, path := range l.asked() {
		l.events = append(l.events, "  "+path)
	}
	for _, e := range events {
		if e.Kind == enclave.EventConsent {
			l.events = append(l.events, "consent "+e.Name)
		} else {
			l.events = append(l.events, strings.TrimSpace(e.Kind+" "+strings.ReplaceAll(e.Name, "https://", "")))
		}
	}
	return len(events), nil
}

// open goes from nothing to a mounted volume.
func (w *world) open(t testing.TB, keys enclave.KeySource) (*ledger, map[string]string, error) {
	t.Helper()
	seen := len(w.requests(t))
	l := &ledger{asked: func() []string {
		all := w.requests(t)
		fresh := all[seen:]
		seen = len(all)
		return fresh
	}}
	mounted := map[string]string{}
	gate := &enclave.Gate{
		Governance: l, Keys: keys,
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

// requests is what the broker was asked, from the cloud's own log: method, path,
// status.
func (w *world) requests(t testing.TB) (all []string) {
	t.Helper()
	for line := range bytes.Lines(w.log(t)) {
		var method, path string
		var status int
		if _, rest, ok := strings.Cut(string(line), `"service":"broker","method":"`); ok {
			rest = strings.NewReplacer(`","path":"`, " ", `","status":`, " ", ",", " ").Replace(rest)
			if _, err := fmt.Sscan(rest, &method, &path, &status); err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(method, " ", path, " ", status))
		}
	}
	return all
}

func (w *world) log(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(w.cloud.Endpoints().CA), localcloud.RequestsFile))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// forms are the ways in which bytes might be written.
func forms(secret []byte) [][]byte {
	return [][]byte{secret, fmt.Appendf(nil, "%x", secret), []byte(base64.StdEncoding.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret))}
}
