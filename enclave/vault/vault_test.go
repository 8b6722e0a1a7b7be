package vault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloister/enclave/envelope"
	"cloister/internal/fault"
	"cloister/policy/release"
)

const goodClaims = `{"x-ms-sevsnpvm-vmpl":0,"x-ms-sevsnpvm-is-debuggable":false}`

func TestReleaseByEveryWrap(t *testing.T) {
	dek := must(envelope.NewDEK(bytes.Repeat([]byte{7}, 32)))
	id := [16]byte{1}
	env := must(envelope.Wrap(&testKEK().PublicKey, "kek", dek, id, 1))
	stored := must(env.Marshal())
	want := envelope.Expected{VolumeID: id, KeyVersion: 1, CheckValue: envelope.CheckValue(dek.Bytes(), id)}
	for _, wrap := range []Wrap{"", WrapCKM, Wrap256, Wrap384} {
		v := newFakeVault(t)
		r := v.ask()
		r.Wrap = wrap
		kek, err := v.client().Release(t.Context(), r, token(goodClaims), testReleaseKey())
		if err != nil {
			t.Fatalf("%s: %v", wrap, err)
		}
		got, err := kek.Unwrap(stored, want)
		if err != nil || !bytes.Equal(got.Bytes(), dek.Bytes()) {
			t.Errorf("%s: %v", wrap, err)
		}
		kek.Destroy()
		if kek.rsa.D.Sign() != 0 || kek.rsa.Primes[0].Sign() != 0 {
			t.Errorf("%s: Destroy left the private key", wrap)
		}
	}
}

func TestOctKEK(t *testing.T) {
	v := newFakeVault(t)
	v.material = bytes.Repeat([]byte{9}, 32)
	v.key["kty"] = "oct-HSM"
	kek, err := v.client().Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey())
	if err != nil || !bytes.Equal(kek.Bytes(), v.material) {
		t.Fatalf("%v", err)
	}
	if _, err := kek.Unwrap(nil, envelope.Expected{}); fault.KindOf(err) != fault.Refused {
		t.Errorf("an oct key unwraps an envelope: %v", err)
	}
	kek.Destroy()
	if !bytes.Equal(kek.Bytes(), make([]byte, 32)) {
		t.Error("Destroy left the key")
	}
}

func TestECKEK(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key := must(ecdsa.GenerateKey(curve, rand.Reader))
		point := must(key.PublicKey.Bytes())[1:]
		enc := base64.RawURLEncoding.EncodeToString
		v := newFakeVault(t)
		v.material = must(x509.MarshalPKCS8PrivateKey(key))
		v.key["kty"], v.key["x"], v.key["y"] = "EC-HSM", enc(point[:len(point)/2]), enc(point[len(point)/2:])
		kek, err := v.client().Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey())
		if err != nil || !key.Equal(kek.EC()) {
			t.Fatalf("%s: %v", curve.Params().Name, err)
		}
		if _, err := kek.Unwrap(nil, envelope.Expected{}); fault.KindOf(err) != fault.Refused {
			t.Errorf("an EC key unwraps an envelope: %v", err)
		}
		kek.Destroy()
		if kek.EC().D.Sign() != 0 {
			t.Error("Destroy left the key")
		}
	}
}

// KEKs and release keys may be of every size that vaults offer.
func TestEverySize(t *testing.T) {
	if testing.Short() {
		t.Skip("finding large keys takes seconds")
	}
	id := [16]byte{1}
	dek := must(envelope.NewDEK(bytes.Repeat([]byte{7}, 32)))
	want := envelope.Expected{VolumeID: id, KeyVersion: 1, CheckValue: envelope.CheckValue(dek.Bytes(), id)}
	for _, bits := range []int{2048, 3072, 4096} {
		kek, target := must(rsa.GenerateKey(rand.Reader, bits)), must(NewReleaseKey(bits))
		v := newFakeVault(t)
		v.release, v.material = target, must(x509.MarshalPKCS8PrivateKey(kek))
		v.key["n"] = base64.RawURLEncoding.EncodeToString(kek.N.Bytes())
		stored := must(must(envelope.Wrap(&kek.PublicKey, "kek", dek, id, 1)).Marshal())
		for _, wrap := range []Wrap{WrapCKM, Wrap256, Wrap384} {
			r := v.ask()
			r.Wrap = wrap
			got, err := v.client().Release(t.Context(), r, token(goodClaims), target)
			if err != nil {
				t.Fatalf("%d bits, %s: %v", bits, wrap, err)
			}
			if opened, err := got.Unwrap(stored, want); err != nil || !bytes.Equal(opened.Bytes(), dek.Bytes()) {
				t.Errorf("%d bits, %s: %v", bits, wrap, err)
			}
		}
	}
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	v := newFakeVault(t)
	v.material, v.key["n"] = must(x509.MarshalPKCS8PrivateKey(small)), base64.RawURLEncoding.EncodeToString(small.N.Bytes())
	if _, err := v.client().Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey()); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "has 1024 bits, expected 2048 to 4096") {
		t.Errorf("1024 bits: %v", err)
	}
}

// A busy vault is asked again, and not for ever.
func TestBusyVault(t *testing.T) {
	for status, retried := range map[int]bool{429: true, 500: true, 502: true, 503: true, 504: true, 400: false, 403: false, 404: false} {
		v := newFakeVault(t)
		v.status, v.times, v.secret = status, 3, "AAAA"
		c := v.patient(time.Millisecond, time.Minute)
		if _, err := c.WrappedDEK(t.Context(), v.URL+"/secrets/dek"); (err == nil) != retried || (v.times == 0) != retried {
			t.Errorf("secret, HTTP %d: %v with %d to come", status, err, v.times)
		}
		v.status, v.times = status, 3
		if _, err := c.Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey()); (err == nil) != retried || (v.times == 0) != retried {
			t.Errorf("release, HTTP %d: %v with %d to come", status, err, v.times)
		}
	}
	v := newFakeVault(t)
	v.status = http.StatusServiceUnavailable
	if _, err := v.patient(time.Hour, 100*time.Millisecond).Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("after the deadline: %v (%v)", err, fault.KindOf(err))
	}
}

func TestBadReleases(t *testing.T) {
	other := must(rsa.GenerateKey(rand.Reader, 2048))
	for _, tc := range []struct {
		name   string
		change func(*fakeVault)
		want   string
	}{
		{"weaker policy", func(v *fakeVault) {
			v.policy = strings.Replace(agreedPolicy, `,{"claim":"x-ms-sevsnpvm-is-debuggable","equals":"false"}`, "", 1)
		}, "release policy: expected"},
		{"one byte of the policy", func(v *fakeVault) { v.policy = strings.Replace(agreedPolicy, `"0"`, `"1"`, 1) }, "release policy: expected"},
		{"policy that is none", func(v *fakeVault) { v.policy = "{}" }, "release policy: expected"},
		{"another key", func(v *fakeVault) { v.key["kid"] = v.URL + "/keys/other/0123" }, "key id: expected"},
		{"another vault's key", func(v *fakeVault) { v.key["kid"] = "https://other.example/keys/kek/0123" }, "key id: expected"},
		{"another request", func(v *fakeVault) { v.request["kid"] = v.URL + "/keys/other" }, "requested key: expected"},
		{"replayed", func(v *fakeVault) { v.request["nonce"] = "AAAA" }, "nonce: expected"},
		{"wrapping asked for", func(v *fakeVault) { v.request["enc"] = "none" }, "wrapping asked for: expected CKM_RSA_AES_KEY_WRAP, got none"},
		{"wrapping", func(v *fakeVault) { v.header["enc"] = string(Wrap384) }, "wrapping: expected CKM_RSA_AES_KEY_WRAP, got RSA_AES_KEY_WRAP_384"},
		{"for another start", func(v *fakeVault) { v.header["kid"] = "elsewhere" }, "wrapped for: expected"},
		{"wrapped otherwise than said", func(v *fakeVault) { v.hash = Wrap384 }, "not wrapped to this start's release key"},
		{"not a key", func(v *fakeVault) { v.material = []byte("sixteen bytes and more") }, "not PKCS #8"},
		{"an EC key", func(v *fakeVault) {
			v.material = must(x509.MarshalPKCS8PrivateKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
		}, "the released key is not RSA"},
		{"not the key it names", func(v *fakeVault) { v.material = must(x509.MarshalPKCS8PrivateKey(other)) }, "not the private half"},
		{"an unknown kind", func(v *fakeVault) { v.key["kty"] = "OKP" }, `of kind "OKP"`},
		{"RSA said to be EC", func(v *fakeVault) { v.key["kty"] = "EC-HSM" }, "the released key is not EC"},
		{"another EC key", func(v *fakeVault) {
			v.key["kty"], v.key["x"], v.key["y"] = "EC", "AQAB", "AQAB"
			v.material = must(x509.MarshalPKCS8PrivateKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
		}, "not the private half"},
		{"an odd oct key", func(v *fakeVault) { v.key["kty"] = "oct"; v.material = make([]byte, 31) }, "oct key has 31 bytes"},
		{"no wrapped key", func(v *fakeVault) { v.key["key_hsm"] = nil }, "its wrapped key"},
		{"another shape", func(v *fakeVault) { v.key["kid"] = 7 }, "its payload"},
		{"another signer", func(v *fakeVault) { v.signer = other }, "its signature is not the vault's"},
		{"another host's certificate", func(v *fakeVault) { v.x5c = testCA().leaf("127.0.0.2", time.Now().Add(time.Hour)) }, "its certificate chain"},
		{"expired certificate", func(v *fakeVault) { v.x5c = testCA().leaf("127.0.0.1", time.Now().Add(-time.Minute)) }, "its certificate chain"},
		{"unknown root", func(v *fakeVault) { v.x5c = newAuthority().leaf("127.0.0.1", time.Now().Add(time.Hour)) }, "its certificate chain"},
		{"no certificate", func(v *fakeVault) { v.x5c = nil }, "is refused"},
		{"unsigned", func(v *fakeVault) { v.tamper = func(string) string { return "eyJhbGciOiJub25lIn0.e30." } }, "is refused"},
		{"endless", func(v *fakeVault) { v.tamper = func(string) string { return strings.Repeat("x", maxStatement+1) } }, "more than the 262144 allowed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newFakeVault(t)
			tc.change(v)
			kek, err := v.client().Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey())
			if kek != nil || fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v (%v), want a refusal with %q", err, fault.KindOf(err), tc.want)
			}
		})
	}
}

func TestNoAgreedPolicyRefuses(t *testing.T) {
	v := newFakeVault(t)
	r := v.ask()
	r.Policy = release.Policy{}
	if _, err := v.client().Release(t.Context(), r, token(goodClaims), testReleaseKey()); fault.KindOf(err) != fault.Refused {
		t.Errorf("got %v", err)
	}
}

// A 403 says which condition of the contract's copy the container misses.
func TestForbiddenNamesTheClaim(t *testing.T) {
	v := newFakeVault(t)
	v.status = http.StatusForbidden
	v.body = `{"error":{"code":"Forbidden","message":"Target environment attestation statement cannot be verified.","innererror":{"code":"AccessDenied"}}}`
	_, err := v.client().Release(t.Context(), v.ask(), token(`{"x-ms-sevsnpvm-vmpl":2,"x-ms-sevsnpvm-is-debuggable":false}`), testReleaseKey())
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), `x-ms-sevsnpvm-vmpl equals "0": have "2"`) ||
		strings.Contains(err.Error(), "is-debuggable") {
		t.Errorf("got %v", err)
	}
	_, err = v.client().Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey())
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "contract's copy of the release policy is met") {
		t.Errorf("got %v", err)
	}
}

func TestStatusKinds(t *testing.T) {
	for status, kind := range map[int]fault.Kind{404: fault.NotFound, 429: fault.Unavailable, 500: fault.Unavailable, 400: fault.Refused, 307: fault.Refused} {
		v := newFakeVault(t)
		v.status = status
		if _, err := v.client().Release(t.Context(), v.ask(), token(goodClaims), testReleaseKey()); fault.KindOf(err) != kind {
			t.Errorf("release, HTTP %d: %v (%v)", status, err, fault.KindOf(err))
		}
		if _, err := v.client().WrappedDEK(t.Context(), v.URL+"/secrets/dek"); fault.KindOf(err) != kind {
			t.Errorf("secret, HTTP %d: %v (%v)", status, err, fault.KindOf(err))
		}
	}
	v := newFakeVault(t)
	v.status = 403
	if _, err := v.client().WrappedDEK(t.Context(), v.URL+"/secrets/dek"); fault.KindOf(err) != fault.Denied || len(fault.Hints(err)) == 0 {
		t.Errorf("got %v", err)
	}
}

func TestWrappedDEK(t *testing.T) {
	v := newFakeVault(t)
	v.secret = "AAAA"
	got, err := v.client().WrappedDEK(t.Context(), v.URL+"/secrets/dek/0123")
	if err != nil || string(got) != "AAAA" {
		t.Errorf("%q, %v", got, err)
	}
	v.secret = strings.Repeat("A", envelope.MaxSize+1)
	if _, err := v.client().WrappedDEK(t.Context(), v.URL+"/secrets/dek"); fault.KindOf(err) != fault.Refused {
		t.Errorf("got %v", err)
	}
}

func TestParseID(t *testing.T) {
	got, err := ParseID("keys", "https://v.example:8443/keys/my-key/0a1b")
	if err != nil || got != (ID{Vault: "https://v.example:8443", Name: "my-key", Version: "0a1b"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "http://v.example/keys/k", "https://v.example/secrets/k", "https://v.example/keys/", "https://v.example/keys/k/v/x",
		"https://v.example/keys/k?x=1", "https://v.example/keys/k%2f..", "https://u:p@v.example/keys/k", "https:///keys/k", "https://v.example/keys/k//",
	} {
		if id, err := ParseID("keys", bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q is read as %+v, %v", bad, id, err)
		}
	}
}

func TestReleaseKey(t *testing.T) {
	for _, bits := range []int{0, 1024, 8192} {
		if _, err := NewReleaseKey(bits); err == nil {
			t.Errorf("%d bits are accepted", bits)
		}
	}
	k := must(NewReleaseKey(2048))
	var set struct {
		Keys []struct {
			KTY, KID, N, E string
			Ops            []string `json:"key_ops"`
		}
	}
	if err := json.Unmarshal(must(k.RuntimeData()), &set); err != nil {
		t.Fatal(err)
	}
	jwk := set.Keys[0]
	if jwk.KTY != "RSA" || jwk.KID == "" || len(jwk.Ops) != 1 || jwk.Ops[0] != "encrypt" || jwk.E != "AQAB" ||
		jwk.N != base64.RawURLEncoding.EncodeToString(k.public.N.Bytes()) {
		t.Errorf("%+v", jwk)
	}
	k.Destroy()
	if k.decrypter.(*rsa.PrivateKey).D.Sign() != 0 {
		t.Error("Destroy left the private key")
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	k := must(NewReleaseKey(2048))
	kek := &KEK{ID: "id", rsa: testKEK(), oct: []byte("OCTETS")}
	text := fmt.Sprintf("%v %+v %#v %s %d %x|%v %+v %#v %s %d %x", k, k, k, k, k, k, kek, kek, kek, kek, kek, kek)
	text += fmt.Sprint(*k, *kek, k.LogValue(), kek.LogValue(), struct{ K *KEK }{kek})
	for _, secret := range []string{"OCTETS", k.decrypter.(*rsa.PrivateKey).D.String(), testKEK().D.String(), fmt.Sprintf("%x", testKEK().D.Bytes())} {
		if strings.Contains(text, secret) {
			t.Errorf("a secret shows: %.100s", text)
		}
	}
}

func FuzzStatement(f *testing.F) {
	v := newFakeVault(f)
	c := v.client()
	good := v.statement(string(WrapCKM), "n")
	f.Add(good)
	f.Add("a.b.c")
	want := expectedRelease{request: v.ask(), nonce: "n", key: testReleaseKey()}
	want.request.Wrap = WrapCKM
	f.Fuzz(func(t *testing.T, raw string) {
		kek, err := c.open(raw, want)
		if err == nil && strings.TrimSpace(raw) != good {
			t.Fatalf("a forged statement is accepted: %v", kek)
		}
		if err != nil && fault.KindOf(err) != fault.Refused {
			t.Fatalf("kind %v: %v", fault.KindOf(err), err)
		}
	})
}

// FuzzPayload goes past the signature, which a hostile vault could make.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(`{"request":{"enc":"x"},"response":{"key":{"key":{"kid":"k","key_hsm":"e30"}}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var s statement
		var w wrappedKey
		if json.Unmarshal(payload, &s) != nil || json.Unmarshal(s.Response.Key.Key.KeyHSM, &w) != nil {
			return
		}
		want := expectedRelease{request: Request{KEK: ID{Vault: "https://v.example", Name: "k"}, Wrap: WrapCKM}, key: testReleaseKey()}
		if compare(&s, &w, want).Err("it") == nil {
			t.Fatal("accepted without an agreed policy")
		}
		if _, err := testReleaseKey().unwrap(w.Ciphertext, WrapCKM); err == nil {
			t.Fatal("unwrapped something")
		}
	})
}
