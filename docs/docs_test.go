package docs

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest = regexp.MustCompile("`(Test[A-Za-z0-9_]+)` \\(([a-z0-9/]+)\\)")
	anyTest   = regexp.MustCompile(`\bTest[A-Z]`)
)

// TestEveryClaimIsTested: each row of the tables that end in "held by" names its
// tests, and each of them is in the package that it is said to be in.
func TestEveryClaimIsTested(t *testing.T) {
	page, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	claims, inTable := 0, false
	for line := range strings.Lines(string(page)) {
		switch {
		case strings.Contains(line, "| held by |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|---"):
			claims++
			named := namedTest.FindAllStringSubmatch(line, -1)
			if len(named) == 0 || len(named) != len(anyTest.FindAllString(line, -1)) {
				t.Errorf("the claim names no test, or in another form: %s", line)
			}
			for _, n := range named {
				checkTest(t, n[1], n[2])
			}
		}
	}
	if claims < 30 {
		t.Errorf("the page makes %d claims: the test has read another form", claims)
	}
}

func checkTest(t *testing.T, name, pkg string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(source, []byte("\nfunc "+name+"(t *testing.T)")) {
			return
		}
	}
	t.Errorf("%s is in none of the %d test files of %s", name, len(files), pkg)
}

var (
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	mark    = regexp.MustCompile("[^a-z0-9 _-]")
)

// TestLinks: what the README and these pages link to in the source is there, the
// heading too where one is named.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			links++
			checkLink(t, page, l[1])
		}
	}
	if links < 20 {
		t.Errorf("%d links were found: the test has read another form", links)
	}
}

func checkLink(t *testing.T, page, to string) {
	t.Helper()
	path, anchor, _ := strings.Cut(to, "#")
	target := page
	if path != "" {
		target = filepath.Join(filepath.Dir(page), filepath.FromSlash(path))
	}
	if _, err := os.Stat(target); err != nil {
		t.Errorf("%s links to %s: %v", page, to, err)
		return
	}
	if anchor == "" {
		return
	}
	text, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heading.FindAllStringSubmatch(string(text), -1) {
		if strings.ReplaceAll(mark.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == anchor {
			return
		}
	}
	t.Errorf("%s links to %s: there is no such heading", page, to)
}
