//go:build linux

package mount_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var namedTest = regexp.MustCompile("\\[`(Test\\w+)`\\]\\(([\\w./]+_test\\.go)\\)")

// TestSemanticsPage: every promise of the page names a test, and every test it
// names is where it says.
func TestSemanticsPage(t *testing.T) {
	page, err := os.ReadFile("SEMANTICS.md")
	if err != nil {
		t.Fatal(err)
	}
	promises := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(line, "|\n "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == "promise" {
			if namedTest.MatchString(line) {
				t.Errorf("a test is named outside a promise: %s", line)
			}
			continue
		}
		promises++
		tests := namedTest.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(cells) != 2 || len(tests) == 0 || strings.Count(cells[len(cells)-1], "Test") != len(tests) {
			t.Errorf("the promise names no test, or in another form: %s", line)
		}
		for _, named := range tests {
			checkNamed(t, named[1], named[2])
		}
	}
	if promises < 20 {
		t.Errorf("the page has %d promises: the test has read another form", promises)
	}
}

func checkNamed(t *testing.T, name, file string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(source), "\nfunc "+name+"(t *testing.T) {") {
		t.Errorf("%s is not in %s (%v)", name, file, err)
	}
}
