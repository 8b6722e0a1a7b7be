package framework

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cloister/internal/fault"
)

// Outcome says what one generation of the framework does with one container.
type Outcome struct {
	Framework string `json:"framework"`
	Container string `json:"container"`
	// Refused is why the container itself is refused; "" where it is admitted.
	Refused string `json:"refused,omitempty"`
	// Stdio: the host sees what it prints.
	Stdio bool `json:"stdio,omitempty"`
	// Tried is how many mutations were, Dropped what came to nothing because the
	// framework took away what was added, Allowed what the policy says itself
	// that it lets in, Admitted what should have been refused.
	Tried    int      `json:"tried"`
	Dropped  []string `json:"dropped,omitempty"`
	Allowed  []string `json:"allowed,omitempty"`
	Admitted []string `json:"admitted,omitempty"`
	// Unknown are required variables of which no example can be made.
	Unknown []string `json:"unknown,omitempty"`
}

// Try asks every generation about every container of a policy, and about the
// mutations of each. An error is of kind fault.Usage where the policy cannot be
// read.
func Try(ctx context.Context, text []byte) ([]Outcome, error) {
	p, err := Read(ctx, text)
	if err != nil {
		return nil, err
	}
	generations, err := Generations()
	if err != nil {
		return nil, err
	}
	var list []Outcome
	for _, g := range generations {
		e, err := New(g, text)
		if err != nil {
			return nil, err
		}
		for _, c := range p.Containers {
			o := Outcome{Framework: g.Version, Container: c.Name}
			r, unknown := RequestOf(c)
			o.Unknown = unknown
			if err := o.try(ctx, e, r, Mutations(c, r)); err != nil {
				return nil, err
			}
			list = append(list, o)
		}
	}
	return list, nil
}

func (o *Outcome) try(ctx context.Context, e *Enforcer, r Request, mutations []Mutation) error {
	plain, err := e.Start(ctx, r)
	if err != nil {
		return err
	}
	o.Stdio = plain.Stdio
	if !plain.Admitted {
		o.Refused = plain.Point + ": " + plain.Reason
	}
	for _, m := range mutations {
		v, err := e.Start(ctx, m.Request)
		if err != nil {
			return err
		}
		o.Tried++
		switch {
		case !v.Admitted:
		case m.MayDrop && reflect.DeepEqual(v.Environment, plain.Environment) && sameCapabilities(v, plain):
			o.Dropped = append(o.Dropped, m.Name)
		case m.Allowed != "":
			o.Allowed = append(o.Allowed, m.Name+": "+m.Allowed)
		default:
			o.Admitted = append(o.Admitted, m.Name)
		}
	}
	for _, list := range [][]string{o.Dropped, o.Allowed, o.Admitted} {
		slices.Sort(list)
	}
	return nil
}

func sameCapabilities(a, b Verdict) bool {
	x, y := a.Capabilities, b.Capabilities
	for _, pair := range [][2][]string{{x.Ambient, y.Ambient}, {x.Bounding, y.Bounding}, {x.Effective, y.Effective}, {x.Inheritable, y.Inheritable}, {x.Permitted, y.Permitted}} {
		if !slices.Equal(slices.Sorted(slices.Values(pair[0])), slices.Sorted(slices.Values(pair[1]))) {
			return false
		}
	}
	return true
}

// Err is nil where every container is admitted and nothing is that should not
// be, and otherwise an error of kind fault.Refused that names what is.
func Err(outcomes []Outcome) error {
	var wrong []string
	for _, o := range outcomes {
		at := fmt.Sprintf("framework %s, container %s: ", o.Framework, o.Container)
		if o.Refused != "" {
			wrong = append(wrong, at+"is refused at "+o.Refused)
		}
		for _, m := range o.Admitted {
			wrong = append(wrong, at+"is also admitted with "+m)
		}
	}
	if len(outcomes) == 0 {
		wrong = []string{"it lists no containers"}
	}
	if wrong == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "do not deploy under it; generate it with `cloister policy generate`", "the container policy does not do what it should: %s", strings.Join(wrong, "; "))
}
