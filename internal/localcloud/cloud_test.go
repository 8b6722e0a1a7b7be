package localcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// objectID returns the oid of a token that the directory accepts for audience.
func objectID(t *testing.T, c *Cloud, token, audience string) string {
	t.Helper()
	oid, err := c.identity.In("").Authenticate(token, audience, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return oid
}

func TestManagedIdentityCredential(t *testing.T) {
	c := theCloud(t)
	t.Setenv("IDENTITY_ENDPOINT", c.Endpoints().IdentityEndpoint)
	t.Setenv("IDENTITY_HEADER", c.Endpoints().IdentityHeader.Reveal())
	cleanRoom, _ := c.AddIdentity(identity.CleanRoom)
	owner, _ := c.AddIdentity(identity.Owner)
	for name, tc := range map[string]struct {
		id   azidentity.ManagedIDKind
		want string
	}{
		"system":   {nil, cleanRoom.ObjectID},
		"client":   {azidentity.ClientID(owner.ClientID), owner.ObjectID},
		"object":   {azidentity.ObjectID(owner.ObjectID), owner.ObjectID},
		"resource": {azidentity.ResourceID(owner.ResourceID), owner.ObjectID},
		"unknown":  {azidentity.ClientID("00000000-0000-0000-0000-000000000000"), ""},
	} {
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: tc.id,
			ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}})
		if err != nil {
			t.Fatal(err)
		}
		token, err := cred.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
		if tc.want == "" {
			if err == nil || !strings.Contains(err.Error(), "no such identity") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := objectID(t, c, token.Token, "https://storage.azure.com"); got != tc.want {
			t.Errorf("%s: oid %s, want %s", name, got, tc.want)
		}
		if left := time.Until(token.ExpiresOn); left < 23*time.Hour {
			t.Errorf("%s: expires in %v", name, left)
		}
	}
	t.Setenv("IDENTITY_HEADER", "another")
	cred, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Another scope: the library caches tokens for the whole process.
	_, err = cred.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{"https://other.example/.default"}})
	if err == nil || !strings.Contains(err.Error(), "does not match IDENTITY_HEADER") {
		t.Errorf("wrong header: %v", err)
	}
}

func TestWorkloadIdentityCredential(t *testing.T) {
	c := theCloud(t)
	owner, _ := c.AddIdentity(identity.Owner)
	for name, tc := range map[string]struct{ token, refused string }{
		identity.Owner:     {"", ""},
		identity.CleanRoom: {"", "AADSTS700213"},
		"nonsense":         {"x.y.z", "AADSTS700027"},
	} {
		assertion := tc.token
		if assertion == "" {
			var err error
			if assertion, err = c.FederatedToken(name); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(assertion), 0o600); err != nil {
			t.Fatal(err)
		}
		cred, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options(c), ClientID: owner.ClientID, TenantID: c.Endpoints().Tenant,
			TokenFilePath: file, DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		token, err := cred.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
		if tc.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := objectID(t, c, token.Token, "https://vault.azure.net"); got != owner.ObjectID {
			t.Errorf("oid %s", got)
		}
	}
}

func TestTokenEndpointRefusals(t *testing.T) {
	c := theCloud(t)
	owner, _ := c.AddIdentity(identity.Owner)
	good := url.Values{"grant_type": {"client_credentials"}, "scope": {"https://vault.azure.net/.default"}, "client_id": {owner.ClientID},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
	for field, want := range map[string]string{
		"grant_type": "AADSTS70003", "scope": "AADSTS1002012", "client_id": "AADSTS700016", "client_assertion_type": "AADSTS7000216",
	} {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		form.Set(field, "other")
		resp, err := transport(c).PostForm(c.Endpoints().Authority+"/"+c.Endpoints().Tenant+"/oauth2/v2.0/token", form)
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp); resp.StatusCode/100 != 4 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", field, resp.StatusCode, body)
		}
	}
}

func TestRestartKeepsTheWorld(t *testing.T) {
	dir := newDir(t)
	ctx := context.Background()
	c := startIn(t, dir)
	before, e := c.Endpoints(), newEphemeral(t)
	if _, err := secretsClient(t, c).SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("kept")}, nil); err != nil {
		t.Fatal(err)
	}
	made, err := keysClient(t, c, before.HSM).CreateKey(ctx, "k", exportable(azkeys.KeyTypeOctHSM, 256, releasePolicy(c, containerPolicy)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddIdentity("partner"); err != nil {
		t.Fatal(err)
	}
	guestDir := guest(t, c, platform.GuestConfig{})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(guestDir, platform.SocketFile)); !os.IsNotExist(err) {
		t.Errorf("the guest outlived the cloud: %v", err)
	}

	c = startIn(t, dir)
	if !reflect.DeepEqual(c.Endpoints(), before) {
		t.Errorf("addresses changed: %+v, %+v", before, c.Endpoints())
	}
	if got, err := secretsClient(t, c).GetSecret(ctx, "s", "", nil); err != nil || *got.Value != "kept" {
		t.Errorf("secret: %v", err)
	}
	keys := keysClient(t, c, before.HSM)
	if got, err := keys.GetKey(ctx, "k", "", nil); err != nil || *got.Key.KID != *made.Key.KID {
		t.Errorf("key: %v", err)
	}
	if err := c.LaunchGuest(guestDir, platform.GuestConfig{Policy: containerPolicy}); err != nil {
		t.Fatal(err)
	}
	token, _, _ := attest(t, c, gather(t, guestDir, e.jwks))
	if _, err := releaseKey(keys, "k", token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP); err != nil {
		t.Errorf("release after a restart: %v", err)
	}
	checkModes(t, dir)
}

// checkModes holds that only what says whom to believe, the CA's certificate and
// the platform's roots, is readable by others.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	public := []string{CAFile, platform.RootFile, platform.IssuerFile, platform.RevocationFile}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && !(filepath.Dir(path) == dir && slices.Contains(public, d.Name())) {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || files < 10 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestOneCloudADirectory(t *testing.T) {
	dir := newDir(t)
	c := startIn(t, dir)
	_, err := Start(context.Background(), Config{Dir: dir})
	if err == nil || fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "a running process answers") {
		t.Errorf("a second cloud: %v", err)
	}
	address := strings.TrimPrefix(c.Endpoints().Vault, "https://")
	c.Close()
	taken, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(context.Background(), Config{Dir: dir})
	if err == nil || fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "the vault service cannot have its address again") {
		t.Errorf("a taken port: %v", err)
	}
	taken.Close()
	startIn(t, dir)
}

func TestTheContextStopsTheCloud(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c, err := Start(ctx, Config{Dir: newDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := c.Close(); err != nil { // waits for the stop under way
		t.Error(err)
	}
	if _, err := http.Get(c.Endpoints().IdentityEndpoint); err == nil {
		t.Error("a service answers after the stop")
	}
}

func TestFaults(t *testing.T) {
	c := startIn(t, newDir(t))
	ctx := context.Background()
	client := secretsClient(t, c)
	if _, err := client.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil); err != nil {
		t.Fatal(err)
	}
	get := func() error { _, err := client.GetSecret(ctx, "s", "", nil); return err }
	admin := Dial(c.dir)
	for _, tc := range []struct {
		status int
		code   string
	}{{429, "Throttled"}, {500, "InternalServerError"}, {503, "InternalServerError"}} {
		if err := admin.SetFault(ctx, Vault, wire.Fault{Status: tc.status, Times: 2, RetryAfter: 1}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wantStatus(t, "fault", get(), tc.status, tc.code)
		}
		if err := get(); err != nil {
			t.Errorf("after %d is over: %v", tc.status, err)
		}
	}
	if err := admin.SetFault(ctx, Vault, wire.Fault{Latency: 80 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if start := time.Now(); get() != nil || time.Since(start) < 80*time.Millisecond {
		t.Error("no latency")
	}
	// A day ahead, the vault finds the directory's one-hour tokens expired.
	if err := admin.SetFault(ctx, Vault, wire.Fault{ClockSkew: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "token expired") {
		t.Errorf("skewed: %v", err)
	}
	if err := admin.SetFault(ctx, Vault, wire.Fault{}); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("in good order again: %v", err)
	}
	for name, f := range map[string]wire.Fault{"nobody": {}, Vault: {Status: 404, Times: 1}, HSM: {Latency: -1}} {
		if err := admin.SetFault(ctx, name, f); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s %+v: %v", name, f, err)
		}
	}
}

func TestExpiredAttestationTokensReleaseNothing(t *testing.T) {
	c := startIn(t, newDir(t))
	client := keysClient(t, c, c.Endpoints().HSM)
	if _, err := client.CreateKey(context.Background(), "k", exportable(azkeys.KeyTypeOctHSM, 256, releasePolicy(c, containerPolicy)), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.SetFault(Attestation, wire.Fault{ClockSkew: -10 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	token, _, _ := attest(t, c, gather(t, guest(t, c, platform.GuestConfig{}), newEphemeral(t).jwks))
	_, err := releaseKey(client, "k", token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP)
	wantStatus(t, "an expired token", err, http.StatusForbidden, "Forbidden")
}

func TestAdminFromAnotherProcess(t *testing.T) {
	c := theCloud(t)
	ctx := context.Background()
	admin := Dial(c.dir)
	dir := newDir(t)
	if err := admin.LaunchGuest(ctx, dir, platform.GuestConfig{Policy: containerPolicy, Debug: true}); err != nil {
		t.Fatal(err)
	}
	if err := admin.LaunchGuest(ctx, dir, platform.GuestConfig{Policy: containerPolicy}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a second guest: %v", err)
	}
	snpReport(t, dir, [64]byte{})
	if err := admin.RemoveGuest(ctx, dir); err != nil {
		t.Error(err)
	}
	if err := admin.RemoveGuest(ctx, dir); fault.KindOf(err) != fault.NotFound {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := admin.LaunchGuest(ctx, dir, platform.GuestConfig{}); fault.KindOf(err) != fault.Usage || len(fault.Hints(err)) != 1 {
		t.Errorf("no policy: %v", err)
	}
	if _, err := admin.AddIdentity(ctx, "a b"); fault.KindOf(err) != fault.Usage {
		t.Errorf("name: %v", err)
	}
	if token, err := admin.FederatedToken(ctx, "partner"); err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("federated token: %v", err)
	}
	if err := Dial(newDir(t)).RotateAttestationKey(ctx); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}

func TestEndpointsFileAndItsSecret(t *testing.T) {
	c := theCloud(t)
	e, err := ReadEndpoints(c.dir)
	if err != nil || !reflect.DeepEqual(e, c.Endpoints()) {
		t.Fatalf("%v: %+v", err, e)
	}
	secret := e.IdentityHeader.Reveal()
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "header", e.IdentityHeader)
	for _, shown := range []string{logged.String(), fmt.Sprint(e), fmt.Sprintf("%+v %#v %s %x", e, e.IdentityHeader, e.IdentityHeader, e.IdentityHeader)} {
		if strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprintf("%x", secret)) {
			t.Errorf("%q shows the secret", shown)
		}
	}
	if env := strings.Join(e.Environment("id"), "\n"); !strings.Contains(env, "IDENTITY_HEADER="+secret) || !strings.Contains(env, "AZURE_CLIENT_ID=id") {
		t.Error(env)
	}
	if _, err := ReadEndpoints(newDir(t)); fault.KindOf(err) != fault.NotFound {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestManyClientsAtOnce runs the whole path side by side under the race detector.
func TestManyClientsAtOnce(t *testing.T) {
	c := startIn(t, newDir(t))
	ctx := context.Background()
	e := newEphemeral(t)
	keys, secrets := keysClient(t, c, c.Endpoints().HSM), secretsClient(t, c)
	guestDir := guest(t, c, platform.GuestConfig{})
	const clients = 8
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			name := fmt.Sprintf("k-%d", n)
			if _, err := keys.CreateKey(ctx, name, exportable(azkeys.KeyTypeOctHSM, 256, releasePolicy(c, containerPolicy)), nil); err != nil {
				t.Error(err)
			}
			if _, err := secrets.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: &name}, nil); err != nil {
				t.Error(err)
			}
			token, _, _ := attest(t, c, gather(t, guestDir, e.jwks))
			if n == 0 {
				if err := c.RotateAttestationKey(); err != nil {
					t.Error(err)
				}
			}
			if _, err := releaseKey(keys, name, token, azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var stored struct{ Keys map[string]json.RawMessage }
	if _, err := wire.LoadJSON(filepath.Join(c.dir, "hsm.json"), &stored); err != nil || len(stored.Keys) != clients {
		t.Errorf("%d keys in the file: %v", len(stored.Keys), err)
	}
	secret := c.Endpoints().IdentityHeader.Reveal()
	data, err := os.ReadFile(filepath.Join(c.dir, RequestsFile))
	if err != nil || strings.Contains(string(data), "eyJ") || strings.Contains(string(data), secret) {
		t.Errorf("the request log holds a token or a secret: %v", err)
	}
}
