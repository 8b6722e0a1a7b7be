package framework

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloister/internal/fault"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// Enforcer is a policy under one generation of the framework. It is one utility
// VM's worth of state, and not for use by several goroutines at once.
type Enforcer struct {
	compiler *ast.Compiler
	store    storage.Store
	queries  map[string]rego.PreparedEvalQuery
	metadata map[string]any // what the framework asked to be remembered
}

// New compiles a policy's text. Errors are of kind fault.Refused: the platform
// starts nothing under a policy that does not compile.
func New(g Generation, policy []byte) (*Enforcer, error) {
	modules := map[string]string{"policy.rego": string(policy)}
	maps.Copy(modules, g.modules)
	parsed, err := parse(modules, g.syntax)
	var compiler *ast.Compiler
	if err == nil {
		compiler, err = compile(parsed)
	}
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "generate it with `cloister policy generate`", "compiling the container policy under framework %s: %w", g.Version, err)
	}
	return &Enforcer{compiler: compiler, store: inmem.NewFromObject(constants()), queries: map[string]rego.PreparedEvalQuery{}}, nil
}

func parse(modules map[string]string, syntax ast.RegoVersion) (map[string]*ast.Module, error) {
	parsed := map[string]*ast.Module{}
	for name, text := range modules {
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: syntax, Capabilities: capabilities()})
		if err != nil {
			return nil, err
		}
		if m == nil {
			return nil, fmt.Errorf("%s is empty", name)
		}
		parsed[name] = m
	}
	return parsed, nil
}

func compile(parsed map[string]*ast.Module) (*ast.Compiler, error) {
	c := ast.NewCompiler().WithCapabilities(capabilities())
	if c.Compile(parsed); c.Failed() {
		return nil, c.Errors
	}
	return c, nil
}

// capabilities are OPA's without what reaches out of the evaluation: a policy is
// a stranger's program.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		return b.Name == "opa.runtime" || strings.HasPrefix(b.Name, "http.") || strings.HasPrefix(b.Name, "net.")
	})
	c.AllowNet = []string{}
	return c
}

// constants are what hcsshim's enforcer for Linux gives the framework; the lists
// of mounts come from the utility VM and let in no more than what is tried here.
func constants() map[string]any {
	return map[string]any{
		"defaultMounts": []any{}, "privilegedMounts": []any{},
		"sandboxPrefix": "sandbox://", "hugePagesPrefix": "hugepages://", "plan9Prefix": "plan9://",
		"defaultUnprivilegedCapabilities": texts(unprivileged[:]), "defaultPrivilegedCapabilities": texts(privileged[:]),
		"metadata": map[string]any{},
	}
}

// reset makes a new utility VM of it.
func (e *Enforcer) reset(ctx context.Context) error {
	e.metadata = map[string]any{"operatingsystem": map[string]any{"ostype": "linux"}}
	return e.save(ctx)
}

func (e *Enforcer) save(ctx context.Context) error {
	return storage.WriteOne(ctx, e.store, storage.ReplaceOp, storage.Path{"metadata"}, e.metadata)
}

// answer is what an enforcement point returns.
type answer map[string]any

// ask queries an enforcement point as the platform does: what the policy does
// not answer for, though its API version has it, is refused; what came later has
// the framework's default.
func (e *Enforcer) ask(ctx context.Context, point string, input map[string]any) (answer, error) {
	got, err := e.query(ctx, "data.policy."+point, input)
	if err != nil {
		return nil, err
	}
	info, err := e.query(ctx, "data.framework.enforcement_point_info", map[string]any{"name": point, "rule": point})
	if err != nil {
		return nil, err
	}
	switch {
	case info["unknown"] != false || info["invalid"] != false || info["version_missing"] != false:
		return nil, fmt.Errorf("the framework does not know %s for this policy", point)
	case len(got) == 0 && info["available"] == true:
		return nil, fmt.Errorf("the policy does not decide %s", point)
	case len(got) == 0 && info["use_framework"] == true:
		return e.query(ctx, "data.framework."+point, input)
	}
	out := answer{}
	defaults, _ := info["default_results"].(map[string]any)
	maps.Copy(out, defaults)
	maps.Copy(out, got)
	return out, nil
}

// query evaluates one rule, and remembers what its answer asks for.
func (e *Enforcer) query(ctx context.Context, rule string, input map[string]any) (answer, error) {
	q, ok := e.queries[rule]
	if !ok {
		var err error
		if q, err = rego.New(rego.Query(rule), rego.Compiler(e.compiler), rego.Store(e.store), rego.StrictBuiltinErrors(false)).PrepareForEval(ctx); err != nil {
			return nil, err
		}
		e.queries[rule] = q
	}
	results, err := q.Eval(ctx, rego.EvalInput(input))
	if err != nil || len(results) == 0 {
		return nil, err
	}
	got, ok := results[0].Expressions[0].Value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s gives %T, not an object", rule, results[0].Expressions[0].Value)
	}
	return got, e.remember(ctx, got["metadata"])
}

// remember applies the metadata operations of an answer.
func (e *Enforcer) remember(ctx context.Context, operations any) error {
	list, _ := operations.([]any)
	for _, o := range list {
		op, _ := o.(map[string]any)
		name, _ := op["name"].(string)
		key, _ := op["key"].(string)
		if name == "" || key == "" {
			return fmt.Errorf("a metadata operation of a form that is not known: %v", o)
		}
		into, ok := e.metadata[name].(map[string]any)
		if !ok {
			into = map[string]any{}
			e.metadata[name] = into
		}
		if err := apply(into, key, op); err != nil {
			return fmt.Errorf("metadata %s: %w", name, err)
		}
	}
	if list == nil {
		return nil
	}
	return e.save(ctx)
}

func apply(into map[string]any, key string, op map[string]any) error {
	switch op["action"] {
	case "add":
		if _, there := into[key]; there {
			return fmt.Errorf("%s is there already", key)
		}
		into[key] = op["value"]
	case "update":
		into[key] = op["value"]
	case "remove":
		delete(into, key)
	default:
		return fmt.Errorf("unknown action %v", op["action"])
	}
	return nil
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
