package localcloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cloister/policy/release"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

func TestKeysThroughTheirLife(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	for service, url := range map[string]string{"vault": c.Endpoints().Vault, "hsm": c.Endpoints().HSM} {
		client := keysClient(t, c, url)
		name := "life"
		first, err := client.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), Tags: map[string]*string{"a": to.Ptr("b")}}, nil)
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		if first.Key.KID.Name() != name || len(first.Key.KID.Version()) != 32 || !*first.Attributes.Enabled ||
			*first.Attributes.RecoveryLevel != "Recoverable+Purgeable" || *first.Attributes.HSMPlatform != "simulated" {
			t.Errorf("%s: created %+v %+v", service, first.Key, first.Attributes)
		}
		second, err := client.RotateKey(ctx, name, nil)
		if err != nil || second.Key.KID.Version() == first.Key.KID.Version() || string(second.Key.N) == string(first.Key.N) {
			t.Errorf("%s: rotated %v", service, err)
		}
		newest, err := client.GetKey(ctx, name, "", nil)
		if err != nil || newest.Key.KID.Version() != second.Key.KID.Version() || *newest.Tags["a"] != "b" {
			t.Errorf("%s: newest %v", service, err)
		}
		old, err := client.GetKey(ctx, name, first.Key.KID.Version(), nil)
		if err != nil || string(old.Key.N) != string(first.Key.N) {
			t.Errorf("%s: first version %v", service, err)
		}
		if _, err := client.UpdateKeyRotationPolicy(ctx, name, azkeys.KeyRotationPolicy{Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to.Ptr("P90D")}}, nil); err != nil {
			t.Error(err)
		}
		if p, err := client.GetKeyRotationPolicy(ctx, name, nil); err != nil || *p.Attributes.ExpiryTime != "P90D" {
			t.Errorf("%s: rotation policy %v", service, err)
		}
		versions := 0
		for pager := client.NewListKeyPropertiesVersionsPager(name, nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			versions += len(page.Value)
		}
		if versions != 2 {
			t.Errorf("%s: %d versions", service, versions)
		}
		deleteAndPurge(t, client, name)
	}
}

func deleteAndPurge(t *testing.T, client *azkeys.Client, name string) {
	t.Helper()
	ctx := context.Background()
	deleted, err := client.DeleteKey(ctx, name, nil)
	if err != nil || !strings.HasSuffix(*deleted.RecoveryID, "/deletedkeys/"+name) || deleted.DeletedDate == nil {
		t.Fatalf("delete: %v", err)
	}
	_, err = client.GetKey(ctx, name, "", nil)
	wantStatus(t, "get a deleted key", err, http.StatusNotFound, "KeyNotFound")
	_, err = client.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil)
	wantStatus(t, "take a deleted key's name", err, http.StatusConflict, "Conflict")
	found := false
	for pager := client.NewListDeletedKeyPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		found = found || slices.ContainsFunc(page.Value, func(k *azkeys.DeletedKeyProperties) bool { return k.KID.Name() == name })
	}
	if !found {
		t.Error("the deleted key is not listed")
	}
	if _, err := client.RecoverDeletedKey(ctx, name, nil); err != nil {
		t.Error(err)
	}
	if _, err := client.GetKey(ctx, name, "", nil); err != nil {
		t.Errorf("recovered: %v", err)
	}
	if _, err := client.DeleteKey(ctx, name, nil); err != nil {
		t.Error(err)
	}
	if _, err := client.GetDeletedKey(ctx, name, nil); err != nil {
		t.Error(err)
	}
	if _, err := client.PurgeDeletedKey(ctx, name, nil); err != nil {
		t.Error(err)
	}
	_, err = client.GetDeletedKey(ctx, name, nil)
	wantStatus(t, "get a purged key", err, http.StatusNotFound, "KeyNotFound")
}

func TestListsArePaged(t *testing.T) {
	c := startIn(t, newDir(t))
	ctx := context.Background()
	keys, secrets := keysClient(t, c, c.Endpoints().Vault), secretsClient(t, c)
	const count = 60 // three pages of at most 25
	for i := range count {
		if _, err := secrets.SetSecret(ctx, fmt.Sprintf("s-%02d", i), azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.CreateKey(ctx, fmt.Sprintf("k-%02d", i), azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := 0
	for pager := secrets.NewListSecretPropertiesPager(nil); pager.More(); pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Value {
			names = append(names, s.ID.Name())
		}
	}
	if pages != 3 || len(names) != count || !slices.IsSorted(names) || len(slices.Compact(names)) != count {
		t.Errorf("secrets: %d in %d pages", len(names), pages)
	}
	total := 0
	for pager := keys.NewListKeyPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		total += len(page.Value)
	}
	if total != count {
		t.Errorf("keys: %d", total)
	}
}

func TestImportedKeys(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(kty azkeys.KeyType) *azkeys.JSONWebKey {
		return &azkeys.JSONWebKey{Kty: &kty, N: key.N.Bytes(), E: []byte{1, 0, 1}, D: key.D.Bytes(),
			P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(), DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes()}
	}
	policy := &azkeys.KeyReleasePolicy{EncodedPolicy: releasePolicy(c, containerPolicy)}
	for _, tc := range []struct {
		url    string
		params azkeys.ImportKeyParameters
		want   azkeys.KeyType
	}{
		{c.Endpoints().Vault, azkeys.ImportKeyParameters{Key: jwk(azkeys.KeyTypeRSA)}, azkeys.KeyTypeRSA},
		{c.Endpoints().Vault, azkeys.ImportKeyParameters{Key: jwk(azkeys.KeyTypeRSA), HSM: to.Ptr(true)}, azkeys.KeyTypeRSAHSM},
		{c.Endpoints().HSM, azkeys.ImportKeyParameters{Key: jwk(azkeys.KeyTypeRSAHSM), HSM: to.Ptr(true),
			KeyAttributes: &azkeys.KeyAttributes{Exportable: to.Ptr(true)}, ReleasePolicy: policy}, azkeys.KeyTypeRSAHSM},
		{c.Endpoints().HSM, azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeOct), K: make([]byte, 32)}}, azkeys.KeyTypeOctHSM},
	} {
		got, err := keysClient(t, c, tc.url).ImportKey(ctx, "imported", tc.params, nil)
		if err != nil || *got.Key.Kty != tc.want {
			t.Errorf("%s: %v", tc.want, err)
			continue
		}
		if tc.params.Key.N != nil && string(got.Key.N) != string(key.N.Bytes()) {
			t.Errorf("%s: another modulus", tc.want)
		}
		if got.Key.D != nil || got.Key.P != nil || got.Key.K != nil {
			t.Errorf("%s: the answer shows the private key", tc.want)
		}
	}
	bad := jwk(azkeys.KeyTypeRSA)
	bad.P = bad.Q
	_, err = keysClient(t, c, c.Endpoints().Vault).ImportKey(ctx, "bad", azkeys.ImportKeyParameters{Key: bad}, nil)
	wantStatus(t, "a broken key", err, http.StatusBadRequest, "BadParameter")
}

func TestKeysThatCannotBe(t *testing.T) {
	c := theCloud(t)
	policy := &azkeys.KeyReleasePolicy{EncodedPolicy: releasePolicy(c, containerPolicy)}
	yes := &azkeys.KeyAttributes{Exportable: to.Ptr(true)}
	for _, tc := range []struct {
		name, url, key string
		params         azkeys.CreateKeyParameters
	}{
		{"software key, exportable", c.Endpoints().Vault, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeyAttributes: yes, ReleasePolicy: policy}},
		{"exportable without policy", c.Endpoints().Vault, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), KeyAttributes: yes}},
		{"policy without exportable", c.Endpoints().Vault, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), ReleasePolicy: policy}},
		{"policy not JSON", c.Endpoints().HSM, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), KeyAttributes: yes, ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte("{")}}},
		{"policy of another version", c.Endpoints().HSM, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), KeyAttributes: yes, ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(`{"version":"0.2","anyOf":[]}`)}}},
		{"symmetric key in the vault", c.Endpoints().Vault, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeOctHSM)}},
		{"software key in the HSM", c.Endpoints().HSM, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}},
		{"size", c.Endpoints().HSM, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr(int32(1024))}},
		{"curve", c.Endpoints().HSM, "n", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), Curve: to.Ptr(azkeys.CurveNameP256K)}},
	} {
		_, err := keysClient(t, c, tc.url).CreateKey(context.Background(), tc.key, tc.params, nil)
		wantStatus(t, tc.name, err, http.StatusBadRequest, "BadParameter")
	}
}

func TestReleasePolicyIsRewrittenByMeaningAndImmutable(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	asked := releasePolicy(c, containerPolicy)
	for service, url := range map[string]string{"vault": c.Endpoints().Vault, "hsm": c.Endpoints().HSM} {
		client := keysClient(t, c, url)
		made, err := client.CreateKey(ctx, "fixed", exportable(azkeys.KeyTypeECHSM, 0, asked), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := made.ReleasePolicy.EncodedPolicy
		begins := map[string]string{"vault": `{"version":"1.0.0","anyOf":[{"authority":"https://`, "hsm": `{"anyOf":[{"allOf":[{"claim":`}[service]
		if !strings.HasPrefix(string(got), begins) || service == "hsm" && !strings.Contains(string(got), c.Endpoints().Attestation+`/"`) {
			t.Errorf("%s: %s", service, got)
		}
		before, err1 := release.Parse(asked)
		after, err2 := release.Parse(got)
		if err1 != nil || err2 != nil || !release.Equal(before, after) {
			t.Errorf("%s: the policy changed its meaning: %v %v", service, err1, err2)
		}
		update := func(policy []byte, immutable bool) error {
			_, err := client.UpdateKey(ctx, "fixed", "", azkeys.UpdateKeyParameters{
				ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: policy, Immutable: &immutable}}, nil)
			return err
		}
		if err := update(asked, true); err != nil {
			t.Errorf("%s: the same policy again: %v", service, err)
		}
		wantStatus(t, service+": another policy", update(releasePolicy(c, []byte("other")), true), http.StatusForbidden, "Forbidden")
		wantStatus(t, service+": mutable", update(asked, false), http.StatusForbidden, "Forbidden")
		_, err = client.CreateKey(ctx, "fixed", exportable(azkeys.KeyTypeECHSM, 0, releasePolicy(c, []byte("other"))), nil)
		wantStatus(t, service+": new version, another policy", err, http.StatusForbidden, "Forbidden")
		rotated, err := client.RotateKey(ctx, "fixed", nil)
		if err != nil || string(rotated.ReleasePolicy.EncodedPolicy) != string(got) || !*rotated.Attributes.Exportable {
			t.Errorf("%s: a rotation lost the policy: %v", service, err)
		}
		if _, err := client.UpdateKey(ctx, "fixed", "", azkeys.UpdateKeyParameters{Tags: map[string]*string{"x": to.Ptr("y")}}, nil); err != nil {
			t.Errorf("%s: tags: %v", service, err)
		}
	}
}

func TestWrapUnwrap(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	client := keysClient(t, c, c.Endpoints().Vault)
	if _, err := client.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil); err != nil {
		t.Fatal(err)
	}
	dek := []byte("0123456789abcdef0123456789abcdef")
	for _, alg := range []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP, azkeys.EncryptionAlgorithmRSAOAEP256} {
		wrapped, err := client.WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: dek}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.UnwrapKey(ctx, "kek", wrapped.KID.Version(), azkeys.KeyOperationParameters{Algorithm: &alg, Value: wrapped.Result}, nil)
		if err != nil || string(got.Result) != string(dek) {
			t.Errorf("%s: %v", alg, err)
		}
		sealed, err := client.Encrypt(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: dek}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := client.Decrypt(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: sealed.Result}, nil); err != nil || string(plain.Result) != string(dek) {
			t.Errorf("%s: %v", alg, err)
		}
	}
	_, err := client.WrapKey(ctx, "kek", "", azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmA256KW), Value: dek}, nil)
	wantStatus(t, "an algorithm it lacks", err, http.StatusBadRequest, "BadParameter")
	_, err = client.BackupKey(ctx, "kek", nil)
	wantStatus(t, "an operation it lacks", err, http.StatusNotImplemented, "NotImplemented")
}

func TestSecretsThroughTheirLife(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	client := secretsClient(t, c)
	set := func(value string) azsecrets.SetSecretResponse {
		resp, err := client.SetSecret(ctx, "wrapped-dek", azsecrets.SetSecretParameters{Value: &value, ContentType: to.Ptr("application/octet-stream")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first, second := set("one"), set("two")
	for version, want := range map[string]string{"": "two", first.ID.Version(): "one", second.ID.Version(): "two"} {
		got, err := client.GetSecret(ctx, "wrapped-dek", version, nil)
		if err != nil || *got.Value != want || *got.ContentType != "application/octet-stream" {
			t.Errorf("version %q: %v", version, err)
		}
	}
	if _, err := client.UpdateSecretProperties(ctx, "wrapped-dek", "", azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)}}, nil); err != nil {
		t.Error(err)
	}
	_, err := client.GetSecret(ctx, "wrapped-dek", "", nil)
	wantStatus(t, "disabled", err, http.StatusForbidden, "Forbidden")
	if _, err := client.DeleteSecret(ctx, "wrapped-dek", nil); err != nil {
		t.Error(err)
	}
	_, err = client.GetSecret(ctx, "wrapped-dek", first.ID.Version(), nil)
	wantStatus(t, "deleted", err, http.StatusNotFound, "SecretNotFound")
	if _, err := client.RecoverDeletedSecret(ctx, "wrapped-dek", nil); err != nil {
		t.Error(err)
	}
	if got, err := client.GetSecret(ctx, "wrapped-dek", first.ID.Version(), nil); err != nil || *got.Value != "one" {
		t.Errorf("recovered: %v", err)
	}
	if _, err := client.DeleteSecret(ctx, "wrapped-dek", nil); err != nil {
		t.Error(err)
	}
	if _, err := client.PurgeDeletedSecret(ctx, "wrapped-dek", nil); err != nil {
		t.Error(err)
	}
	_, err = client.SetSecret(ctx, "bad_name", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil)
	wantStatus(t, "name", err, http.StatusBadRequest, "BadParameter")
}

// TestChallenge speaks to the vault without a client, as the SDK's first
// request does.
func TestChallenge(t *testing.T) {
	c := theCloud(t)
	for _, tc := range []struct{ url, resource, body string }{
		{c.Endpoints().Vault, "https://vault.azure.net", `{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}`},
		{c.Endpoints().HSM, "https://managedhsm.azure.net", ""},
	} {
		resp, err := transport(c).Get(tc.url + "/keys?api-version=7.4")
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, resp)
		want := fmt.Sprintf(`Bearer authorization="%s/%s", resource="%s"`, c.Endpoints().Authority, c.Endpoints().Tenant, tc.resource)
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != want || strings.TrimSpace(body) != tc.body {
			t.Errorf("%d %s %q", resp.StatusCode, got, body)
		}
		if resp.Header.Get("x-cloister-simulated") != "true" {
			t.Error("the answer does not say that it is simulated")
		}
	}
}

func TestVersionsAndBearerTokensAreChecked(t *testing.T) {
	c := theCloud(t)
	owner, err := c.AddIdentity("owner")
	if err != nil {
		t.Fatal(err)
	}
	token := managedToken(t, c, "https://vault.azure.net", owner.ClientID)
	for _, tc := range []struct {
		name, token, version string
		status               int
		text                 string
	}{
		{"7.4", token, "7.4", 200, ""}, {"7.5", token, "7.5", 200, ""}, {"7.6", token, "7.6", 200, ""}, {"2025-07-01", token, "2025-07-01", 200, ""},
		{"no version", token, "", 400, "BadParameter"}, {"old version", token, "2015-06-01", 400, "BadParameter"},
		{"audience", managedToken(t, c, "https://managedhsm.azure.net", owner.ClientID), "7.4", 401, "AKV10022: Invalid audience. Expected https://vault.azure.net"},
		{"signature", token[:len(token)-8] + "AAAAAAAA", "7.4", 401, "Unauthorized"},
		{"an empty version in the path", token, "7.4", 404, "KeyNotFound"},
		{"nonsense", "x", "7.4", 401, "Unauthorized"},
	} {
		path := "/keys"
		if tc.status == http.StatusNotFound {
			path = "/keys/nothing//versions" // older clients send an empty version so
		}
		r, err := http.NewRequest(http.MethodGet, c.Endpoints().Vault+path+"?api-version="+tc.version, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+tc.token)
		resp, err := transport(c).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp); resp.StatusCode != tc.status || !strings.Contains(body, tc.text) {
			t.Errorf("%s: %d %s", tc.name, resp.StatusCode, body)
		}
		last := requests(t, c)
		wantCaller := ""
		if tc.status != 401 {
			wantCaller = owner.ObjectID
		}
		if e := last[len(last)-1]; e.Caller != wantCaller || e.Service != Vault || e.Path != path || e.Status != tc.status {
			t.Errorf("%s: logged %+v", tc.name, e)
		}
	}
}

// managedToken asks the managed-identity endpoint as azidentity does.
func managedToken(t *testing.T, c *Cloud, resource, clientID string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, c.Endpoints().IdentityEndpoint+"?api-version=2019-08-01&resource="+resource+"&client_id="+clientID, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-IDENTITY-HEADER", c.Endpoints().IdentityHeader.Reveal())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(readAll(t, resp)), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Token
}
