//go:build !production

package kbs_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cloister/enclave/envelope"
	"cloister/enclave/kbs"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
	"cloister/prep/provision"
)

// Challenge, evidence, session, wrapped DEK, KEK, unwrapping and check value,
// all through production code and over TLS; and nothing is asked of the broker
// before its record is accepted.
func TestKeysInHand(t *testing.T) {
	for _, version := range []uint32{3, 5} {
		w := newWorld(t, platform.GuestConfig{ReportVersion: version})
		l, mounted, err := w.open(t, w.source(t))
		if err != nil {
			t.Fatalf("report version %d: %v", version, err)
		}
		if mounted["sales"] != string(w.dek.Bytes()) {
			t.Error("another DEK came out")
		}
		v := w.plan.Data[0]
		bare := func(address string) string { return strings.TrimPrefix(address, "https://") }
		path := func(address string) string { return strings.TrimPrefix(address, w.cloud.Endpoints().Broker) }
		want := []string{
			"consent starting app", "wrapped-dek " + bare(v.WrappedDEK),
			"  POST /kbs/v0/auth 200", "  POST /kbs/v0/attest 200", "  GET " + path(v.WrappedDEK) + " 200",
			"kek " + bare(v.KEK),
			"consent releasing the KEK of sales",
			"  GET " + path(v.KEK) + " 200",
			"data sales", "consent executing app", "execution app",
		}
		if !slices.Equal(l.events, want) {
			t.Errorf("the record is\n%s\nwant\n%s", strings.Join(l.events, "\n"), strings.Join(want, "\n"))
		}
	}
}

// badGuests are all that the simulated platform plays.
var badGuests = []struct {
	name  string
	guest platform.GuestConfig
	own   string // the check by which the machine refuses itself
	kbs   string // what the broker says where the machine does not; "" where it cannot know
}{
	{"debug", platform.GuestConfig{Debug: true}, "debugging: expected false, got true", "debugging: expected false, got true"},
	{"migration", platform.GuestConfig{Migration: true}, "migration: expected false, got true", "migration: expected false, got true"},
	{"VMPL 2", platform.GuestConfig{VMPL: 2}, "VMPL: expected 0, got 2", "VMPL: expected 0, got 2"},
	{"asked for by the host", platform.GuestConfig{VMPL: 0xffffffff}, "VMPL: expected 0, got 4294967295", "VMPL: expected 0, got"},
	{"host data", platform.GuestConfig{WrongHostData: true}, "host data: expected ", "PolicyDeny"},
	{"measurement", platform.GuestConfig{WrongMeasurement: true}, "launch measurement: expected ", "launch measurement: expected "},
	{"old TCB", platform.GuestConfig{OldTCB: true}, "reported TCB: expected at least ", "reported TCB: expected at least "},
	{"stale certificates", platform.GuestConfig{StaleCertificates: true}, "certificate's TCB: expected ", "certificate's TCB: expected "},
	{"replay", platform.GuestConfig{Replay: true}, "report data: expected ", "report data: expected "},
	// These two are the utility VM's endorsement and the platform's list, which
	// the protocol's evidence has no place for.
	{"low SVN", platform.GuestConfig{LowSVN: true}, "UVM SVN: expected at least 100, got 22", ""},
	{"revoked", platform.GuestConfig{Revoked: true}, "revocation: expected no certificate on a current list", ""},
}

// Every bad guest refuses itself before the broker sees anything of it.
func TestBadGuestsRefuseThemselves(t *testing.T) {
	for _, tc := range badGuests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.guest)
			l, mounted, err := w.open(t, w.source(t))
			if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "the attestation evidence is refused: ") || !strings.Contains(err.Error(), tc.own) {
				t.Errorf("got %v (%v)", err, fault.KindOf(err))
			}
			if len(mounted) > 0 || !strings.HasPrefix(l.events[len(l.events)-1], "refusal ") {
				t.Errorf("mounted %d, record %q", len(mounted), l.events)
			}
			for _, e := range l.events {
				if strings.HasPrefix(e, "  ") && e != "  POST /kbs/v0/auth 200" {
					t.Errorf("the broker was asked: %s", e)
				}
			}
		})
	}
}

// A bad guest without scruples is refused by the broker, by name.
func TestBadGuestsAreRefusedByTheBroker(t *testing.T) {
	for _, tc := range badGuests {
		if tc.kbs == "" {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.guest)
			got, err := w.client(t, w.cloud.Endpoints().Broker, w.unjudged).Resource(t.Context(), w.plan.Data[0].KEK)
			if fault.KindOf(err) != fault.Refused || got != nil || len(fault.Hints(err)) == 0 {
				t.Fatalf("got %v (%v)", err, fault.KindOf(err))
			}
			name := "AttestationError"
			if tc.kbs == "PolicyDeny" {
				name = tc.kbs
			}
			if !strings.Contains(err.Error(), "HTTP 401, "+name+": ") {
				t.Errorf("not by name: %v", err)
			}
			notes := string(w.log(t))
			if last := notes[strings.LastIndex(notes, `"service":"broker"`):]; !strings.Contains(last, tc.kbs) {
				t.Errorf("the broker's reason is %s, want %q", last, tc.kbs)
			}
		})
	}
}

// One byte of the container policy: the guest is sound, but not the agreed one.
func TestAnotherContainerPolicy(t *testing.T) {
	changed := append([]byte(nil), containerPolicy...)
	changed[len(changed)-3] ^= 1
	w := newWorld(t, platform.GuestConfig{Policy: changed})
	_, mounted, err := w.open(t, w.source(t))
	if fault.KindOf(err) != fault.Refused || len(mounted) > 0 || !strings.Contains(err.Error(), "refuses by its policy: HTTP 401, PolicyDeny") {
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
		{"another KEK", func(w *world) { w.plan.Data[0].KEK += "x" }, fault.Refused, "and the specification names"},
		{"KEK and envelope exchanged", func(w *world) { v := &w.plan.Data[0]; v.KEK, v.WrappedDEK = v.WrappedDEK, v.KEK }, fault.Refused, "the wrapped DEK is not an envelope"},
		{"a resource that is not admitted", func(w *world) { w.plan.Data[0].WrappedDEK += "x" }, fault.Refused, "PolicyDeny"},
		{"another broker's resource", func(w *world) { w.plan.Data[0].WrappedDEK = "https://127.0.0.1:1/kbs/v0/resource/a/b/c" }, fault.Usage, "is not a resource of the key broker"},
		{"out of the resources", func(w *world) { w.plan.Data[0].WrappedDEK += "/../../../auth" }, fault.Usage, "is not a resource of the key broker"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, platform.GuestConfig{})
			tc.change(w)
			_, mounted, err := w.open(t, w.source(t))
			if fault.KindOf(err) != tc.kind || len(mounted) > 0 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tc.kind, tc.want)
			}
		})
	}
}

// A resource that is admitted and was never placed.
func TestNoSuchResource(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	if err := w.cloud.Admit(containerPolicy, []string{"nobody/has/it"}); err != nil {
		t.Fatal(err)
	}
	_, err := w.client(t, w.cloud.Endpoints().Broker, w.judged).Resource(t.Context(), kbs.Address(w.cloud.Endpoints().Broker, "nobody/has/it"))
	if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "PluginInternalError") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

// Somebody who may write at the broker puts in keys of their own: they open, and
// the check value is not the contract's.
func TestSubstitutedKeys(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	other, err := envelope.NewDEK(make([]byte, envelope.DEKSize))
	if err != nil {
		t.Fatal(err)
	}
	keys := w.keys
	keys.DEK = other
	if err := provision.ApplyBroker(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if _, mounted, err := w.open(t, w.source(t)); fault.KindOf(err) != fault.Refused || len(mounted) > 0 || !strings.Contains(err.Error(), "is not the one agreed: check value") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
	// A KEK of a second owner's doing under the first one's envelope.
	if err := provision.ApplyBroker(t.Context(), w.keys); err != nil {
		t.Fatal(err)
	}
	keys.Resource += "-other"
	if err := provision.ApplyBroker(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if _, mounted, err := w.open(t, w.source(t)); fault.KindOf(err) != fault.Refused || len(mounted) > 0 || !strings.Contains(err.Error(), "does not open with the released KEK") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

// A session that ran out between the wrapped DEK and the KEK is made anew, with
// a report and a key of its own; one that is refused again is not tried for ever.
func TestExpiredSession(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	s := w.source(t)
	defer w.cloud.SetFault(localcloud.Broker, wire.Fault{})
	wrapped, err := s.WrappedDEK(t.Context(), w.plan.Data[0])
	if err != nil {
		t.Fatal(err)
	}
	before := len(w.requests(t))
	if err := w.cloud.SetFault(localcloud.Broker, wire.Fault{ClockSkew: 11 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	kek, err := s.Release(t.Context(), w.plan.Data[0], wrapped)
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Destroy()
	if dek, err := kek.Unwrap(wrapped, w.plan.Data[0].Key); err != nil || string(dek.Bytes()) != string(w.dek.Bytes()) {
		t.Errorf("unwrapping: %v", err)
	}
	path := strings.TrimPrefix(w.plan.Data[0].KEK, w.cloud.Endpoints().Broker)
	if got, want := w.requests(t)[before:], []string{"GET " + path + " 401", "POST /kbs/v0/auth 200", "POST /kbs/v0/attest 200", "GET " + path + " 200"}; !slices.Equal(got, want) {
		t.Errorf("the broker was asked %q, want %q", got, want)
	}
}

// A broker that is busy is asked again, one that stays so is said to be away.
func TestBusyBroker(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	defer w.cloud.SetFault(localcloud.Broker, wire.Fault{})
	if err := w.cloud.SetFault(localcloud.Broker, wire.Fault{Status: 503, Times: 1}); err != nil {
		t.Fatal(err)
	}
	c, err := kbs.New(kbs.Options{URL: w.cloud.Endpoints().Broker, Roots: w.roots, Prove: w.judged})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Attest(t.Context()); err != nil {
		t.Errorf("after one 503: %v", err)
	}
	if err := w.cloud.SetFault(localcloud.Broker, wire.Fault{Status: 429, Times: 100, RetryAfter: 1}); err != nil {
		t.Fatal(err)
	}
	away, err := kbs.New(kbs.Options{URL: w.cloud.Endpoints().Broker, Roots: w.roots, Prove: w.judged, Deadline: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	if err := away.Attest(t.Context()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

// A broker under another root is not spoken to.
func TestPinnedRoot(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	c, err := kbs.New(kbs.Options{URL: w.cloud.Endpoints().Broker, Prove: w.judged})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := len(w.requests(t))
	if err := c.Attest(t.Context()); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
	if len(w.requests(t)) != before {
		t.Error("it was asked")
	}
}

// Without the administrator's token nothing is placed.
func TestPlacingNeedsTheToken(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	token, err := provision.NewBrokerToken([]byte("not-a-token\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.keys.Token = token
	if err := provision.ApplyBroker(t.Context(), w.keys); fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "AdminAuthAccess") || strings.Contains(err.Error(), "not-a-token") {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
	for _, bad := range []string{"", " \n", "a b", "a\x00", "a\nb"} {
		if _, err := provision.NewBrokerToken([]byte(bad)); err == nil {
			t.Errorf("the token %q is accepted", bad)
		}
	}
}

func TestClosedSource(t *testing.T) {
	w := newWorld(t, platform.GuestConfig{})
	s := w.source(t)
	s.Close()
	if _, err := s.WrappedDEK(t.Context(), w.plan.Data[0]); err == nil || !strings.Contains(err.Error(), "is closed") {
		t.Errorf("a closed source: %v", err)
	}
}
