package main

import (
	"fmt"

	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func specMergeCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "merge",
		Usage:       "join the parts that several parties wrote into one specification",
		ArgsUsage:   "PART...",
		Description: "Prints what all parts say together, in one layout, whatever their order.\nWhat several parts say must be the same; every conflict is listed with file\nand line, and nothing is written. Parts may be incomplete, and so may the result.",
		Flags:       []urfave.Flag{text("out", "a new `FILE` to write instead of printing")},
		Action: func(c *urfave.Context) error {
			files, err := anyOrder(c, nil, "PART...")
			if err != nil {
				return err
			}
			merged, err := mergeFiles(files)
			if err != nil {
				return err
			}
			if out := c.String("out"); out != "" {
				return createFile(out, yaml.Encode(merged), 0o644)
			}
			_, err = c.App.Writer.Write(yaml.Encode(merged))
			return err
		},
	}
}

func mergeFiles(files []string) (spec.Specification, error) {
	var parts []yaml.Part
	for _, file := range files {
		doc, err := readSpec(file)
		if err != nil {
			return spec.Specification{}, err
		}
		parts = append(parts, yaml.Part{Name: file, Document: doc})
	}
	merged, err := yaml.Merge(parts)
	if err != nil {
		return merged, fmt.Errorf("merging %d parts: %w", len(parts), err)
	}
	return merged, nil
}

func specSchemaCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "schema",
		Usage:     "print the JSON Schema of a specification, for editors",
		ArgsUsage: " ",
		Action: func(c *urfave.Context) error {
			if _, err := anyOrder(c, nil); err != nil {
				return err
			}
			_, err := fmt.Fprint(c.App.Writer, spec.Schema())
			return err
		},
	}
}
