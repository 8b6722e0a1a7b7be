package envelope

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"cloister/internal/fault"
)

var testKEK = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var volumeID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func testDEK(t testing.TB) *DEK {
	dek, err := NewDEK(bytes.Repeat([]byte{0x5a}, DEKSize))
	if err != nil {
		t.Fatal(err)
	}
	return dek
}

func wrapped(t testing.TB) (*Envelope, Expected) {
	dek := testDEK(t)
	e, err := Wrap(&testKEK().PublicKey, "https://vault.example/keys/kek/1", dek, volumeID, 7)
	if err != nil {
		t.Fatal(err)
	}
	return e, Expected{VolumeID: volumeID, KeyVersion: 7, CheckValue: CheckValue(dek.Bytes(), volumeID)}
}

// The figure is HKDF-SHA256 computed by another implementation (Python's hmac).
func TestCheckValueVector(t *testing.T) {
	got := CheckValue(bytes.Repeat([]byte{0x5a}, 32), volumeID)
	const want = "fed060e1f26e06531a8c10aba062342870aed02f518519c886d65d2a5e9af97b"
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("CheckValue = %x, want %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	e, want := wrapped(t)
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	dek, err := parsed.Open(testKEK(), want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dek.Bytes(), testDEK(t).Bytes()) {
		t.Error("another DEK came out")
	}
	dek.Destroy()
	if !bytes.Equal(dek.Bytes(), make([]byte, DEKSize)) {
		t.Error("Destroy left key bytes")
	}
}

// Azure's clean room stores base64 of the ciphertext and nothing else.
func TestBareForm(t *testing.T) {
	dek := testDEK(t)
	box, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &testKEK().PublicKey, dek.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse([]byte(base64.StdEncoding.EncodeToString(box) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Expected{VolumeID: volumeID, KeyVersion: 1, CheckValue: CheckValue(dek.Bytes(), volumeID)}
	if _, err := e.Open(testKEK(), want); err != nil {
		t.Fatal(err)
	}
	want.CheckValue[31] ^= 1
	_, err = e.Open(testKEK(), want)
	wantRefusal(t, err, "does not have the agreed check value")
}

func TestOpenRefuses(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Envelope, *Expected)
		kek    *rsa.PrivateKey
		want   string
	}{
		{"volume id", func(_ *Envelope, w *Expected) { w.VolumeID[0] ^= 1 }, testKEK(), "volume id 0102"},
		{"key version", func(_ *Envelope, w *Expected) { w.KeyVersion = 8 }, testKEK(), "key version 7, expected 8"},
		{"check value", func(_ *Envelope, w *Expected) { w.CheckValue[0] ^= 1 }, testKEK(), "check value "},
		{"all at once", func(_ *Envelope, w *Expected) { *w = Expected{} }, testKEK(), "key version 7, expected 0; check value"},
		{"relabelled volume", func(e *Envelope, w *Expected) { e.VolumeID[0] ^= 1; w.VolumeID[0] ^= 1 }, testKEK(), "does not open with the released KEK"},
		{"relabelled version", func(e *Envelope, w *Expected) { e.KeyVersion++; w.KeyVersion++ }, testKEK(), "does not open with the released KEK"},
		{"substituted DEK", func(e *Envelope, w *Expected) {
			evil, _ := NewDEK(make([]byte, 32))
			forged, _ := Wrap(&testKEK().PublicKey, e.KEKID, evil, e.VolumeID, e.KeyVersion)
			e.Wrapped = forged.Wrapped
		}, testKEK(), "does not have the agreed check value"},
		{"ciphertext bit", func(e *Envelope, _ *Expected) { e.Wrapped[9] ^= 4 }, testKEK(), "does not open with the released KEK"},
		{"other KEK", func(*Envelope, *Expected) {}, other, "does not open with the released KEK"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, want := wrapped(t)
			tc.change(e, &want)
			_, err := e.Open(tc.kek, want)
			wantRefusal(t, err, tc.want)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	e, _ := wrapped(t)
	good, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string { return strings.Replace(string(good), old, new, 1) }
	for _, tc := range []struct{ name, in, want string }{
		{"empty", " \n", "it is empty"},
		{"too long", strings.Repeat("A", MaxSize+1), "more than the 4096 allowed"},
		{"neither", "hello", "neither JSON nor base64"},
		{"bare but short", base64.StdEncoding.EncodeToString(make([]byte, 128)), "the wrapped key has 128 bytes"},
		{"cut", string(good[:len(good)/2]), "unexpected EOF"},
		{"trailing", string(good) + "{}", "bytes follow"},
		{"unknown field", replace(`{"version"`, `{"x":1,"version"`), `unknown field "x"`},
		{"repeated field", replace(`{"version":1`, `{"version":2,"version":1`), "the one way"},
		{"other case", replace(`"kekId"`, `"KEKID"`), "the one way"},
		{"version", replace(`"version":1`, `"version":2`), "version 2 is not 1"},
		{"algorithm", replace("RSA-OAEP-SHA256", "RSA1_5"), `algorithm "RSA1_5" is not`},
		{"key version", replace(`"keyVersion":7`, `"keyVersion":0`), "key versions begin at 1"},
		{"negative key version", replace(`"keyVersion":7`, `"keyVersion":-1`), "cannot unmarshal"},
		{"no KEK id", replace("https://vault.example/keys/kek/1", ""), "1 to 512 printable"},
		{"KEK id with a line break", replace("keys/kek/1", `keys\nkek`), "1 to 512 printable"},
		{"volume id", replace("0102", "01"), "the volume id must be 32"},
		{"volume id in capitals", replace("0b0c", "0B0C"), "the volume id must be 32"},
		{"padded", replace(`"}`, `=="}`), "not unpadded base64url"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			wantRefusal(t, err, tc.want)
		})
	}
}

func TestWrapRefusesWhatParseWould(t *testing.T) {
	if _, err := Wrap(&testKEK().PublicKey, "", testDEK(t), volumeID, 1); err == nil {
		t.Error("an envelope without a KEK id was made")
	}
	if _, err := Wrap(&testKEK().PublicKey, "k", testDEK(t), volumeID, 0); err == nil {
		t.Error("an envelope of key version 0 was made")
	}
}

func TestDEKIsRedacted(t *testing.T) {
	dek := testDEK(t)
	for _, text := range []string{
		fmt.Sprint(dek), fmt.Sprintf("%v %+v %#v %s %x %q %d", dek, dek, dek, dek, dek, dek, dek),
		fmt.Sprintf("%v %x", *dek, *dek), fmt.Sprintf("%+v", struct{ D *DEK }{dek}), dek.LogValue().String(),
	} {
		if strings.Contains(text, "5a5a") || strings.Contains(text, "90 90") || strings.Contains(text, "ZZ") {
			t.Errorf("the key shows in %q", text)
		}
	}
	var none *DEK
	none.Destroy()
}

func FuzzParse(f *testing.F) {
	e, _ := wrapped(f)
	good, _ := e.Marshal()
	f.Add(good)
	f.Add([]byte(base64.StdEncoding.EncodeToString(e.Wrapped)))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(data)
		if err != nil {
			if fault.KindOf(err) != fault.Refused {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		if e.Bare {
			return
		}
		again, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := Parse(again); err != nil || second.KEKID != e.KEKID || !bytes.Equal(second.Wrapped, e.Wrapped) {
			t.Fatalf("what was parsed does not survive being written: %v", err)
		}
	})
}

func wantRefusal(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%v), want a refusal with %q", err, fault.KindOf(err), text)
	}
}
