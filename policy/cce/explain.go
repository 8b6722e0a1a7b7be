package cce

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloister/policy/release"
)

// The names of warnings about a container policy.
const (
	NoContainers     = "no-containers"
	DecidesItself    = "decides-itself"
	DropsEnvironment = "drops-environment"
	AnyVariable      = "any-variable"
	OutputShown      = "output-shown"
	FurtherProcesses = "further-processes"
	ByTag            = "image-by-tag"
	AnyUser          = "any-user"
	Loose            = "loose"
)

// Explanation says in words what a policy lets a host start.
type Explanation struct {
	// Containers are sentences, a list for each container.
	Containers [][]string `json:"containers"`
	// Others are those whose further policies are taken in.
	Others   []string          `json:"others"`
	Warnings []release.Warning `json:"warnings"`
}

// Explain puts a policy in words.
func Explain(p Policy) Explanation {
	e := Explanation{Containers: [][]string{}, Others: []string{}, Warnings: []release.Warning{}}
	warn := func(name, format string, args ...any) {
		e.Warnings = append(e.Warnings, release.Warning{Name: name, Text: fmt.Sprintf(format, args...)})
	}
	for _, c := range p.Containers {
		e.Containers = append(e.Containers, c.sentences())
		c.warn(warn)
	}
	for _, f := range p.Fragments {
		e.Others = append(e.Others, fmt.Sprintf("%s of %s, security version %s or higher, adds %s", f.Feed, f.Issuer, f.MinimumSVN, strings.Join(f.Includes, ", ")))
	}
	p.warn(warn)
	return e
}

type warner func(name, format string, args ...any)

func (p Policy) warn(warn warner) {
	if len(p.Containers) == 0 {
		warn(NoContainers, "it lists no container of its own: what runs is decided elsewhere, or nothing does")
	}
	for _, point := range slices.Sorted(maps.Keys(p.Own)) {
		warn(DecidesItself, "%s is decided by the policy's own rule, not by the platform's framework: %v", point, p.Own[point])
	}
	for _, name := range slices.Sorted(maps.Keys(p.Allow)) {
		switch {
		case !p.Allow[name]:
		case name == "allow_environment_variable_dropping":
			warn(DropsEnvironment, "variables that match no rule are dropped in silence: the container starts without them")
		case name == "allow_unencrypted_scratch" || name == "allow_dump_stacks" || name == "allow_runtime_logging":
			warn(Loose, "%s: what the containers hold may reach the host", name)
		}
	}
}

// sentences say every field that the platform judges: what they do not tell
// apart, a reader would take for the same.
func (c Container) sentences() []string {
	list := []string{
		fmt.Sprintf("%s starts %q in %s", c.Name, c.Command, c.WorkingDir),
		fmt.Sprintf("from %s, %d layers: %s", c.ID, len(c.Layers), strings.Join(c.Layers, ", ")),
		"as " + c.User.User.sentence("user") + ", " + c.privilege() + c.newPrivileges(),
		"in " + c.groups() + ", umask " + c.User.Umask,
	}
	if c.Seccomp != "" {
		list = append(list, "under the seccomp profile "+c.Seccomp)
	}
	for _, r := range c.EnvRules {
		list = append(list, "with "+r.sentence())
	}
	for _, m := range c.Mounts {
		list = append(list, fmt.Sprintf("%s is mounted from %s, %s, %s", m.Destination, m.Source, m.Type, strings.Join(m.Options, ",")))
	}
	for _, p := range c.ExecProcesses {
		list = append(list, fmt.Sprintf("the host may start %q in it, and send it %s", p.Command, signals(p.Signals)))
	}
	if c.AllowStdio {
		list = append(list, "the host sees what it prints")
	}
	return append(list, "the host may send it "+signals(c.Signals))
}

func (c Container) newPrivileges() string {
	if c.NoNewPrivileges {
		return ", and can gain none"
	}
	return ""
}

func (c Container) groups() string {
	var list []string
	for _, g := range c.User.Groups {
		list = append(list, g.sentence("group"))
	}
	if list == nil {
		return "no group"
	}
	return strings.Join(list, " or ")
}

func signals(list []int) string {
	if len(list) == 0 {
		return "no signal"
	}
	return strings.Trim(fmt.Sprint("signals ", list), " ")
}

func (n IDName) sentence(what string) string {
	if n.Strategy == matchAny {
		return "any " + what
	}
	return fmt.Sprintf("the %s whose %s is %s", what, n.Strategy, n.Pattern)
}

func (c Container) privilege() string {
	switch {
	case c.AllowElevated && c.Capabilities == nil:
		return "privileged"
	case c.AllowElevated:
		return "privileged, " + c.Capabilities.sentence()
	case c.Capabilities == nil:
		return "with the platform's usual capabilities"
	default:
		return c.Capabilities.sentence()
	}
}

// sentence names sets one by one where they are not the same.
func (c Capabilities) sentence() string {
	var list []string
	for _, set := range []struct {
		name string
		of   []string
	}{{"ambient", c.Ambient}, {"bounding", c.Bounding}, {"effective", c.Effective}, {"inheritable", c.Inheritable}, {"permitted", c.Permitted}} {
		if len(set.of) > 0 {
			list = append(list, set.name+" "+strings.Join(set.of, ", "))
		}
	}
	if list == nil {
		return "without any capability"
	}
	return "with the capabilities " + strings.Join(list, "; ")
}

func (r EnvRule) sentence() string {
	text := r.Pattern
	switch r.Strategy {
	case MatchText:
	case MatchRE2:
		text = "what matches " + r.Pattern
	default:
		text = fmt.Sprintf("what matches %s by strategy %q", r.Pattern, r.Strategy)
	}
	if r.Required {
		return text
	}
	return text + ", or without"
}

func (c Container) warn(warn warner) {
	if c.AllowStdio {
		warn(OutputShown, "%s: the host sees what it prints", c.Name)
	}
	for _, p := range c.ExecProcesses {
		warn(FurtherProcesses, "%s: the host may start %q in it", c.Name, p.Command)
	}
	for _, r := range c.EnvRules {
		if r.Strategy == MatchRE2 && matchesAnyName(r.Pattern) {
			warn(AnyVariable, "%s: the host may set any variable: %s", c.Name, r.Pattern)
		}
	}
	if strings.Contains(c.ID, "/") && !strings.Contains(c.ID, "@sha256:") {
		warn(ByTag, "%s: image %s is not named by its digest; its layers are still held", c.Name, c.ID)
	}
	if c.User.User.Strategy == matchAny && c.Name != "pause-container" {
		warn(AnyUser, "%s: the host chooses the user that it runs as", c.Name)
	}
}

// matchesAnyName reports whether a rule lets in variables whose names it does not
// say: those with a loader's name, for one.
func matchesAnyName(pattern string) bool {
	re, err := compileAnchored(pattern)
	return err == nil && re.MatchString("LD_PRELOAD=/x.so") && re.MatchString("BASH_ENV=/x")
}
