package main

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// edits are changes of one document, of which the first error is kept.
type edits struct {
	d   *yaml.Document
	err error
}

// set puts a value in a field where one was given.
func (e *edits) set(given bool, section, field string, value any, change func(*spec.Specification)) {
	if given && e.err == nil {
		e.d, e.err = e.d.Set(section, field, value, change)
	}
}

// put sets a field, or takes it out where no value was given.
func (e *edits) put(given bool, section, field string, value any, change func(*spec.Specification)) {
	e.set(given, section, field, value, change)
	if !given && e.err == nil {
		e.d, e.err = e.d.Remove(section, field, change)
	}
}

// number returns a flag's value as the specification's numbers are; 0 when it
// was not given.
func number(c *urfave.Context, name string) (uint32, error) {
	n := c.Uint64(name)
	if n > math.MaxUint32 {
		return 0, fault.Errorf(fault.Usage, "use a number below 4294967296", "--%s %d is too large", name, n)
	}
	return uint32(n), nil
}

func resourceFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.Uint64Flag{Name: "milli-cpu", Usage: "`THOUSANDTHS` of a processor that its container is given"},
		&urfave.Uint64Flag{Name: "memory-mib", Usage: "`MIB` of memory that its container is given"},
	}
}

func resourcesOf(c *urfave.Context) (*spec.Resources, error) {
	if !c.IsSet("milli-cpu") && !c.IsSet("memory-mib") {
		return nil, nil
	}
	cpu, err := number(c, "milli-cpu")
	if err != nil {
		return nil, err
	}
	memory, err := number(c, "memory-mib")
	return &spec.Resources{MilliCPU: cpu, MemoryMiB: memory}, err
}

// portOf reads a port in decimal digits.
func portOf(s string) (uint32, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, fault.Errorf(fault.Usage, "use 1 to 65535", "%.80q is not a port", s)
	}
	return uint32(port), nil
}

// policyFileOf pins a Rego file, which must lie beside the specification or
// below: they travel together.
func policyFileOf(specification, file string) (*spec.PolicyFile, error) {
	if file == "" {
		return nil, nil
	}
	digest, err := fileDigest("policy", file, "give a file of Rego")
	if err != nil {
		return nil, err
	}
	path, err := relative(filepath.Dir(specification), file)
	if err != nil || !filepath.IsLocal(path) {
		return nil, fault.Errorf(fault.Usage, "move it into the specification's directory", "%s is not beside the specification", file)
	}
	return &spec.PolicyFile{File: filepath.ToSlash(path), Digest: digest}, nil
}

func relative(dir, file string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if file, err = filepath.Abs(file); err != nil {
		return "", err
	}
	return filepath.Rel(dir, file)
}

// policyProblems compares the policies that a specification pins with the files
// beside it. A missing one is a problem too: whoever approves the specification
// must be able to read what it lets through.
func policyProblems(path string, doc *yaml.Document) spec.Problems {
	var problems spec.Problems
	for at, pinned := range doc.Spec.Policies() {
		if reason := differs(filepath.Join(filepath.Dir(path), filepath.FromSlash(pinned.File)), pinned.Digest); reason != "" {
			problems = append(problems, spec.Problem{Line: doc.Line(at), Path: at, Reason: pinned.File + reason,
				Remedy: "get the file that the parties agreed on, or pin this one"})
		}
	}
	return problems
}

func differs(file, want string) string {
	got, err := fileDigest("policy", file, "")
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return " is not beside the specification"
	case err != nil:
		return " cannot be read: " + strings.TrimSpace(tree.Explain("reading", file, err).Error())
	case got != want:
		return " has the digest " + got + ", the specification pins " + want
	default:
		return ""
	}
}
