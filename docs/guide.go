// Package docs holds the pages for users, and what keeps them true.
//
// Life of a step: docs/guide.md is embedded; Steps cuts it at its fences into
// files to write and blocks to run, each with its party and what it must print.
// `cloister quickstart` writes and prints these steps, and package walk runs them,
// for the test and the demo: there is no second copy that could differ.
package docs

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

var (
	//go:embed guide.md
	guide string
	//go:embed operations.md
	operations string
)

// Step is one fenced block of the guide. With File it is a file to begin with;
// otherwise Party runs Text with bash in its home.
type Step struct {
	Section string // the heading that it is under
	Party   string // whose home it is run in: a folder's name
	File    string // path below the collaboration's folder
	Text    string // the file's contents or the commands, whole lines
	Output  string // what the commands print, "..." for anything; "" where that is not said
}

// Steps returns the steps of the guide in their order. It fails on a fence that
// it does not know, so that none is passed over in silence.
func Steps() ([]Step, error) { return parse(guide) }

// Operations returns the steps of docs/operations.md, which go on before the guide's
// section Consolidation.
func Operations() ([]Step, error) { return parse(operations) }

func parse(page string) (steps []Step, err error) {
	section, fence := "", ""
	var text strings.Builder
	for line := range strings.Lines(page) {
		mark, fenced := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fenced && fence == "":
			if fence = mark; fence == "" {
				return nil, fmt.Errorf("there is a block under %q that says not what it is", section)
			}
			text.Reset()
		case fenced:
			if steps, err = add(steps, section, fence, text.String()); err != nil {
				return nil, err
			}
			fence = ""
		case fence != "":
			text.WriteString(line)
		case strings.HasPrefix(line, "## "):
			section = strings.TrimSpace(line[len("## "):])
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("the block %q does not end", fence)
	}
	return steps, nil
}

func add(steps []Step, section, fence, text string) ([]Step, error) {
	kind, of, _ := strings.Cut(fence, " ")
	last := len(steps) - 1
	switch {
	case kind == "sh" && of != "":
		return append(steps, Step{Section: section, Party: of, Text: text}), nil
	case kind == "file" && of != "":
		return append(steps, Step{Section: section, File: of, Text: text}), nil
	case kind == "output" && last >= 0 && steps[last].Party != "" && steps[last].Output == "":
		steps[last].Output = text
		return steps, nil
	}
	return nil, fmt.Errorf("there is a block %q under %q: want sh PARTY, file PATH, or output after sh", fence, section)
}

// Folders are those below the collaboration's that the steps need beside the
// parties' homes: what is handed over, the stores, the container's disk.
var Folders = []string{"handed", "store", "room"}

// Printed tells whether the step's commands printed what the guide says.
func (s Step) Printed(out string) bool {
	want := regexp.QuoteMeta(strings.TrimSpace(s.Output))
	want = strings.ReplaceAll(want, regexp.QuoteMeta("..."), ".*")
	return s.Output == "" || regexp.MustCompile(`(?s)^`+want+`$`).MatchString(strings.TrimSpace(out))
}
