package object

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	good := []string{"a", "d/3f", "m/00000001", "A-b_c.d/e", strings.Repeat("x", 255)}
	bad := []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", ".tmp", "a/.b", `a\b`, "a b", "a\x00b", "é",
		"C:a", strings.Repeat("x", 256), strings.Repeat("x/", 256) + "x"}
	for _, name := range good {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for _, name := range bad {
		if CheckName(name) == nil {
			t.Errorf("CheckName(%q) accepts it", name)
		}
	}
}
