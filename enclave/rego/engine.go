package rego

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"cloister/internal/fault"
)

// Config says where the evaluator is and who it is.
type Config struct {
	Program  string // cloister-rego's absolute path
	UID, GID uint32 // who it runs as where the runtime is root
}

// Engine is the evaluator, which is started when it is first asked. Its methods
// may be called by many at once.
type Engine struct {
	config Config
	ctx    context.Context
	cancel context.CancelFunc
	// turn holds the one process, nil where there is none; who takes it may start
	// one.
	turn chan *process

	mu      sync.Mutex // guards what follows
	modules [][]byte   // by their numbers; nil: it was no policy
}

// Policy is a module that has been compiled.
type Policy struct {
	engine *Engine
	number uint16
	name   string
}

// Decision is what a policy says.
type Decision struct {
	Allow  bool
	Reason string // why not, where the policy says that; at most MaxReason bytes
}

// New returns an engine, which Close ends.
func New(c Config) *Engine {
	e := &Engine{config: c, turn: make(chan *process, 1)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.turn <- nil
	return e
}

// prepareTime bounds compiling, the start of the process included: a module of a
// megabyte takes seconds.
const prepareTime = 30 * time.Second

// Prepare compiles a module; name is for messages. A module that does not
// compile, or decides nothing, is an error of kind fault.Refused.
func (e *Engine) Prepare(ctx context.Context, name string, module []byte) (*Policy, error) {
	if len(module) > MaxFrame-questionHead {
		return nil, fault.Errorf(fault.Refused, "agree on a shorter one", "policy %s has %d bytes, more than %d", name, len(module), MaxFrame-questionHead)
	}
	number, err := e.keep(module)
	if err == nil {
		err = e.prepare(ctx, number, module)
	}
	if err != nil {
		e.forget(number)
		return nil, fmt.Errorf("preparing policy %s: %w", name, err)
	}
	return &Policy{e, number, name}, nil
}

func (e *Engine) prepare(ctx context.Context, number uint16, module []byte) error {
	p, err := e.running(ctx)
	if err != nil {
		return err
	}
	a, err := p.ask(ctx, Question{Op: OpPrepare, Policy: number, Text: module}, prepareTime)
	if err == nil && a.Error != "" {
		err = fault.Errorf(fault.Refused, "agree on a policy that does; `opa check --v1-compatible` says more", "it decides nothing: %s", a.Error)
	}
	return err
}

// keep has a module under a number before it is prepared, so that no process
// that starts meanwhile goes without.
func (e *Engine) keep(module []byte) (uint16, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.modules) > math.MaxUint16 {
		return 0, errors.New("there are too many policies")
	}
	e.modules = append(e.modules, slices.Clone(module))
	return uint16(len(e.modules) - 1), nil
}

func (e *Engine) forget(number uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.modules[number] = nil
}

// answerTime bounds the wait for an answer beyond the evaluation's own bound: on
// a busy machine the process may have to wait for a processor.
const answerTime = 2 * time.Second

// Decide asks about an input, which is made JSON of: at most a megabyte. Where
// there is an error the answer is no.
func (p *Policy) Decide(ctx context.Context, input any) (Decision, error) {
	d, err := p.decide(ctx, input)
	if err != nil {
		return Decision{}, fmt.Errorf("asking policy %s: %w", p.name, err)
	}
	return d, nil
}

func (p *Policy) decide(ctx context.Context, input any) (Decision, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return Decision{}, err
	}
	if len(raw) > MaxFrame-questionHead {
		return Decision{}, fault.Errorf(fault.Refused, "send less", "its input has %d bytes, more than %d", len(raw), MaxFrame-questionHead)
	}
	running, err := p.engine.running(ctx)
	if err != nil {
		return Decision{}, err
	}
	a, err := running.ask(ctx, Question{Op: OpDecide, Policy: p.number, Text: raw}, EvaluationTime+answerTime)
	switch {
	case err != nil:
		return Decision{}, err
	case a.Error != "":
		return Decision{}, fault.Errorf(fault.Refused, "", "it did not decide: %s", a.Error)
	}
	return Decision{Allow: a.Allow, Reason: a.Reason}, nil
}

// Close ends the process, and what is asked of it.
func (e *Engine) Close() {
	e.cancel()
	if p := <-e.turn; p != nil {
		<-p.ended
	}
	e.turn <- nil
}

// running returns the process, which it starts where there is none.
func (e *Engine) running(ctx context.Context) (*process, error) {
	var p *process
	select {
	case p = <-e.turn:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { e.turn <- p }()
	if e.ctx.Err() != nil {
		return nil, errors.New("the policies' process was ended")
	}
	if p != nil && !p.gone() {
		return p, nil
	}
	next, err := e.start()
	p = next
	return p, err
}

// start starts a process and gives it the modules.
func (e *Engine) start() (*process, error) {
	e.mu.Lock()
	modules := slices.Clone(e.modules)
	e.mu.Unlock()
	p, err := startProcess(e.ctx, e.config)
	if err != nil {
		return nil, err
	}
	for number, module := range modules {
		if module == nil {
			continue
		}
		// One that is no policy is there only while Prepare finds that out.
		if _, err := p.ask(e.ctx, Question{Op: OpPrepare, Policy: uint16(number), Text: module}, prepareTime); err != nil {
			return nil, fmt.Errorf("preparing the policies again: %w", err)
		}
	}
	return p, nil
}
