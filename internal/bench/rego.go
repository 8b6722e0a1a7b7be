package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// regoRows is a decision of a policy by its own process, as the proxies ask for
// one: JSON there and back included.
func regoRows() []row {
	return []row{{"a decision by a Rego policy", "µs", side{"cloister-rego", decision}, []reference{{bar: within(100, "µs")}}}}
}

// decision is package rego's own benchmark, which starts the real program.
func decision(ctx context.Context, _ *lab) (float64, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkDecide$", "-benchtime", "2s", "cloister/enclave/rego").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("asking policies: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasPrefix(f[0], "BenchmarkDecide") && f[3] == "ns/op" {
			ns, err := strconv.ParseFloat(f[2], 64)
			return ns / 1000, err
		}
	}
	return 0, errors.New("asking policies: the benchmark gave no figure")
}
