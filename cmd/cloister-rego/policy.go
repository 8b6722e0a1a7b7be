package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cloister/enclave/rego"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"
)

// policies are those that were prepared, by their numbers.
type policies struct {
	mu   sync.RWMutex // guards list
	list map[uint16]policy
}

// policy is a module's two questions, ready to be asked.
type policy struct {
	allow  oparego.PreparedEvalQuery
	reason *oparego.PreparedEvalQuery // nil where it gives none
}

func (p *policies) answer(q rego.Question) (a rego.Answer) {
	defer func() {
		// A panic of the evaluator on one input is a refusal of that, not of others.
		if r := recover(); r != nil {
			a = rego.Answer{Error: "the evaluation broke"}
		}
	}()
	var err error
	switch q.Op {
	case rego.OpPrepare:
		err = p.prepare(q.Policy, q.Text)
	case rego.OpDecide:
		a, err = p.decide(q.Policy, q.Text)
	default:
		err = fmt.Errorf("nobody asks %q", q.Op)
	}
	if err != nil {
		return rego.Answer{Error: cut(err.Error(), 2*rego.MaxReason)}
	}
	return a
}

func (p *policies) prepare(number uint16, text []byte) error {
	made, err := compile(text)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list == nil {
		p.list = map[uint16]policy{}
	}
	p.list[number] = made
	return nil
}

func compile(text []byte) (p policy, err error) {
	able := capabilities()
	m, err := ast.ParseModuleWithOpts("policy.rego", string(text), ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: able})
	if err != nil {
		return p, err
	}
	if m == nil {
		return p, errors.New("it is empty")
	}
	c := ast.NewCompiler().WithCapabilities(able)
	if c.Compile(map[string]*ast.Module{"policy.rego": m}); c.Failed() {
		return p, c.Errors
	}
	if !hasRule(m, "allow") {
		return p, errors.New("it has no rule allow")
	}
	if p.allow, err = query(c, m, "allow"); err != nil || !hasRule(m, "reason") {
		return p, err
	}
	reason, err := query(c, m, "reason")
	p.reason = &reason
	return p, err
}

func hasRule(m *ast.Module, name string) bool {
	return slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return r.Head.Ref().String() == name && len(r.Head.Args) == 0 })
}

// query is strict: what a built-in function cannot do is an error, where it would
// else make a condition's opposite true.
func query(c *ast.Compiler, m *ast.Module, rule string) (oparego.PreparedEvalQuery, error) {
	return oparego.New(oparego.Query(m.Package.Path.String()+"."+rule), oparego.Compiler(c), oparego.StrictBuiltinErrors(true)).PrepareForEval(context.Background())
}

// capabilities are OPA's without what reaches out of the evaluation, which the
// process could not do either.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		return b.Name == "opa.runtime" || strings.HasPrefix(b.Name, "http.") || strings.HasPrefix(b.Name, "net.lookup")
	})
	c.AllowNet = []string{}
	return c
}

func (p *policies) decide(number uint16, raw []byte) (a rego.Answer, err error) {
	p.mu.RLock()
	asked, ok := p.list[number]
	p.mu.RUnlock()
	if !ok {
		return a, fmt.Errorf("policy %d was not prepared", number)
	}
	input, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		return a, fmt.Errorf("reading the input: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), rego.EvaluationTime)
	defer cancel()
	if a.Allow, err = isTrue(ctx, asked.allow, input); err != nil || a.Allow || asked.reason == nil {
		return a, err
	}
	a.Reason = cut(textOf(ctx, *asked.reason, input), rego.MaxReason)
	return a, nil
}

func isTrue(ctx context.Context, q oparego.PreparedEvalQuery, input ast.Value) (bool, error) {
	results, err := q.Eval(ctx, oparego.EvalParsedInput(input))
	if err != nil {
		return false, err
	}
	return len(results) == 1 && len(results[0].Expressions) == 1 && results[0].Expressions[0].Value == true, nil
}

func textOf(ctx context.Context, q oparego.PreparedEvalQuery, input ast.Value) string {
	results, err := q.Eval(ctx, oparego.EvalParsedInput(input))
	if err != nil || len(results) != 1 || len(results[0].Expressions) != 1 {
		return ""
	}
	text, _ := results[0].Expressions[0].Value.(string)
	return text
}

func cut(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}
