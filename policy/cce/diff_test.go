package cce

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sample is a policy of two containers, as generated.
func sample(t *testing.T) Policy {
	t.Helper()
	list, err := containersOf(distributed(t, aci(t)), inputs())
	if err != nil {
		t.Fatal(err)
	}
	p := Policy{APIVersion: apiVersion, FrameworkVersion: frameworkVersion, Containers: list, Fragments: []Fragment{Infrastructure{}.fragment()}, Allow: map[string]bool{}}
	for _, a := range allowances {
		p.Allow[a.name] = a.allowed
	}
	return p
}

// changes are each a difference in meaning, and what the difference is called.
var changes = []struct {
	what string
	do   func(*Policy)
}{
	{"api_version", func(p *Policy) { p.APIVersion = "0.10.0" }},
	{"fragment", func(p *Policy) { p.Fragments = []Fragment{{Feed: "x"}} }},
	{"allow_dump_stacks", func(p *Policy) {
		p.Allow = maps.Clone(p.Allow)
		p.Allow["allow_dump_stacks"] = true
	}},
	{"mount_device decided by itself:", func(p *Policy) { p.Own = map[string]any{"mount_device": map[string]any{"allowed": true}} }},
	{"container count: command", func(p *Policy) { p.Containers[1].Command = append(slices.Clone(p.Containers[1].Command), "x") }},
	{"container count: command", func(p *Policy) {
		p.Containers[1].Command = slices.Clone(p.Containers[1].Command)
		slices.Reverse(p.Containers[1].Command)
	}},
	{"container count: layers", func(p *Policy) {
		p.Containers[1].Layers = slices.Clone(p.Containers[1].Layers)
		slices.Reverse(p.Containers[1].Layers)
	}},
	{"container count: variable", func(p *Policy) {
		rules := p.Containers[1].EnvRules // where one may come twice
		p.Containers[1].EnvRules = slices.DeleteFunc(slices.Clone(rules), func(r EnvRule) bool { return r == rules[0] })
	}},
	{"container count: mount", func(p *Policy) { p.Containers[1].Mounts = p.Containers[1].Mounts[1:] }},
	{"container count: capabilities", func(p *Policy) { p.Containers[1].Capabilities = nil }},
	{"container count: user", func(p *Policy) { p.Containers[1].User.User = IDName{Strategy: matchAny} }},
	{"container count: no_new_privileges", func(p *Policy) { p.Containers[1].NoNewPrivileges = false }},
	{"container count: allow_elevated", func(p *Policy) { p.Containers[1].AllowElevated = true }},
	{"container count: allow_stdio_access", func(p *Policy) { p.Containers[1].AllowStdio = true }},
	{"container count: process", func(p *Policy) { p.Containers[1].ExecProcesses = []Process{{Command: []string{"/bin/sh"}}} }},
	{"container count: signals", func(p *Policy) { p.Containers[1].Signals = nil }},
	{"container count: the whole container", func(p *Policy) { p.Containers = slices.Delete(slices.Clone(p.Containers), 1, 2) }},
}

func TestDiffNamesEachChange(t *testing.T) {
	for _, c := range changes {
		p, q := sample(t), sample(t)
		c.do(&q)
		d := Diff(p, q)
		if len(d) == 0 || !strings.HasPrefix(d[0].What, c.what) {
			t.Errorf("%s: %v", c.what, d)
		}
		if back := Diff(q, p); len(back) != len(d) {
			t.Errorf("%s: %v from the other side", c.what, back)
		}
	}
}

// TestDiffIsByMeaning: whatever the order of what has none, and however many
// changes, exactly the changes are differences.
func TestDiffIsByMeaning(t *testing.T) {
	base := sample(t)
	rapid.Check(t, func(t *rapid.T) {
		q := base
		q.Containers = rapid.Permutation(base.Containers).Draw(t, "containers")
		for i := range q.Containers {
			c := &q.Containers[i]
			c.EnvRules = append(rapid.Permutation(c.EnvRules).Draw(t, "variables"), c.EnvRules[0])
			c.Mounts = rapid.Permutation(c.Mounts).Draw(t, "mounts")
			if c.Capabilities != nil {
				caps := *c.Capabilities
				caps.Bounding = rapid.Permutation(caps.Bounding).Draw(t, "capabilities")
				c.Capabilities = &caps
			}
		}
		if d := Diff(base, q); len(d) != 0 {
			t.Fatalf("the order counts: %v", d)
		}
		i := slices.IndexFunc(q.Containers, func(c Container) bool { return c.Name == "count" })
		q.Containers[1], q.Containers[i] = q.Containers[i], q.Containers[1]
		c := rapid.SampledFrom(changes).Draw(t, "change")
		c.do(&q)
		if len(Diff(base, q)) == 0 {
			t.Fatalf("%s is not seen", c.what)
		}
	})
}

func TestExplain(t *testing.T) {
	e := Explain(sample(t))
	if len(e.Containers) != 3 || len(e.Others) != 1 || len(e.Warnings) != 0 {
		t.Errorf("%+v", e)
	}
	text := strings.Join(e.Containers[1], "\n")
	for _, want := range []string{`"/cloister-shim"`, "as the user whose id is 1000, without any capability", "with LANG=C.UTF-8", "/mnt is mounted from"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for name, change := range map[string]func(*Policy){
		NoContainers:     func(p *Policy) { p.Containers = nil },
		DecidesItself:    func(p *Policy) { p.Own = map[string]any{"mount_device": true} },
		DropsEnvironment: func(p *Policy) { p.Allow["allow_environment_variable_dropping"] = true },
		Loose:            func(p *Policy) { p.Allow["allow_dump_stacks"] = true },
		AnyVariable:      func(p *Policy) { p.Containers[1].EnvRules = []EnvRule{{".+=.+", false, MatchRE2}} },
		OutputShown:      func(p *Policy) { p.Containers[1].AllowStdio = true },
		FurtherProcesses: func(p *Policy) { p.Containers[1].ExecProcesses = []Process{{}} },
		ByTag:            func(p *Policy) { p.Containers[1].ID = "registry.example/app:1" },
		AnyUser:          func(p *Policy) { p.Containers[1].User.User.Strategy = matchAny },
	} {
		p := sample(t)
		change(&p)
		if e := Explain(p); len(e.Warnings) != 1 || e.Warnings[0].Name != name {
			t.Errorf("%s: %+v", name, e.Warnings)
		}
	}
}
