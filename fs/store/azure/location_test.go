package azure

import (
	"fmt"
	"strings"
	"testing"

	"cloister/internal/fault"
)

func TestLocations(t *testing.T) {
	for raw, want := range map[string]string{
		"https://acct.blob.core.windows.net/cont/vol":           "https://acct.blob.core.windows.net cont vol",
		"https://ACCT.Blob.core.windows.net/cont/a/b/":          "https://acct.blob.core.windows.net cont a/b",
		"https://acct.blob.core.windows.net/cont":               "https://acct.blob.core.windows.net cont ",
		"https://acct.blob.core.usgovcloudapi.net/cont/vol":     "https://acct.blob.core.usgovcloudapi.net cont vol",
		"https://acct.blob.core.chinacloudapi.cn/cont/vol":      "https://acct.blob.core.chinacloudapi.cn cont vol",
		"https://acct.z01.blob.storage.azure.net/cont/vol":      "https://acct.z01.blob.storage.azure.net cont vol",
		"https://blobs.example.org:8443/cont/vol":               "https://blobs.example.org:8443 cont vol",
		"http://127.0.0.1:10000/devstoreaccount1/cont/vol":      "http://127.0.0.1:10000/devstoreaccount1 cont vol",
		"http://localhost:10000/devstoreaccount1/cont/vol":      "http://localhost:10000/devstoreaccount1 cont vol",
		"http://[::1]:10000/devstoreaccount1/cont/vol":          "http://[::1]:10000/devstoreaccount1 cont vol",
		"https://127.0.0.1:10000/devstoreaccount1/cont/vol/":    "https://127.0.0.1:10000/devstoreaccount1 cont vol",
		"https://acct.blob.core.windows.net/cont/vol" + testSAS: "https://acct.blob.core.windows.net cont vol",
	} {
		l, err := parseLocation(raw)
		if got := l.endpoint + " " + l.container + " " + l.prefix; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", raw, got, err, want)
		}
		if azure := strings.Contains(want, "acct"); l.isAzure() != azure {
			t.Errorf("%s: is Azure's: %v", raw, l.isAzure())
		}
	}
}

func TestRefusedLocations(t *testing.T) {
	for raw, want := range map[string]string{
		"http://acct.blob.core.windows.net/cont/vol":                "must be https",
		"http://10.0.0.1/acct/cont/vol":                             "must be https",
		"http://127.0.0.1.example.org/acct/cont/vol":                "must be https",
		"http://localhost.example.org/acct/cont/vol":                "must be https",
		"ftp://127.0.0.1/acct/cont/vol":                             "must be https",
		"https:///cont/vol":                                         "names no host",
		"https://:443/cont/vol":                                     "names no host",
		"https://acct.blob.core.windows.net":                        "names no container",
		"https://acct.blob.core.windows.net/UPPER/vol":              "names no container",
		"https://acct.blob.core.windows.net/a--b/vol":               "names no container",
		"https://acct.blob.core.windows.net/-ab/vol":                "names no container",
		"https://acct.blob.core.windows.net/ab/vol":                 "names no container",
		"https://acct.blob.core.windows.net/$root/vol":              "names no container",
		"https://acct.blob.core.windows.net/cont/../vol":            "the prefix",
		"https://acct.blob.core.windows.net/cont/a//b":              "the prefix",
		"https://acct.blob.core.windows.net/cont/a b":               "characters",
		"https://acct.blob.core.windows.net/cont/a%2fb":             "characters",
		"https://acct.blob.core.windows.net/cont/vol#x":             "characters",
		"https://user:secret@acct.blob.core.windows.net/c/v":        "user name",
		"https://acct.blob.core.windows.net/cont/vol?sig=":          "not a SAS",
		"https://acct.blob.core.windows.net/cont/vol?secret":        "not a SAS",
		"https://acct.blob.core.windows.net/cont/vol?a=%zz&secret":  "not a SAS",
		"https://acct.blob.core.windows.net/c\x7f/vol?sig=secret":   "not a URL",
		"https://acct.blob.core.windows.net/c/v?sig=secret&comp=x":  "no part of a SAS",
		"https://acct.blob.core.windows.net/c/v?sig=x&snapshot=sec": "no part of a SAS",
		"http://127.0.0.1:10000":                                    "names no account",
		"http://127.0.0.1:10000/devstoreaccount1":                   "names no container",
	} {
		_, err := parseLocation(raw)
		if fault.KindOf(err) != fault.Usage || !strings.Contains(fmt.Sprint(err), want) || len(fault.Hints(err)) != 1 {
			t.Errorf("%s: %v, want a usage error with %q and a hint", raw, err, want)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: the error shows a secret: %v", raw, err)
		}
	}
}

// Whatever the location, what is parsed is https or loopback, shows no query,
// and parses again to the same place.
func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"https://acct.blob.core.windows.net/cont/vol" + testSAS, "http://127.0.0.1:1/a/cont/p/q", "https://[::1%25en0]:1/a/ccc"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := parseLocation(raw)
		if err != nil {
			return
		}
		if !strings.HasPrefix(l.endpoint, "https://") && !l.loopback {
			t.Errorf("%q: plain http to %s", raw, l.host)
		}
		if strings.Contains(l.String(), "?") || strings.Contains(fmt.Sprintf("%+v %#v", l, l), "sig=") {
			t.Errorf("%q: shows its query", raw)
		}
		again, err := parseLocation(l.String())
		if again.sas = l.sas; err != nil || again != l {
			t.Errorf("%q: %v parses to %v, %v", raw, l, again, err)
		}
	})
}
