package cce

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// said is all that Explain says of a policy.
func said(p Policy) string {
	e := Explain(p)
	var text strings.Builder
	for _, lines := range append(e.Containers, e.Others) {
		text.WriteString(strings.Join(lines, "\n") + "\n")
	}
	for _, w := range e.Warnings {
		text.WriteString(w.Name + " " + w.Text + "\n")
	}
	return text.String()
}

// TestExplainSaysEachChange: whatever the platform would judge otherwise, and in
// whichever order the containers stand, is explained otherwise.
func TestExplainSaysEachChange(t *testing.T) {
	for _, c := range changes {
		if strings.HasPrefix(c.what, "api_version") {
			continue // how the text is read, not what is admitted
		}
		p, q := sample(t), sample(t)
		c.do(&q)
		if said(p) == said(q) {
			t.Errorf("%s: not explained", c.what)
		}
	}
}

// TestExplainSaysEveryField: of a container, its mounts, rules, processes and
// users, each field that is set otherwise is explained otherwise.
func TestExplainSaysEveryField(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, q := sample(t), sample(t)
		at := rapid.IntRange(0, len(q.Containers)-1).Draw(rt, "container")
		where := alter(rt, reflect.ValueOf(&q.Containers[at]).Elem(), "")
		unread(&q.Containers[at])
		if said(p) == said(q) && len(Diff(p, q)) > 0 {
			rt.Fatalf("%s%s: not explained", q.Containers[at].Name, where)
		}
	})
}

// unread takes the pattern from who may be anybody: nothing reads it.
func unread(c *Container) {
	c.User.Groups = slices.Clone(c.User.Groups)
	for _, n := range append([]*IDName{&c.User.User}, pointers(c.User.Groups)...) {
		if n.Strategy == matchAny {
			n.Pattern = ""
		}
	}
}

func pointers(list []IDName) (all []*IDName) {
	for i := range list {
		all = append(all, &list[i])
	}
	return all
}

// alter changes one leaf of a value in place, and returns which.
func alter(t *rapid.T, v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.Struct:
		i := rapid.IntRange(0, v.NumField()-1).Draw(t, "field")
		return alter(t, v.Field(i), path+"."+v.Type().Field(i).Name)
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
			v.Set(fresh)
			return alter(t, v.Elem(), path)
		}
		v.Set(fresh)
		return path
	case reflect.Slice:
		v.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()+1), v))
		if v.Len() > 0 && rapid.Bool().Draw(t, "inside") {
			return alter(t, v.Index(rapid.IntRange(0, v.Len()-1).Draw(t, "item")), path+"[]")
		}
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		return path + "[+]"
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + "x")
	default:
		v.SetInt(v.Int() + 1)
	}
	return path
}

// TestExplainNeverPanics: on any policy, the generated ones among them.
func TestExplainNeverPanics(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := sample(t)
		for range rapid.IntRange(0, 6).Draw(rt, "changes") {
			if len(p.Containers) > 0 {
				alter(rt, reflect.ValueOf(&p.Containers[rapid.IntRange(0, len(p.Containers)-1).Draw(rt, "container")]).Elem(), "")
			}
			if rapid.Bool().Draw(rt, "less") && len(p.Containers) > 0 {
				p.Containers = slices.Delete(p.Containers, 0, 1)
			}
		}
		Explain(p)
	})
	Explain(Policy{Containers: []Container{{}}})
}
