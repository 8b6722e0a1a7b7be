package main

import (
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func setJobsCommand() *urfave.Command {
	return &urfave.Command{
		Name: "jobs", Usage: "have parties start the application, a job each time, and have its results", ArgsUsage: "FILE",
		Description: "A job is one launch of the application. It finds what its caller sent in the file\n" +
			"parameters of the directory that CLOISTER_JOB_DIR names, and leaves what its caller\n" +
			"is to have in result there. All that is not given is as if it never was.",
		Flags: []urfave.Flag{
			&urfave.StringSliceFlag{Name: "by", Usage: "a `PARTY` that may start jobs; may be repeated"},
			&urfave.StringSliceFlag{Name: "result-for", Usage: "a `PARTY` that may have results; may be repeated"},
			&urfave.Uint64Flag{Name: "max-result", Usage: "how many `BYTES` a result has at most; what is larger goes to a datasink"},
			text("consent", "`WHEN` consent is asked: run, as for the run; or job, before each job too"),
			&urfave.Uint64Flag{Name: "count", Usage: "`HOW MANY` jobs a run takes; 1 when not given"},
			&urfave.Uint64Flag{Name: "at-once", Usage: "`HOW MANY` of them run at a time; 1 when not given"},
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			jobs, err := jobsOf(c)
			if err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.Set("", "jobs", jobs, func(s *spec.Specification) { s.Jobs = &jobs })
			})
		},
	}
}

func jobsOf(c *urfave.Context) (j spec.Jobs, err error) {
	j = spec.Jobs{Start: c.StringSlice("by"), Results: c.StringSlice("result-for"), Consent: c.String("consent")}
	for name, field := range map[string]*uint32{"max-result": &j.MaxResult, "count": &j.Count, "at-once": &j.AtOnce} {
		if *field, err = number(c, name); err != nil {
			return j, err
		}
	}
	return j, nil
}
