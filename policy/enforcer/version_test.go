//go:build rego

package enforcer

import (
	"regexp"
	"testing"

	"github.com/Microsoft/hcsshim/pkg/securitypolicy"
)

// version is the generation that this build of the enforcer has.
func version(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^version := "([0-9.]+)"`).FindStringSubmatch(securitypolicy.FrameworkCode)
	if m == nil {
		t.Fatal("the framework names no version")
	}
	return m[1]
}
