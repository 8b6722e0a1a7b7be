package main

import (
	"cloister/policy/spec"
	"cloister/policy/spec/yaml"

	urfave "github.com/urfave/cli/v2"
)

func setModelCommand() *urfave.Command {
	return &urfave.Command{
		Name: "model", Usage: "how runtime and application share containers: monolithic or distributed", ArgsUsage: "FILE MODEL",
		Flags: []urfave.Flag{text("accept-risk", "distributed: a `SENTENCE` that says why the parties accept that the application has a container of its own, in one pod with the runtime and the attestation device")},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE", "MODEL")
			if err != nil {
				return err
			}
			return editSpecAbout(c, args[0], []string{"model", "acceptedRisk"}, func(d *yaml.Document) (*yaml.Document, error) {
				return setModel(d, args[1], c.String("accept-risk"))
			})
		},
	}
}

// setModel keeps words that are already there, unless the model has no such risk.
func setModel(d *yaml.Document, model, risk string) (*yaml.Document, error) {
	e := edits{d: d}
	e.set(true, "", "model", model, func(s *spec.Specification) { s.Model = model })
	if risk == "" && model != spec.Monolithic {
		return e.d, e.err
	}
	e.put(risk != "", "", "acceptedRisk", risk, func(s *spec.Specification) { s.AcceptedRisk = risk })
	return e.d, e.err
}

func setRuntimeCommand() *urfave.Command {
	return &urfave.Command{
		Name: "runtime", Usage: "distributed: the runtime's own container", ArgsUsage: "FILE",
		Flags: append([]urfave.Flag{
			text("image", "the runtime's image by digest, `REPOSITORY@sha256:…`"),
			&urfave.StringSliceFlag{Name: "layer", Usage: "a layer's dm-verity root `HASH`, lowest first; repeated"},
		}, resourceFlags()...),
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			resources, err := resourcesOf(c)
			if err != nil {
				return err
			}
			var image *spec.Image
			if c.IsSet("image") || c.IsSet("layer") {
				image = &spec.Image{Reference: c.String("image"), Layers: c.StringSlice("layer")}
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) { return setRuntime(d, image, resources) })
		},
	}
}

func setRuntime(d *yaml.Document, image *spec.Image, resources *spec.Resources) (*yaml.Document, error) {
	e := edits{d: d}
	e.set(image != nil, "runtime", "image", image, func(s *spec.Specification) { runtimeOf(s).Image = image })
	e.set(resources != nil, "runtime", "resources", resources, func(s *spec.Specification) { runtimeOf(s).Resources = resources })
	return e.d, e.err
}

func runtimeOf(s *spec.Specification) *spec.Runtime {
	if s.Runtime == nil {
		s.Runtime = &spec.Runtime{}
	}
	return s.Runtime
}

func setDeploymentCommand() *urfave.Command {
	return &urfave.Command{
		Name: "deployment", Usage: "what a template needs to know of the cloud around the clean room", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			&urfave.Uint64Flag{Name: "replicas", Usage: "`HOW MANY` clean rooms work on the same sources, each with outputs of its own: in aks an Indexed Job, in aci a container group each"},
			text("subnet", "aci: the resource `ID` of the subnet that it joins with a private address"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, nil, "FILE")
			if err != nil {
				return err
			}
			replicas, err := number(c, "replicas")
			if err != nil {
				return err
			}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				e, subnet := edits{d: d}, c.String("subnet")
				e.set(c.IsSet("replicas"), "deployment", "replicas", replicas, func(s *spec.Specification) { deploymentOf(s).Replicas = replicas })
				e.set(subnet != "", "deployment", "subnet", subnet, func(s *spec.Specification) { deploymentOf(s).Subnet = subnet })
				return e.d, e.err
			})
		},
	}
}

func deploymentOf(s *spec.Specification) *spec.Deployment {
	if s.Deployment == nil {
		s.Deployment = &spec.Deployment{}
	}
	return s.Deployment
}

func addRegistryCommand() *urfave.Command {
	return &urfave.Command{
		Name: "registry", Usage: "where the credentials for an image registry are; never what they are", ArgsUsage: "FILE",
		Flags: []urfave.Flag{
			text("server", "the `REGISTRY`, as it begins the image's reference"),
			text("identity", "`NAME` of an identity that may pull"),
			text("secret", "aks: `NAME` of the Kubernetes Secret with its credentials"),
		},
		Action: func(c *urfave.Context) error {
			args, err := anyOrder(c, []string{"server"}, "FILE")
			if err != nil {
				return err
			}
			registry := spec.Registry{Server: c.String("server"), Identity: c.String("identity"), Secret: c.String("secret")}
			return editSpec(args[0], func(d *yaml.Document) (*yaml.Document, error) {
				return d.AppendIn("deployment", "registries", registry, func(s *spec.Specification) {
					deploymentOf(s).Registries = append(deploymentOf(s).Registries, registry)
				})
			})
		},
	}
}
