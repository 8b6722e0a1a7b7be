// Command cases prints, as JSON, what the platform vendor's enforcer is held
// against in package enforcer, a module of its own that cannot import this one:
// generated policies, each with its containers and their mutations.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"cloister/policy/framework"
)

// Case is a container of a policy.
type Case struct {
	Policy    string               `json:"policy"` // its text
	Name      string               `json:"name"`
	Request   framework.Request    `json:"request"`
	Mutations []framework.Mutation `json:"mutations"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run takes the policies' files.
func run(files []string) error {
	var list []Case
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		p, err := framework.Read(context.Background(), text)
		if err != nil {
			return err
		}
		for _, c := range p.Containers {
			r, unknown := framework.RequestOf(c)
			if unknown != nil {
				return fmt.Errorf("%s: %q have no example", f, unknown)
			}
			list = append(list, Case{string(text), filepath.Base(f) + "/" + c.Name, r, framework.Mutations(c, r)})
		}
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}
