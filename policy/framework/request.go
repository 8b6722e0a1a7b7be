package framework

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cloister/policy/cce"
)

// RequestOf returns what a host would ask for to start a container of a policy:
// its variables are the required ones and those that the rules spell out. What a
// required pattern stands for nobody but the policy's author knows; the second
// result names such rules.
func RequestOf(c cce.Container) (Request, []string) {
	r := Request{
		Layers: c.Layers, Command: c.Command, Environment: []string{}, WorkingDir: c.WorkingDir, Mounts: []cce.Mount{},
		Privileged: c.AllowElevated, NoNewPrivileges: c.NoNewPrivileges, Seccomp: c.Seccomp,
		User: cmp.Or(pattern(c.User.User), "0"), Groups: []string{}, Umask: c.User.Umask, Capabilities: capabilitiesOf(c),
	}
	var unknown []string
	for _, rule := range c.EnvRules {
		switch {
		case rule.Strategy == cce.MatchText && rule.Required:
			r.Environment = append(r.Environment, rule.Pattern)
		case rule.Required:
			unknown = append(unknown, rule.Pattern)
		}
	}
	// Generations before 0.5 refuse a container without any variable; none is
	// started without: the platform sets some.
	if i := slices.IndexFunc(c.EnvRules, func(r cce.EnvRule) bool { return r.Strategy == cce.MatchText }); len(r.Environment) == 0 && i >= 0 {
		r.Environment = append(r.Environment, c.EnvRules[i].Pattern)
	}
	for _, g := range c.User.Groups {
		r.Groups = append(r.Groups, cmp.Or(pattern(g), "0"))
	}
	for i, m := range c.Mounts {
		m.Source = strings.ReplaceAll(m.Source, ".+", fmt.Sprint(i))
		m.Source = strings.Replace(m.Source, "sandbox://", SandboxMounts, 1)
		r.Mounts = append(r.Mounts, m)
	}
	return r, unknown
}

func pattern(n cce.IDName) string {
	if n.Strategy == "id" {
		return n.Pattern
	}
	return ""
}

// capabilitiesOf are those that the platform would give.
func capabilitiesOf(c cce.Container) cce.Capabilities {
	if c.Capabilities != nil {
		return *c.Capabilities
	}
	if c.AllowElevated {
		all := privileged[:]
		return cce.Capabilities{Ambient: []string{}, Bounding: all, Effective: all, Inheritable: all, Permitted: all}
	}
	some := unprivileged[:]
	return cce.Capabilities{Ambient: []string{}, Bounding: some, Effective: some, Inheritable: []string{}, Permitted: some}
}

// Mutation is a request that differs from an admissible one in one thing.
type Mutation struct {
	Name    string  `json:"name"` // what was changed, "argument: one more"
	Request Request `json:"request"`
	// Allowed says in words where the policy itself lets it in; "" where it must
	// be refused.
	Allowed string `json:"allowed,omitempty"`
	// MayDrop: where the framework may take away what was added, letting in no
	// more than was admissible.
	MayDrop bool `json:"mayDrop,omitempty"`
}

// Mutations are changes to r, which is RequestOf(c), in each of the things that
// a policy is about.
func Mutations(c cce.Container, r Request) []Mutation {
	m := mutator{c: c, base: r}
	m.command()
	m.environment()
	m.layers()
	m.mounts()
	m.user()
	m.privileges()
	return m.list
}

type mutator struct {
	c    cce.Container
	base Request
	list []Mutation
}

// add makes a mutation of a copy of the base.
func (m *mutator) add(name string, change func(*Request)) *Mutation {
	r := m.base
	for _, list := range []*[]string{&r.Layers, &r.Command, &r.Environment, &r.Groups} {
		*list = slices.Clone(*list)
	}
	r.Mounts = slices.Clone(r.Mounts)
	change(&r)
	m.list = append(m.list, Mutation{Name: name, Request: r})
	return &m.list[len(m.list)-1]
}

func (m *mutator) command() {
	for i := range m.base.Command {
		m.add(fmt.Sprintf("argument %d: changed", i), func(r *Request) { r.Command[i] += "x" })
		m.add(fmt.Sprintf("argument %d: left out", i), func(r *Request) { r.Command = slices.Delete(r.Command, i, i+1) })
	}
	m.add("argument: one more", func(r *Request) { r.Command = append(r.Command, "--debug") })
	m.add("working directory: another", func(r *Request) { r.WorkingDir = "/tmp" + r.WorkingDir })
}

func (m *mutator) environment() {
	for i, v := range m.base.Environment {
		name, _, _ := strings.Cut(v, "=")
		changed := m.add("environment: "+name+" changed", func(r *Request) { r.Environment[i] += "x" })
		if required := slices.Contains(m.c.EnvRules, cce.EnvRule{Pattern: v, Required: true, Strategy: cce.MatchText}); !required {
			changed.MayDrop = true
			continue
		}
		m.add("environment: "+name+" left out", func(r *Request) { r.Environment = slices.Delete(r.Environment, i, i+1) })
	}
	// A loader's variable, by itself and hidden in what a rule without anchors
	// would find an admissible one in.
	for name, v := range map[string]string{"one more": "LD_PRELOAD=/x.so", "one more, hidden": "LD_PRELOAD=/x.so HOSTNAME=h", "one more, on a line of its own": "HOSTNAME=h\nLD_PRELOAD=/x.so"} {
		mutation := m.add("environment: "+name, func(r *Request) { r.Environment = append(r.Environment, v) })
		mutation.MayDrop = true
	}
}

func (m *mutator) layers() {
	for i := range m.base.Layers {
		m.add(fmt.Sprintf("layer %d: changed", i), func(r *Request) { r.Layers[i] = flip(r.Layers[i]) })
		m.add(fmt.Sprintf("layer %d: left out", i), func(r *Request) { r.Layers = slices.Delete(r.Layers, i, i+1) })
	}
	m.add("layer: one more", func(r *Request) { r.Layers = append(r.Layers, strings.Repeat("ab", 32)) })
	if n := len(m.base.Layers); n > 1 && m.base.Layers[0] != m.base.Layers[n-1] {
		m.add("layer: another order", func(r *Request) { slices.Reverse(r.Layers) })
	}
}

// flip changes the first digit of a hash.
func flip(hash string) string {
	if strings.HasPrefix(hash, "0") {
		return "1" + hash[1:]
	}
	return "0" + hash[min(1, len(hash)):]
}

func (m *mutator) mounts() {
	m.add("mount: one more", func(r *Request) {
		r.Mounts = append(r.Mounts, cce.Mount{Destination: "/mnt/evil", Options: []string{"rbind", "rshared", "rw"}, Source: SandboxMounts + "/tmp/atlas/emptydir/evil", Type: "bind"})
	})
	if len(m.base.Command) > 0 {
		m.add("mount: over the program", func(r *Request) {
			r.Mounts = append(r.Mounts, cce.Mount{Destination: r.Command[0], Options: []string{"rbind", "rshared", "ro"}, Source: SandboxMounts + "/tmp/atlas/emptydir/evil", Type: "bind"})
		})
	}
	for i, mount := range m.base.Mounts {
		m.add("mount "+mount.Destination+": another source", func(r *Request) { r.Mounts[i].Source = "/run/gcs/c/other/rootfs" })
		m.add("mount "+mount.Destination+": another place", func(r *Request) { r.Mounts[i].Destination = "/etc" + mount.Destination })
		m.add("mount "+mount.Destination+": other options", func(r *Request) { r.Mounts[i].Options = []string{"rbind", "rshared", "exec"} })
	}
}

func (m *mutator) user() {
	other := "0"
	if m.base.User == "0" {
		other = "1"
	}
	anyUser := m.add("user: another", func(r *Request) { r.User = other })
	if m.c.User.User.Strategy == "any" {
		anyUser.Allowed = "its user may be any"
	}
	group := m.add("group: one more", func(r *Request) { r.Groups = append(r.Groups, "4711") })
	if slices.ContainsFunc(m.c.User.Groups, func(n cce.IDName) bool { return n.Strategy == "any" }) {
		group.Allowed = "its groups may be any"
	}
	m.add("umask: another", func(r *Request) { r.Umask = "0000" })
}

// beyond is no capability that any policy lists; one that lists all has nothing
// else left to be given.
const beyond = "CAP_BEYOND_ALL"

func (m *mutator) privileges() {
	for _, name := range []string{"CAP_SYS_ADMIN", beyond} {
		if slices.Contains(m.base.Capabilities.Bounding, name) {
			continue
		}
		mutation := m.add("capability: "+name, func(r *Request) {
			all := &r.Capabilities
			for _, set := range []*[]string{&all.Ambient, &all.Bounding, &all.Effective, &all.Inheritable, &all.Permitted} {
				*set = append(slices.Clone(*set), name)
			}
		})
		mutation.MayDrop = true
	}
	if !m.base.Privileged {
		m.add("privilege: privileged", func(r *Request) { r.Privileged = true })
	}
	if m.base.NoNewPrivileges {
		m.add("privilege: new privileges", func(r *Request) { r.NoNewPrivileges = false })
	}
	m.add("seccomp: another profile", func(r *Request) { r.Seccomp = strings.Repeat("ab", 32) })
}
