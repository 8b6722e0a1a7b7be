package vault

import (
	"bytes"
	"encoding/json"
	"testing"

	"cloister/policy/release"
)

// FuzzTarget: a token's runtime claims are a stranger's bytes; the key found in
// them can always be wrapped for.
func FuzzTarget(f *testing.F) {
	f.Add([]byte(`{"x-ms-runtime":{"keys":[{"kty":"RSA","kid":"k","key_ops":["encrypt"],"n":"AQAB","e":"AQAB"}]}}`))
	f.Add([]byte(`{"x-ms-runtime":{"keys":null}}`))
	f.Add([]byte(`{"x-ms-runtime":[]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		target, err := parseTarget(payload)
		if err == nil && (target.key.N.BitLen() < 2048 || target.key.E < 3) {
			t.Errorf("a weak key: %v", target.key)
		}
	})
}

// FuzzPolicyRewrite: the services answer with a policy in other bytes; the
// meaning stays, and rewriting once more changes nothing.
func FuzzPolicyRewrite(f *testing.F) {
	f.Add([]byte(`{"version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[{"claim":"c","equals":"v"}]}]}`))
	f.Add([]byte(`{"anyOf":[{"anyOf":[{"claim":"sdk-test","equals":true},{"allOf":[{"claim":"n","less":"7"}]}],"authority":"https://a.example/"}],"version":"1.0.0"}`))
	f.Fuzz(func(t *testing.T, asked []byte) {
		for _, kind := range []Kind{KeyVault, ManagedHSM} {
			once, err := kind.newPolicy(releasePolicy{Data: asked})
			if err != nil {
				continue
			}
			before, _ := release.Parse(asked)
			after, err := release.Parse(once.Data)
			if err != nil || !release.Equal(before, after) {
				t.Errorf("%s became %s: %v", asked, once.Data, err)
			}
			twice, err := kind.newPolicy(*once)
			if err != nil || !bytes.Equal(once.Data, twice.Data) {
				t.Errorf("%s became %s: %v", once.Data, twice.Data, err)
			}
		}
	})
}

// FuzzImport: an imported key is refused or usable.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"kty":"EC-HSM","crv":"P-256","d":"AQ"}`))
	f.Add([]byte(`{"kty":"oct-HSM","k":"AAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQ","p":"Aw","q":"BQ"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var j jwk
		if json.Unmarshal(text, &j) != nil || ManagedHSM.checkType(j.Type) != nil && KeyVault.checkType(j.Type) != nil {
			return
		}
		material, err := j.material()
		if err != nil {
			return
		}
		k := keyVersion{Type: j.Type, Material: material}
		if _, err := k.public("id"); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}
