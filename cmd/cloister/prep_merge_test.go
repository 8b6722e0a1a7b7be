package main

import (
	"strings"
	"testing"

	"cloister/internal/fault"
)

func TestURLsBelow(t *testing.T) {
	const into = "https://account.blob.core.windows.net/container/outputs"
	for volume, want := range map[string]string{
		into + "/r1":                 "r1",
		into + "/a/b/":               "a/b",
		into + "/r1?sv=1&sig=SECRET": "r1",
		into + "/./x/../r1":          "r1",
		"https://ACCOUNT.blob.core.windows.net/container/outputs/r1": "r1",
		into: "",
		"https://account.blob.core.windows.net/container/outputs2/r1": "",
		"https://account.blob.core.windows.net/container":             "",
		"https://other.blob.core.windows.net/container/outputs/r1":    "",
		"http://account.blob.core.windows.net/container/outputs/r1":   "",
		into + "/../r1":          "",
		into + "/data/r1":        "",
		into + "/signature":      "",
		"/outputs/r1":            "",
		"outputs/r1":             "",
		into + "x/r1?sig=SECRET": "",
	} {
		for _, at := range []string{into, into + "/", into + "?sig=SECRET"} {
			got, err := placeBelow(at, volume)
			if got != want && err == nil || (err == nil) != (want != "") || err != nil && fault.KindOf(err) != fault.Usage {
				t.Errorf("%s below %s: %q, %v; want %q", volume, at, got, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error shows a credential: %v", err)
			}
		}
	}
}
