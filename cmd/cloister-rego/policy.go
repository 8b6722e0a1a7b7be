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
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// policies are those that were prepared, by their numbers.
type policies struct {
	mu   sync.RWMutex // guards list
	list map[uint16]policy
}

// policy is a module and its two questions, ready to be asked.
type policy struct {
	compiler      *ast.Compiler
	allow, reason ast.Body // reason is nil where it gives none
	data          storage.Store
	txn           storage.Transaction // reads data, which is empty and stays so
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
	p.compiler, p.data = c, inmem.New()
	if p.txn, err = p.data.NewTransaction(context.Background()); err != nil {
		return p, err
	}
	if p.allow, err = query(c, m, "allow"); err != nil || !hasRule(m, "reason") {
		return p, err
	}
	p.reason, err = query(c, m, "reason")
	return p, err
}

func hasRule(m *ast.Module, name string) bool {
	return slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return r.Head.Ref().String() == name && len(r.Head.Args) == 0 })
}

// answerVar is what a question binds its answer to.
const answerVar = ast.Var("answer")

func query(c *ast.Compiler, m *ast.Module, rule string) (ast.Body, error) {
	ref := m.Package.Path.Append(ast.StringTerm(rule))
	return c.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(answerVar), ast.NewTerm(ref))))
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
	said, err := asked.ask(ctx, asked.allow, input)
	if a.Allow = err == nil && said != nil && said.Compare(ast.Boolean(true)) == 0; a.Allow || err != nil {
		return a, err
	}
	if why, err := asked.ask(ctx, asked.reason, input); err == nil {
		if text, ok := why.(ast.String); ok {
			a.Reason = cut(string(text), rego.MaxReason)
		}
	}
	return a, nil
}

// ask evaluates a question; nil where its rule is undefined. It is strict: what a
// built-in function cannot do is an error, where it would else make a condition's
// opposite true.
func (p policy) ask(ctx context.Context, question ast.Body, input ast.Value) (said ast.Value, err error) {
	if question == nil {
		return nil, nil
	}
	stop := topdown.NewCancel()
	defer context.AfterFunc(ctx, stop.Cancel)()
	q := topdown.NewQuery(question).WithCompiler(p.compiler).WithStore(p.data).WithTransaction(p.txn).
		WithInput(ast.NewTerm(input)).WithCancel(stop).WithStrictBuiltinErrors(true)
	err = q.Iter(ctx, func(r topdown.QueryResult) error {
		if term := r[answerVar]; term != nil {
			said = term.Value
		}
		return nil
	})
	return said, err
}

func cut(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}
