package statement

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.UTC)

const (
	hex32 = "00112233445566778899aabbccddeeff"
	hex64 = hex32 + hex32
	dig   = "sha256:" + hex64
)

func testKey(t testing.TB, a Algorithm) *PrivateKey {
	t.Helper()
	key, err := GenerateKey(a)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testContract(t testing.TB) Contract {
	t.Helper()
	return Contract{
		ContainerPolicy: dig, ID: "trial", KeyReleasePolicy: dig, Specification: dig, Version: 1,
		Parties: []Party{
			{Key: testKey(t, P256).Public().SPKI(), Name: "alice", Recovery: testKey(t, Ed25519).Public().SPKI()},
			{Key: testKey(t, Ed25519).Public().SPKI(), Name: "bob", Recipient: []byte("a recipient key")},
		},
		Volumes: []Volume{
			{Kind: SourceVolume, Name: "in", Owner: "alice", Reference: "reference"},
			{Kind: SinkVolume, Name: "out", Owner: "bob", ID: hex32, KeyVersion: 1, Check: hex64, Recipients: []string{dig}},
		},
	}
}

// examples is one statement of each type with every member set.
func examples(t testing.TB) []Body {
	contract := testContract(t)
	exit, expires := 3, NewTime(when)
	first := Run{Checkpoint: Checkpoint{Root: base64.StdEncoding.EncodeToString(make([]byte, 32)), Size: 7}, ID: hex32}
	next := first
	next.Previous = dig
	outputs := []Output{{Check: hex64, Name: "out", Reference: "reference <&>"}}
	return []Body{
		&Propose{contract, []byte("{}")}, &Amend{contract, []byte("{}")}, &Approve{dig}, &Reject{dig, "no"}, &Withdraw{"enough"},
		&ConsentGrant{&expires, 5, []string{ScopeExecution, ScopeLogging}},
		&ConsentWithdraw{"gone", []string{ScopeExecution}},
		&Rotate{testKey(t, P256).Public().SPKI(), "alice", testKey(t, Ed25519).Public().SPKI()},
		&ProvisionRequest{[]string{"in", "out"}}, &ProvisionDecline{"not yet", []string{"in"}},
		&Provisioned{[]Resource{{"kek", "in", "https://vault/keys/k"}, {"wrapped-dek", "in", "https://vault/secrets/s"}}},
		&RunBegin{testKey(t, Ed25519).Public().SPKI(), dig, Evidence{[]byte("c"), []byte("e"), "sev-snp", []byte("r")}, 3, first, []byte("tls")},
		&ConsentCheck{dig, hex64, next, ScopeExecution, "release"},
		&RecordAccess{"detail", "kek-1", next, "in", AccessKEK},
		&RecordExecution{"app", "detail", &exit, outputs, PhaseEnd, next},
		&RunRefusal{"consent withdrawn", next, "release"},
		&JournalHead{3, dig, next, 9, "out"},
		&Completion{true, "detail", 3, outputs, next},
		&AppEvent{[]byte(`{"rows":7}`), "query-1", next, "queries"},
		&Job{"too large", &exit, hex32, nil, "", PhaseEnd, &Handed{dig, 3}, next},
		&Egress{[]EgressDecision{{2, EgressAllowed, "api.example", 443}, {7, EgressNotListed, "", 0}}, next},
		&Ingress{[]IngressRefusal{{7, "api", IngressHandshake}, {1, "api", IngressPolicy}, {2, "web", IngressCrowded}}, next},
	}
}

func TestEveryTypeRoundTripsInItsCanonicalForm(t *testing.T) {
	for _, algorithm := range []Algorithm{P256, Ed25519} {
		key := testKey(t, algorithm)
		for _, body := range examples(t) {
			t.Run(fmt.Sprint(algorithm, "/", body.Type()), func(t *testing.T) {
				s := Statement{Body: body, Contract: "trial", Time: when, Version: 2}
				entry, err := Sign(s, Signature{key, 4})
				if err != nil {
					t.Fatal(err)
				}
				opened, err := Open(entry)
				if err != nil {
					t.Fatal(err)
				}
				s.Signers = []SignerID{{4, key.Public().Fingerprint()}}
				if !reflect.DeepEqual(opened.Statement, s) {
					t.Errorf("opened %+v, signed %+v", opened.Statement, s)
				}
				if err := opened.Verify(0, key.Public()); err != nil {
					t.Error(err)
				}
				checkSortedJSON(t, entry)
				var env envelope
				if err := json.Unmarshal(entry, &env); err != nil {
					t.Fatal(err)
				}
				payload, _ := base64.StdEncoding.DecodeString(env.Payload)
				checkSortedJSON(t, payload)
			})
		}
	}
}

// checkSortedJSON compares with RFC 8785 made another way: a generic decoder
// and maps, which encoding/json writes with sorted keys.
func checkSortedJSON(t *testing.T, raw []byte) {
	t.Helper()
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	sorted, err := encode(v)
	if err != nil || !bytes.Equal(sorted, raw) {
		t.Errorf("not canonical (%v):\n%s\nwant\n%s", err, raw, sorted)
	}
}

func TestReferenceImplementationOpensOurEnvelopes(t *testing.T) {
	key := testKey(t, P256)
	entry, err := Sign(Statement{Body: &Approve{dig}, Contract: "trial", Time: when, Version: 1}, Signature{key, 1})
	if err != nil {
		t.Fatal(err)
	}
	var env dsse.Envelope
	if err := json.Unmarshal(entry, &env); err != nil {
		t.Fatal(err)
	}
	payload, err := env.DecodeB64Payload()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(env.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Public().verify(dsse.PAE(env.PayloadType, payload), sig); err != nil {
		t.Error("the library's pre-authentication encoding is another:", err)
	}
	if string(preAuth(PayloadType, []byte("x"))) != string(dsse.PAE(PayloadType, []byte("x"))) {
		t.Error("preAuth differs from dsse.PAE")
	}
}

func TestOpenRefusesEverySecondFormOfAStatement(t *testing.T) {
	key := testKey(t, Ed25519)
	s := Statement{Body: &Withdraw{"because"}, Contract: "trial", Time: when, Version: 1, Signers: []SignerID{{1, key.Public().Fingerprint()}}}
	payload, err := s.payload()
	if err != nil {
		t.Fatal(err)
	}
	wrap := func(payload string) []byte { return sealPayload(t, key, []byte(payload)) }
	if _, err := Open(wrap(string(payload))); err != nil {
		t.Fatalf("the canonical form itself is refused: %v", err)
	}
	replace := func(old, new string) []byte {
		if !strings.Contains(string(payload), old) {
			t.Fatalf("%s is not in %s", old, payload)
		}
		return wrap(strings.Replace(string(payload), old, new, 1))
	}
	entry := string(wrap(string(payload)))
	for name, tc := range map[string]struct {
		entry []byte
		want  string
	}{
		"white space":          {replace(`,"contract"`, `, "contract"`), "canonical"},
		"unknown member":       {replace(`"contract"`, `"also":1,"contract"`), "canonical"},
		"unknown body member":  {replace(`{"reason"`, `{"also":1,"reason"`), "canonical"},
		"member twice":         {replace(`"contract"`, `"contract":"other","contract"`), "canonical"},
		"other case":           {replace(`"contract"`, `"Contract"`), "canonical"},
		"escaped letter":       {replace(`because`, `b\u0065cause`), "canonical"},
		"control character":    {replace(`because`, `be\u001bcause`), "control characters"},
		"line separator":       {replace(`because`, `be\u2028cause`), "control characters"},
		"not UTF-8":            {replace(`because`, "be\xffcause"), "control characters"},
		"time with offset":     {replace(`.008Z`, `.008+00:00`), "not of the form"},
		"time to the second":   {replace(`.008Z`, `Z`), "not of the form"},
		"version as a float":   {replace(`"version":1`, `"version":1.0`), "parsing"},
		"version 0":            {replace(`"version":1`, `"version":0`), "want 1 to 2^53-1"},
		"version 2^53":         {replace(`"version":1`, `"version":9007199254740992`), "want 1 to 2^53-1"},
		"counter 0":            {replace(`"counter":1`, `"counter":0`), "want 1 to 2^53-1"},
		"contract with a path": {replace(`"trial"`, `"../trial"`), "a-z"},
		"unknown type":         {replace(`"withdraw"`, `"resign"`), "unknown type"},
		"no signers":           {replace(string(payload[strings.Index(string(payload), `[`):strings.Index(string(payload), `]`)+1]), `[]`), "no signer"},
		"trailing bytes":       {wrap(string(payload) + " "), "canonical"},
		"envelope space":       {[]byte(strings.Replace(entry, `,"payloadType"`, ` ,"payloadType"`, 1)), "canonical"},
		"envelope member":      {[]byte(strings.Replace(entry, `"payloadType"`, `"x":1,"payloadType"`, 1)), "canonical"},
		"other payload type":   {[]byte(strings.Replace(entry, `.v1+json`, `.v2+json`, 1)), "payload type"},
		"base64 line break":    {[]byte(strings.Replace(entry, `{"payload":"`, `{"payload":"\n`, 1)), "decoding the payload"},
		"other key id":         {[]byte(strings.Replace(entry, `"keyid":"sha256:`, `"keyid":"sha257:`, 1)), "names"},
		"no signature":         {[]byte(entry[:strings.Index(entry, `"signatures":[`)] + `"signatures":[]}`), "0 signatures for 1"},
		"signatures null":      {[]byte(entry[:strings.Index(entry, `"signatures":[`)] + `"signatures":null}`), "0 signatures for 1"},
		"too long":             {bytes.Repeat([]byte("x"), MaxEntry+1), "at most 65535"},
		"empty":                {nil, "parsing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(tc.entry)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if (name == "unknown type") != errors.Is(err, ErrUnknownType) {
				t.Errorf("errors.Is(%v, ErrUnknownType)", err)
			}
		})
	}
}

// sealPayload signs any payload with one signer, as Sign does with sound ones.
func sealPayload(t testing.TB, key *PrivateKey, payload []byte) []byte {
	t.Helper()
	sig, err := key.SignMessage(preAuth(PayloadType, payload))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := encode(envelope{base64.StdEncoding.EncodeToString(payload), PayloadType,
		[]envelopeSignature{{key.Public().Fingerprint(), base64.StdEncoding.EncodeToString(sig)}}})
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

func TestVerifyRefuses(t *testing.T) {
	key, other := testKey(t, P256), testKey(t, P256)
	entry, err := Sign(Statement{Body: &Approve{dig}, Contract: "trial", Time: when, Version: 1}, Signature{key, 1})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(entry)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Verify(0, other.Public()); err == nil || !strings.Contains(err.Error(), "was given for signer") {
		t.Errorf("another key: %v", err)
	}
	if err := opened.Verify(1, key.Public()); err == nil {
		t.Error("a signer that is not there verifies")
	}
	opened.message = append(opened.message, ' ')
	if err := opened.Verify(0, key.Public()); err == nil || !strings.Contains(err.Error(), "not by key") {
		t.Errorf("other bytes: %v", err)
	}
}

func TestTwoSigners(t *testing.T) {
	a, b := testKey(t, P256), testKey(t, Ed25519)
	entry, err := Sign(Statement{Body: &Withdraw{}, Contract: "trial", Time: when, Version: 1}, Signature{a, 1}, Signature{b, 2})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(entry)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range opened.Signers {
		key := map[string]PublicKey{a.Public().Fingerprint(): a.Public(), b.Public().Fingerprint(): b.Public()}[id.Key]
		if err := opened.Verify(i, key); err != nil {
			t.Error(err)
		}
	}
}

func TestContractRules(t *testing.T) {
	good := testContract(t)
	digest, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := good.Digest(); again != digest {
		t.Error("the digest is not stable")
	}
	for name, tc := range map[string]struct {
		change func(*Contract)
		want   string
	}{
		"id":                    {func(k *Contract) { k.ID = "A" }, "contract's id"},
		"digest":                {func(k *Contract) { k.Specification = hex64 }, "does not begin with sha256:"},
		"upper case digest":     {func(k *Contract) { k.ContainerPolicy = strings.ToUpper(dig) }, "sha256:"},
		"no parties":            {func(k *Contract) { k.Parties = nil }, "no parties"},
		"parties out of order":  {func(k *Contract) { k.Parties[0], k.Parties[1] = k.Parties[1], k.Parties[0] }, "rising order"},
		"party twice":           {func(k *Contract) { k.Parties[1] = k.Parties[0] }, "rising order"},
		"one key, two names":    {func(k *Contract) { k.Parties[1].Key = k.Parties[0].Key }, "same key"},
		"key is recovery":       {func(k *Contract) { k.Parties[0].Recovery = k.Parties[0].Key }, "same key"},
		"no key":                {func(k *Contract) { k.Parties[0].Key = nil }, "no key"},
		"bad key":               {func(k *Contract) { k.Parties[0].Key = []byte("x") }, "parsing a public key"},
		"volume twice":          {func(k *Contract) { k.Volumes[1].Name = "in" }, "rising order"},
		"volume of nobody":      {func(k *Contract) { k.Volumes[0].Owner = "eve" }, "not a party"},
		"volume of no kind":     {func(k *Contract) { k.Volumes[0].Kind = "x" }, "none of"},
		"source, no reference":  {func(k *Contract) { k.Volumes[0].Reference = "" }, "reference is missing"},
		"source with check":     {func(k *Contract) { k.Volumes[0].Check = hex64 }, "are for sinks"},
		"sink without check":    {func(k *Contract) { k.Volumes[1].Check = "" }, "check value"},
		"sink without version":  {func(k *Contract) { k.Volumes[1].KeyVersion = 0 }, "key version"},
		"reference with escape": {func(k *Contract) { k.Volumes[0].Reference = "\x1b[2J" }, "control characters"},
	} {
		t.Run(name, func(t *testing.T) {
			k := good
			k.Parties = append([]Party(nil), good.Parties...)
			k.Volumes = append([]Volume(nil), good.Volumes...)
			tc.change(&k)
			if _, err := k.Digest(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestPublicKeysHaveOneForm(t *testing.T) {
	spki := testKey(t, P256).Public().SPKI()
	if _, err := ParsePublicKey(append(spki, 0)); err == nil {
		t.Error("a key with a trailing byte is accepted")
	}
	if _, err := ParsePublicKey(make([]byte, maxKeyBytes+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("an oversize key: %v", err)
	}
}

func TestPrivateKeyNeverShowsAndCanBeDestroyed(t *testing.T) {
	for _, algorithm := range []Algorithm{P256, Ed25519} {
		key := testKey(t, algorithm)
		raw, err := key.PKCS8()
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key)
		shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", key, key, key, key, key, key, key) + log.String()
		if strings.Contains(shown, fmt.Sprintf("%x", raw[len(raw)-8:])) || strings.Count(shown, redacted) != 8 {
			t.Errorf("the key shows: %s", shown)
		}
		again, err := ParsePrivateKey(raw)
		if err != nil || again.Public().Fingerprint() != key.Public().Fingerprint() {
			t.Errorf("reading a key back: %v", err)
		}
		key.Destroy()
		if _, err := key.SignMessage([]byte("x")); err == nil {
			t.Error("a destroyed key signs")
		}
	}
}

func TestDocument(t *testing.T) {
	p := testContract(t).Parties[0]
	raw, err := EncodeDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseDocument(raw); err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("%+v, %v", back, err)
	}
	sum := sha256.Sum256(p.Key)
	fp := fmt.Sprintf("sha256:%x", sum)
	for want, bad := range map[string]string{
		"its key has":   strings.Replace(string(raw), fp, dig, 1),
		"unknown field": strings.Replace(string(raw), `"name"`, `"x":1,"name"`, 1),
		"more than one": string(raw) + "{}",
		"want \"clois":  strings.Replace(string(raw), "/v1", "/v9", 1),
		"a-z, 0-9":      strings.Replace(string(raw), "alice", "Alice!", 1),
		"at most":       string(raw) + strings.Repeat(" ", maxDocument),
	} {
		if _, err := ParseDocument([]byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestOversizeStatementIsNotSigned(t *testing.T) {
	b := &RunBegin{testKey(t, Ed25519).Public().SPKI(), dig, Evidence{Platform: "sev-snp", Report: []byte("r")}, 0,
		Run{Checkpoint: Checkpoint{Root: base64.StdEncoding.EncodeToString(make([]byte, 32))}, ID: hex32}, nil}
	b.Evidence.Certificates = make([]byte, MaxEntry)
	_, err := Sign(Statement{Body: b, Contract: "trial", Time: when, Version: 1}, Signature{testKey(t, P256), 1})
	if err == nil || !strings.Contains(err.Error(), "at most 65535") {
		t.Errorf("got %v", err)
	}
}

func TestTextMakesWhatAStatementCarries(t *testing.T) {
	for in, want := range map[string]string{"a\x1bb\u2028c\xffd": "a?b?c?d", strings.Repeat("é", 1000): strings.Repeat("é", 512)} {
		got := Text(in)
		c := &checks{}
		c.text("text", got, maxText)
		if got != want || c.err != nil {
			t.Errorf("Text(%q) = %q, %v", in, got, c.err)
		}
	}
}

// FuzzOpen: whatever opens has one form, and making it again gives the same
// payload.
func FuzzOpen(f *testing.F) {
	// The workers are other processes: the key must be the same in all.
	key, err := newPrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range examples(f) {
		entry, err := Sign(Statement{Body: body, Contract: "trial", Time: when, Version: 2}, Signature{key, 4})
		if err != nil {
			f.Fatal(err)
		}
		var env envelope
		if err := json.Unmarshal(entry, &env); err != nil {
			f.Fatal(err)
		}
		payload, _ := base64.StdEncoding.DecodeString(env.Payload)
		f.Add(entry, false)
		f.Add(payload, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, isPayload bool) {
		entry := data
		if isPayload {
			entry = sealPayload(t, key, data)
		}
		opened, err := Open(entry)
		if err != nil {
			return
		}
		payload, err := opened.payload()
		if err != nil || !bytes.Equal(preAuth(PayloadType, payload), opened.message) {
			t.Errorf("opened %q, makes %q, %v", opened.message, payload, err)
		}
	})
}
