package framework

import (
	"context"
	"fmt"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/cce"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// maxPolicy bounds a policy's text in bytes; ACI takes 120 KB of base64.
const maxPolicy = 1 << 20

// Read evaluates any container policy's text by itself, without the framework,
// and returns what it says. Errors are of kind fault.Usage.
func Read(ctx context.Context, text []byte) (cce.Policy, error) {
	p, err := readPolicy(ctx, text)
	if err != nil {
		return p, fault.Errorf(fault.Usage, "give the policy's text, decoded from base64", "reading container policy: %w", err)
	}
	return p, nil
}

func readPolicy(ctx context.Context, text []byte) (p cce.Policy, err error) {
	if len(text) > maxPolicy {
		return p, fmt.Errorf("%d bytes, more than %d", len(text), maxPolicy)
	}
	modules := map[string]string{"policy.rego": string(text)}
	parsed, err := parse(modules, ast.RegoV1)
	if err != nil {
		// Written for the earlier generations.
		if parsed, err = parse(modules, ast.RegoV0); err != nil {
			return p, err
		}
	}
	compiler, err := compile(parsed)
	if err != nil {
		return p, err
	}
	results, err := rego.New(rego.Query("data.policy"), rego.Compiler(compiler)).Eval(ctx)
	if err != nil {
		return p, err
	}
	if len(results) == 0 {
		return p, fmt.Errorf("it has no package policy")
	}
	document, ok := results[0].Expressions[0].Value.(map[string]any)
	if !ok {
		return p, fmt.Errorf("its package policy is no object")
	}
	p.Allow, p.Own = map[string]bool{}, map[string]any{}
	for name, rules := range rulesByName(parsed["policy.rego"]) {
		if err := take(name, rules, document, &p); err != nil {
			return p, err
		}
	}
	return p, nil
}

func rulesByName(m *ast.Module) map[string][]*ast.Rule {
	byName := map[string][]*ast.Rule{}
	for _, rule := range m.Rules {
		name := rule.Head.Ref().String()
		byName[name] = append(byName[name], rule)
	}
	return byName
}

const depends = "depends on what is asked"

// take sorts the rules of one name. What is none of the known ones, and does not
// leave the decision to the framework, decides by itself. A known one must be
// written out: what is evaluated here, where nothing is asked, would otherwise
// not be what the platform finds in it.
func take(name string, rules []*ast.Rule, document map[string]any, p *cce.Policy) error {
	value, defined := document[name]
	constant := defined && isConstant(rules)
	known := map[string]any{
		"api_version": &p.APIVersion, "api_svn": &p.APIVersion, "framework_version": &p.FrameworkVersion, "framework_svn": &p.FrameworkVersion,
		"fragments": &p.Fragments, "containers": &p.Containers,
	}
	into, isKnown := known[name]
	flag, isFlag := value.(bool)
	switch {
	case isKnown && !constant:
		return fmt.Errorf("%s is not written out: it may depend on what is asked", name)
	case isKnown:
		if err := convert(value, into); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	case isFlag && constant && strings.HasPrefix(name, "allow_"):
		p.Allow[name] = flag
	case name == "reason" || len(rules) == 1 && isDelegation(rules[0], name):
	case constant:
		p.Own[name] = value
	default:
		p.Own[name] = depends
	}
	return nil
}

// isConstant reports whether the only rule of its name gives a literal, whatever
// is asked.
func isConstant(rules []*ast.Rule) bool {
	rule := rules[0]
	return len(rules) == 1 && isUnconditional(rule) && rule.Head.Value != nil && rule.Head.Key == nil && len(rule.Head.Args) == 0 && isLiteral(rule.Head.Value)
}

func isUnconditional(rule *ast.Rule) bool {
	return !rule.Default && rule.Else == nil && len(rule.Body) == 1 && rule.Body[0].String() == "true"
}

func isLiteral(t *ast.Term) bool {
	computed := false
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Ref, ast.Var, ast.Call, *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension:
			computed = true
		}
		return computed
	})
	return !computed
}

func isDelegation(rule *ast.Rule, name string) bool {
	return isUnconditional(rule) && rule.Head.Value != nil && rule.Head.Value.String() == "data.framework."+name
}
