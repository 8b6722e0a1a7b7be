package vault

import (
	"net/url"
	"testing"
)

// FuzzID: an address that parses names a host and nothing that a URL could
// smuggle in beside it.
func FuzzID(f *testing.F) {
	f.Add("secrets", "https://v.vault.azure.net/secrets/dek/0123")
	f.Add("keys", "https://hsm:8443/keys/kek")
	f.Add("keys", "https://v/keys/%2e%2e/x")
	f.Fuzz(func(t *testing.T, collection, address string) {
		if collection != "keys" && collection != "secrets" {
			return
		}
		id, err := ParseID(collection, address)
		if err != nil {
			return
		}
		u, err := url.Parse(id.Vault)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			t.Errorf("%q has vault %q", address, id.Vault)
		}
		form := id.Vault + "/" + collection + "/" + id.Name
		if id.Version != "" {
			form += "/" + id.Version
		}
		if again, err := ParseID(collection, form); err != nil || again != id {
			t.Errorf("%q is %+v, written again %+v, %v", address, id, again, err)
		}
	})
}
