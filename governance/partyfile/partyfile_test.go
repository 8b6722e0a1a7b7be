package partyfile

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

func create(t *testing.T, algorithm statement.Algorithm) (string, *statement.PrivateKey) {
	t.Helper()
	key, err := statement.GenerateKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alice")
	if err := Create(path, New{Name: "alice", Key: key}); err != nil {
		t.Fatal(err)
	}
	return path, key
}

func TestCreateAndRead(t *testing.T) {
	for _, algorithm := range []statement.Algorithm{statement.P256, statement.Ed25519} {
		path, key := create(t, algorithm)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		p, err := Read(path)
		if err != nil || p.Name != "alice" || p.Key.Public().Fingerprint() != key.Public().Fingerprint() {
			t.Fatalf("%+v %v", p, err)
		}
		for _, name := range []string{path, path + PublicSuffix} {
			if d, err := ReadDocument(name); err != nil || d.Fingerprint() != key.Public().Fingerprint() {
				t.Errorf("%s: %+v %v", name, d, err)
			}
		}
		public, err := os.ReadFile(path + PublicSuffix)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, _ := key.PKCS8()
		if strings.Contains(string(public), base64.StdEncoding.EncodeToString(pkcs8)[:40]) || strings.Contains(string(public), "private") {
			t.Error("the document has the private key")
		}
	}
}

// TestRecipientKey: the private half is in the private file alone, the public
// half in the document.
func TestRecipientKey(t *testing.T) {
	key, err := statement.GenerateKey(statement.P256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alice")
	if err := Create(path, New{Name: "alice", Key: key, Recipient: RecipientKey{Public: []byte("the public half"), Private: []byte("the private half")}}); err != nil {
		t.Fatal(err)
	}
	p, err := Read(path)
	if err != nil || string(p.Recipient) != "the private half" {
		t.Fatalf("%+v %v", p, err)
	}
	d, err := ReadDocument(path)
	if err != nil || string(d.Recipient) != "the public half" {
		t.Errorf("%+v %v", d, err)
	}
	public, err := os.ReadFile(path + PublicSuffix)
	if err != nil || strings.Contains(string(public), base64.StdEncoding.EncodeToString([]byte("the private half"))) {
		t.Errorf("the document has the private half, or is not there: %v", err)
	}
	p.Destroy()
	if _, err := p.Key.SignMessage(nil); err == nil || p.Recipient != nil {
		t.Error("a destroyed party can still sign or open")
	}
}

func TestCreateRefusesToOverwriteEitherFile(t *testing.T) {
	path, key := create(t, statement.Ed25519)
	before, _ := os.ReadFile(path)
	if err := Create(path, New{Name: "alice", Key: key}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "already there") {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the key was overwritten")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, New{Name: "alice", Key: key}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half of the pair was left")
	}
	if err := Create(filepath.Join(t.TempDir(), "x"), New{Name: "Not A Name", Key: key}); fault.KindOf(err) != fault.Usage {
		t.Errorf("got %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	path, _ := create(t, statement.P256)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(string(good), `"privateKey": "`)[1][:60]
	for _, tc := range []struct {
		name string
		data string
		mode os.FileMode
		kind fault.Kind
		want string
	}{
		{"readable by the group", string(good), 0o640, fault.Refused, "accessible to others (mode 640)"},
		{"unknown member", strings.Replace(string(good), `"name"`, `"x": 1, "name"`, 1), 0o600, fault.Usage, "not of the form"},
		{"two values", string(good) + "{}", 0o600, fault.Usage, "not of the form"},
		{"other type", strings.Replace(string(good), "/v1", "/v2", 1), 0o600, fault.Usage, "of another type"},
		{"no key", strings.Replace(string(good), secret, "", 1), 0o600, fault.Usage, "is not a party's key"},
		{"bad name", strings.Replace(string(good), `"alice"`, `"../a"`, 1), 0o600, fault.Usage, "a-z"},
		{"empty", "", 0o600, fault.Usage, "not of the form"},
		{"huge", strings.Repeat("x", maxSize+1), 0o600, fault.Usage, "no party file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tc.data), tc.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if err == nil || fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got (%v) %v, want (%v) with %q", fault.KindOf(err), err, tc.kind, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), secret[:16]) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := ReadDocument(path + "x"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
}

func TestAKeyInATokenIsNotInTheFile(t *testing.T) {
	key, err := statement.GenerateKey(statement.P256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alice")
	token := Token{Key: "alice", Label: "desk", Module: "/usr/lib/module.so", PublicKey: key.Public().SPKI()}
	if err := Create(path, New{Name: "alice", Token: &token}); err != nil {
		t.Fatal(err)
	}
	p, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Destroy()
	if p.Key != nil || p.Token == nil || p.Token.Label != "desk" {
		t.Errorf("%+v", p)
	}
	if doc, err := ReadDocument(path); err != nil || doc.Fingerprint() != key.Public().Fingerprint() {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestARecoveryKeyIsInAFileOfItsOwn(t *testing.T) {
	key, err := statement.GenerateKey(statement.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alice.recovery")
	if err := CreateRecovery(path, "alice", key); err != nil {
		t.Fatal(err)
	}
	p, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Destroy()
	if p.Key.Public().Fingerprint() != key.Public().Fingerprint() || p.Recipient != nil {
		t.Errorf("%+v", p)
	}
	if _, err := os.Stat(path + PublicSuffix); !os.IsNotExist(err) {
		t.Errorf("it has a document: %v", err)
	}
}
