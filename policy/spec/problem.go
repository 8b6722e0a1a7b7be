package spec

import (
	"fmt"
	"strings"

	"cloister/internal/fault"
)

// Problem is one thing wrong with a specification.
type Problem struct {
	File   string `json:"file,omitempty"` // where several files are looked at
	Line   int    `json:"line,omitempty"` // in the YAML file, from 1; 0 when not known
	Path   string `json:"path"`           // "datasources[1].mount"
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
	// Missing marks what a document that is still being written may lack.
	Missing bool `json:"missing,omitempty"`
}

// String gives place, reason and remedy on one line.
func (p Problem) String() string {
	var b strings.Builder
	place := p.File
	if p.Line > 0 {
		place = strings.TrimPrefix(fmt.Sprintf("%s line %d", p.File, p.Line), " ")
	}
	if place != "" {
		b.WriteString(place + ": ")
	}
	if p.Path != "" {
		fmt.Fprintf(&b, "%s: ", p.Path)
	}
	b.WriteString(p.Reason)
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

// Problems is an error that holds everything wrong, in the document's order.
type Problems []Problem

func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].String()
	}
	lines := []string{fmt.Sprintf("%d problems", len(p))}
	for _, one := range p {
		lines = append(lines, "  "+one.String())
	}
	return strings.Join(lines, "\n")
}

// Err returns nil when there are none and otherwise the problems as an error
// of kind fault.Usage.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return fault.Errorf(fault.Usage, "", "%w", p)
}
