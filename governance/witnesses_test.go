package governance

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloister/governance/statement"
	"cloister/internal/fault"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// cosigner is a witness that signs anything, at any time. It makes cosignatures
// from the text of C2SP tlog-cosignature, so it also judges the library.
type cosigner struct {
	name, vkey string
	hash       uint32
	key        ed25519.PrivateKey
}

func newCosigner(t failer, name string) cosigner {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	vkey, err := fnote.VKeyToCosignatureV1(public)
	if err != nil {
		t.Fatalf("%v", err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(secret, "+", 5)[4])
	if err != nil {
		t.Fatalf("%v", err)
	}
	verifier, err := ParseWitnessKey(vkey)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return cosigner{name, vkey, verifier.KeyHash(), ed25519.NewKeyFromSeed(raw[1:])}
}

func (c cosigner) at(signed []byte, when time.Time) []byte {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	sig := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, c.hash), uint64(when.Unix()))
	sig = append(sig, ed25519.Sign(c.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", when.Unix(), text))...)
	return append(append([]byte(nil), signed...), fmt.Sprintf("— %s %s\n", c.name, base64.StdEncoding.EncodeToString(sig))...)
}

func TestCosignedRefuses(t *testing.T) {
	log := newMemLog(t)
	one, two, stranger := newCosigner(t, "w.one"), newCosigner(t, "w.two"), newCosigner(t, "w.two")
	now := time.Now()
	signed := log.sign(nil)
	both := one.at(two.at(signed, now), now.Add(-time.Hour))
	for _, tc := range []struct {
		name      string
		signed    []byte
		threshold uint32
		want      string // "" where it is taken
	}{
		{"all, none", signed, 0, "of 0 witnesses, 2 are needed"},
		{"all, one", one.at(signed, now), 0, "of 1 witnesses, 2 are needed"},
		{"all, both", both, 0, ""},
		{"one of two, one", one.at(signed, now), 1, ""},
		{"one of two, none", signed, 1, "of 0 witnesses, 1 are needed"},
		{"one twice", one.at(one.at(signed, now), now), 0, "of 1 witnesses, 2 are needed"},
		{"a stranger of that name", stranger.at(one.at(signed, now), now), 0, "of 1 witnesses, 2 are needed"},
		{"of another checkpoint", append(append([]byte(nil), signed...), lastLine(one.at(log.sign([][]byte{{1}}), now))...), 1, "invalid signature"},
		{"another time than signed", retimed(one.at(signed, now)), 1, "invalid signature"},
		{"from the future", one.at(signed, now.Add(time.Hour)), 1, "ahead of this machine's clock"},
		{"somewhat ahead", one.at(signed, now.Add(maxAhead/2)), 1, ""},
		{"three of two", both, 3, "3 of 2 witnesses cannot cosign"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Witnesses{Keys: []string{one.vkey, two.vkey}, Threshold: tc.threshold}.Cosigned(tc.signed)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if at, err := (Witnesses{Keys: []string{one.vkey, two.vkey}}).Cosigned(both); err != nil || at.Unix() != now.Unix() {
		t.Errorf("the floor of time is %v, %v", at, err)
	}
}

func lastLine(signed []byte) string {
	lines := strings.SplitAfter(string(signed), "\n")
	return lines[len(lines)-2]
}

// retimed changes the time in the last signature, which is what a ledger would do.
func retimed(signed []byte) []byte {
	line := lastLine(signed)
	fields := strings.Fields(line)
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		panic(err)
	}
	raw[11]++
	changed := fields[0] + " " + fields[1] + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
	return []byte(strings.Replace(string(signed), line, changed, 1))
}

func TestWitnessKeysAreOfCosignatures(t *testing.T) {
	one := newCosigner(t, "w.one")
	renamed, err := note.NewEd25519VerifierKey("w.other", one.key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	same, err := fnote.VKeyToCosignatureV1(renamed)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]string{
		"type must be 4":                 {newMemLog(t).key},
		"not the key of a witness":       {"nonsense"},
		"its hash is":                    {strings.Replace(one.vkey, "w.one", "w.two", 1)},
		"has the key of another witness": {one.vkey, same},
	} {
		_, err := Witnesses{Keys: keys, Threshold: 1}.Cosigned(nil)
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// TestConsentExpiresByTheWitnessesTime has the enclave's clock five minutes late:
// by it, and by every time that a statement names, consent holds for two more.
func TestConsentExpiresByTheWitnessesTime(t *testing.T) {
	w := newWorld(t, "alice")
	l := newMemLog(t)
	one := newCosigner(t, "w.one")
	ahead := time.Duration(0)
	cosign := func(signed []byte) []byte { return one.at(signed, time.Now().Add(ahead)) }
	l.checkpoint = cosign
	l.receipt = func(r Receipt) Receipt { r.Checkpoint = cosign(r.Checkpoint); return r }
	l.put(t, w.accepted("alice")...)
	until := statement.NewTime(time.Now().Add(2 * time.Minute))
	l.put(t, w.by("alice", 1, &statement.ConsentGrant{Scopes: execution(), Expires: &until}))
	trust := Trust{Ledger: l.key, Witnesses: Witnesses{Keys: []string{one.vkey}}, Specification: digestA, ContainerPolicy: digestA,
		Parties: []string{w.keys["alice"].Public().Fingerprint()}}
	r, err := Begin(t.Context(), l, trust, attest)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckConsent(t.Context(), statement.ScopeExecution, "a step"); err != nil {
		t.Fatal(err)
	}
	ahead = 5 * time.Minute
	err = r.CheckConsent(t.Context(), statement.ScopeExecution, "a step")
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "at the witnesses' time") || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}
