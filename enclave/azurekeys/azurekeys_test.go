//go:build !production

package azurekeys_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/enclave/azure"
	"cloister/enclave/azurekeys"
	"cloister/enclave/envelope"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
	"cloister/policy/release"
	"cloister/prep/provision"
)

// Identity, wrapped DEK, evidence, token, release, unwrapping and check value,
// all through production code and over TLS.
func TestKeysInHand(t *testing.T) {
	for _, version := range []uint32{2, 3, 5} {
		w := newWorld(t, platform.GuestConfig{ReportVersion: version})
		s := w.source(t, w.as(t, "runtime"), requirements)
		l, mounted, err := w.open(t, s)
		if err != nil {
			t.Fatalf("report version %d: %v", version, err)
		}
		if mounted["sales"] != string(w.dek.Bytes()) {
			t.Error("another DEK came out")
		}
		want := []string{"consent starting app", "wrapped-dek", "kek", "consent releasing the KEK of sales", "data", "consent executing app", "execution"}
		if !slices.Equal(l.events, want) {
			t.Errorf("the record is %q", l.events)
		}
		if r := s.Evidence(); r == nil || r.Platform != "simulated" || r.Report.Version != version || r.UVMSVN < 100 {
			t.Errorf("the evidence is %+v", r)
		}
	}
}

// A container group has a managed identity instead.
func TestKeysWithAManagedIdentity(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	id, err := w.cloud.AddIdentity("runtime")
	if err != nil {
		t.Fatal(err)
	}
	e := w.cloud.Endpoints()
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	t.Setenv("IDENTITY_ENDPOINT", e.IdentityEndpoint)
	t.Setenv("IDENTITY_HEADER", e.IdentityHeader.Reveal())
	s := w.source(t, azure.Identity{ClientID: id.ClientID, Transport: azure.NewTransport(w.roots)}, requirements)
	if _, mounted, err := w.open(t, s); err != nil || len(mounted) != 1 {
		t.Error(err)
	}
}

// checks are all that the runtime makes of its own evidence.
var checks = []string{
	"report format", "signature", "revocation", "processor", "chip id", "certificate's TCB", "committed TCB", "reported TCB",
	"VMPL", "debugging", "migration", "SMT", "host data", "report data",
	"UVM endorsement", "UVM issuer", "UVM feed", "UVM SVN", "launch measurement",
}

// Every bad guest × every check, through the path of production: the runtime
// refuses itself, by exactly the checks that are about what is bad and with
// these words, and nothing reaches the attestation service or a vault.
func TestBadGuestsRefuseThemselves(t *testing.T) {
	for _, tc := range []struct {
		name  string
		guest platform.GuestConfig
		want  map[string]string // by check
	}{
		{"debug", platform.GuestConfig{Debug: true}, map[string]string{"debugging": "expected false, got true"}},
		{"migration", platform.GuestConfig{Migration: true}, map[string]string{"migration": "expected false, got true"}},
		{"VMPL 2", platform.GuestConfig{VMPL: 2}, map[string]string{"VMPL": "expected 0, got 2"}},
		{"asked for by the host", platform.GuestConfig{VMPL: 0xffffffff}, map[string]string{"VMPL": "expected 0, got 4294967295"}},
		{"host data", platform.GuestConfig{WrongHostData: true}, map[string]string{"host data": "expected 3a385f3b"}},
		{"measurement", platform.GuestConfig{WrongMeasurement: true}, map[string]string{"launch measurement": "expected "}},
		{"old TCB", platform.GuestConfig{OldTCB: true}, map[string]string{"reported TCB": "expected at least fmc 0, bootloader 4, tee 0, snp 24, microcode 219, got fmc 0"}},
		{"stale certificates", platform.GuestConfig{StaleCertificates: true}, map[string]string{"certificate's TCB": "expected db18000000000004, got "}},
		{"low SVN", platform.GuestConfig{LowSVN: true}, map[string]string{"UVM SVN": "expected at least 100, got 22"}},
		{"replay", platform.GuestConfig{Replay: true}, map[string]string{"report data": "expected "}},
		{"revoked", platform.GuestConfig{Revoked: true}, map[string]string{"revocation": "expected no certificate on a current list, got SEV-Milan is revoked"}},
		{"nearly everything", platform.GuestConfig{Debug: true, Migration: true, VMPL: 1, WrongHostData: true, WrongMeasurement: true, OldTCB: true, LowSVN: true, Replay: true, Revoked: true},
			map[string]string{"debugging": "", "migration": "", "VMPL": "", "host data": "", "launch measurement": "", "reported TCB": "", "UVM SVN": "", "report data": "", "revocation": ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.guest)
			before := w.requests(t, "attestation") + w.releases(t)
			l, mounted, err := w.open(t, w.source(t, w.as(t, "runtime"), requirements))
			if fault.KindOf(err) != fault.Refused || !strings.HasPrefix(err.Error(), "attesting this machine: the attestation evidence is refused: ") {
				t.Fatalf("got %v (%v)", err, fault.KindOf(err))
			}
			for _, check := range checks {
				text, bad := tc.want[check]
				failed := strings.Contains(err.Error(), " "+check+": expected ")
				if failed != bad || !strings.Contains(err.Error(), check+": "+text) && bad {
					t.Errorf("%s: refused %v, want %v with %q: %v", check, failed, bad, text, err)
				}
			}
			if len(mounted) > 0 || l.events[len(l.events)-1] != "refusal" {
				t.Errorf("mounted %d, record %q", len(mounted), l.events)
			}
			if after := w.requests(t, "attestation") + w.releases(t); after != before {
				t.Errorf("%d requests were made", after-before)
			}
		})
	}
}

// One byte of the container policy: the guest is sound, but not the agreed one,
// and the message says which claim.
func TestAnotherContainerPolicy(t *testing.T) {
	changed := append([]byte(nil), containerPolicy...)
	changed[len(changed)-3] ^= 1
	w := newWorld(t, platform.GuestConfig{Policy: changed})
	_, mounted, err := w.open(t, w.source(t, w.as(t, "runtime"), requirements))
	if fault.KindOf(err) != fault.Refused || len(mounted) > 0 ||
		!strings.Contains(err.Error(), "the vault refuses: key release policy is not met: x-ms-sevsnpvm-hostdata equals") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

// A key that has expired is not a token that is refused: the message says which,
// and once the vault is in good order again the start succeeds.
func TestExpiredKEK(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	if err := w.cloud.SetFault(localcloud.HSM, wire.Fault{ExpiredKeys: true}); err != nil {
		t.Fatal(err)
	}
	defer w.cloud.SetFault(localcloud.HSM, wire.Fault{})
	_, mounted, err := w.open(t, w.source(t, w.as(t, "runtime"), requirements))
	if fault.KindOf(err) != fault.Refused || len(mounted) > 0 || !strings.Contains(err.Error(), ": the key has expired: ") || !strings.Contains(fault.Hints(err)[0], "renew") {
		t.Errorf("got %v (%v) %q", err, fault.KindOf(err), fault.Hints(err))
	}
	if err := w.cloud.SetFault(localcloud.HSM, wire.Fault{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.open(t, w.source(t, w.as(t, "runtime"), requirements)); err != nil {
		t.Error(err)
	}
}

// The contract's parties agreed on one policy and the KEK's owner made the key
// under another: it is released, and not used.
func TestKEKUnderAnotherPolicy(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	stricter := w.agreed(t)
	stricter.Authorities[0].AllOf = append(slices.Clone(stricter.Authorities[0].AllOf),
		release.Condition{Claim: "x-ms-sevsnpvm-microcode-svn", Operator: release.GreaterOrEquals, Value: release.String("219")})
	w.plan.Data[0].ReleasePolicy = stricter
	_, mounted, err := w.open(t, w.source(t, w.as(t, "runtime"), requirements))
	if fault.KindOf(err) != fault.Refused || len(mounted) > 0 || !strings.Contains(err.Error(), "release policy: expected") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

func TestWhatTheContractPins(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*world)
		kind   fault.Kind
		want   string
	}{
		{"check value", func(w *world) { w.plan.Data[0].Key.CheckValue[0] ^= 1 }, fault.Refused, "the wrapped DEK is not the one agreed: check value"},
		{"volume", func(w *world) { w.plan.Data[0].Key.VolumeID[0] ^= 1 }, fault.Refused, "the wrapped DEK is not the one agreed: volume id"},
		{"key version", func(w *world) { w.plan.Data[0].Key.KeyVersion = 2 }, fault.Refused, "key version 1, expected 2"},
		{"another KEK", func(w *world) { w.plan.Data[0].KEK += "x" }, fault.Refused, "and the contract names"},
		{"no such secret", func(w *world) { w.plan.Data[0].WrappedDEK += "x" }, fault.NotFound, "fetching the wrapped DEK"},
		{"no such key version", func(w *world) { w.plan.Data[0].KEK += "/" + strings.Repeat("0", 32) }, fault.NotFound, "releasing the KEK"},
		{"an address that is none", func(w *world) { w.plan.Data[0].KEK = "kek" }, fault.Usage, "is not the address of a vault's key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, platform.GuestConfig{})
			tc.change(w)
			_, mounted, err := w.open(t, w.source(t, w.as(t, "runtime"), requirements))
			if fault.KindOf(err) != tc.kind || len(mounted) > 0 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tc.kind, tc.want)
			}
		})
	}
}

// A simulated guest is believed only by its own anchors.
func TestSimulatedEvidenceIsNotAMDs(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	s := w.source(t, w.as(t, "runtime"), azurekeys.Requirements{})
	if _, _, err := w.open(t, s); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "SMT: expected unstated") {
		t.Errorf("without requirements: %v", err)
	}
	// The operator's opt-in is the directory's root; without it there is none.
	if err := os.Remove(filepath.Join(w.guest, "amd-root.pem")); err != nil {
		t.Fatal(err)
	}
	s = w.source(t, w.as(t, "runtime"), requirements)
	if _, _, err := w.open(t, s); fault.KindOf(err) != fault.NotFound {
		t.Errorf("without a root: %v", err)
	}
}

func TestServicesThatAreDown(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	s := w.source(t, w.as(t, "runtime"), requirements)
	if err := w.cloud.RemoveGuest(w.guest); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.open(t, s); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("no processor: %v", err)
	}
}

func TestReleaseNeedsAttestation(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	s := w.source(t, w.as(t, "runtime"), requirements)
	if _, err := s.Release(t.Context(), w.plan.Data[0], nil); err == nil {
		t.Error("a KEK is released before attestation")
	}
	s.Close()
	if err := s.Attest(t.Context()); err == nil {
		t.Error("a closed source attests")
	}
}

// The owner applies the same again, and then something else.
func TestProvisioningTwice(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	cred, err := w.as(t, "owner").Credential()
	if err != nil {
		t.Fatal(err)
	}
	client := provision.New(provision.Options{Credential: cred, Client: w.clientOptions(), PrivateCloud: true})
	v := w.plan.Data[0]
	e := w.cloud.Endpoints()
	name := v.KEK[strings.LastIndex(v.KEK, "/")+1:]
	wanted := provision.KEK{Vault: e.HSM, Name: name, Policy: v.ReleasePolicy, Bits: 2048}
	kek, err := client.ApplyKEK(t.Context(), wanted)
	if err != nil || kek.Changed {
		t.Fatalf("the same KEK: %+v, %v", kek, err)
	}
	dek := provision.WrappedDEK{Vault: e.Vault, Name: name, VolumeID: v.Key.VolumeID, KeyVersion: 1, DEK: w.dek}
	if applied, err := client.ApplyDEK(t.Context(), dek, kek); err != nil || applied.Changed {
		t.Errorf("the same DEK: %+v, %v", applied, err)
	}
	wanted.Policy = w.agreed(t)
	wanted.Policy.Authorities[0].AllOf[2].Value = release.String(strings.Repeat("0", 64))
	_, err = client.ApplyKEK(t.Context(), wanted)
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), `has x-ms-sevsnpvm-hostdata equals "`) ||
		!strings.Contains(err.Error(), `lacks x-ms-sevsnpvm-hostdata equals "`+strings.Repeat("0", 64)) {
		t.Errorf("another policy: %v", err)
	}
	other, err := envelope.NewDEK(make([]byte, envelope.DEKSize))
	if err != nil {
		t.Fatal(err)
	}
	dek.DEK = other
	if _, err := client.ApplyDEK(t.Context(), dek, kek); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "holds another DEK") {
		t.Errorf("another DEK: %v", err)
	}
	dek.KeyVersion = 2
	if applied, err := client.ApplyDEK(t.Context(), dek, kek); err != nil || !applied.Changed {
		t.Errorf("a new key version: %+v, %v", applied, err)
	}
}
