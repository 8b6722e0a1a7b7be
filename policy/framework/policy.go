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
	for _, rule := range parsed["policy.rego"].Rules {
		if err := take(rule, document, &p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// take sorts a rule by its name. One that is none of the known ones, and does
// not leave the decision to the framework, decides by itself.
func take(rule *ast.Rule, document map[string]any, p *cce.Policy) error {
	name := rule.Head.Ref().String()
	value, defined := document[name]
	known := map[string]any{
		"api_version": &p.APIVersion, "api_svn": &p.APIVersion, "framework_version": &p.FrameworkVersion, "framework_svn": &p.FrameworkVersion,
		"fragments": &p.Fragments, "containers": &p.Containers,
	}
	into, isKnown := known[name]
	flag, isFlag := value.(bool)
	switch {
	case isKnown && !defined:
		return fmt.Errorf("%s depends on what is asked", name)
	case isKnown:
		if err := convert(value, into); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	case isFlag && strings.HasPrefix(name, "allow_"):
		p.Allow[name] = flag
	case name == "reason" || isDelegation(rule, name):
	case defined:
		p.Own[name] = value
	default:
		p.Own[name] = "depends on what is asked"
	}
	return nil
}

func isDelegation(rule *ast.Rule, name string) bool {
	return rule.Head.Value != nil && rule.Head.Value.String() == "data.framework."+name && !rule.Default &&
		len(rule.Body) == 1 && rule.Body[0].String() == "true"
}
