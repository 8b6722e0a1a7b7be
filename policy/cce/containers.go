package cce

import (
	"fmt"
	"slices"
	"strconv"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// containersOf are the clean room's containers and the platform's pause.
func containersOf(s spec.Specification, in Inputs) ([]Container, error) {
	list, err := Containers(s, in)
	if err != nil {
		return nil, err
	}
	return append(list, in.Infrastructure.pauseContainer()), nil
}

// Containers returns the clean room's own containers, the runtime's first: what
// a template must ask for, since the policy admits nothing else. The
// specification must be valid and of kind aci, aks or simulated.
func Containers(s spec.Specification, in Inputs) ([]Container, error) {
	if s.Kind == spec.Simulated {
		return simulatedContainers(s)
	}
	runtime, err := runtimeContainer(s, in)
	if err != nil {
		return nil, err
	}
	if s.Model != spec.Distributed {
		return []Container{runtime}, nil
	}
	application, err := applicationContainer(s, in)
	return []Container{runtime, application}, err
}

// container fills in every field that the framework asks for; it refuses a
// policy that lacks one. What an application prints is data too: no stdio.
func container(c Container) Container {
	c.ExecProcesses = []Process{}
	if c.Mounts == nil {
		c.Mounts = []Mount{}
	}
	if c.Signals == nil {
		c.Signals = []int{}
	}
	if c.WorkingDir == "" {
		c.WorkingDir = "/"
	}
	return c
}

const (
	umask   = "0022" // containerd's
	sigterm = 15     // the orderly end, which seals what was written
)

var anyone = []IDName{{Strategy: matchAny}}

// runtimeContainer holds the runtime: alone in the distributed model, and in the
// monolithic one with the application, which it starts. It is privileged, for
// FUSE, and root; the application is neither. Groups of root guard nothing.
// Capabilities nil: those the platform gives to a privileged container.
func runtimeContainer(s spec.Specification, in Inputs) (Container, error) {
	image, name := s.Application.Image, s.Application.Name
	if s.Model == spec.Distributed {
		image, name = s.Runtime.Image, RuntimeName
	}
	command, err := Command(s)
	if err != nil {
		return Container{}, err
	}
	found, err := in.image(*image)
	if err != nil {
		return Container{}, err
	}
	rules, err := environmentRules(s, found)
	if err != nil {
		return Container{}, fmt.Errorf("image %s: %w", image.Reference, err)
	}
	mounts := platformMounts(s.Kind)
	if s.Model == spec.Distributed {
		share, err := Share(s)
		if err != nil {
			return Container{}, err
		}
		mounts = append(mounts, emptyDir(share, "rw"))
	}
	return container(Container{
		AllowElevated: true, Command: command,
		EnvRules: append(rules, runtimeRules(s)...),
		ID:       image.Reference, Layers: found.Layers, Mounts: mounts, Name: name, Signals: []int{sigterm}, WorkingDir: found.WorkingDir,
		User: User{Groups: anyone, Umask: umask, User: IDName{"0", matchID}},
	}), nil
}

// RuntimeName names the runtime's container in the distributed model.
const RuntimeName = "cloister-runtime"

// applicationContainer is the distributed model's: the shim, which starts the
// application on this run's mounts. As nobody important, without capabilities
// or a way to new privileges it cannot open the attestation device, which is
// root's, and may not mount over what it is shown.
func applicationContainer(s spec.Specification, in Inputs) (Container, error) {
	a := s.Application
	command, err := ShimCommand(s)
	if err != nil {
		return Container{}, err
	}
	found, err := in.image(*a.Image)
	if err != nil {
		return Container{}, err
	}
	rules, err := environmentRules(s, found)
	if err != nil {
		return Container{}, fmt.Errorf("image %s: %w", a.Image.Reference, err)
	}
	share, err := Share(s)
	if err != nil {
		return Container{}, err
	}
	user := spec.User{UID: 65534, GID: 65534}
	if a.User != nil {
		user = *a.User
	}
	return container(Container{
		Capabilities: &Capabilities{Ambient: []string{}, Bounding: []string{}, Effective: []string{}, Inheritable: []string{}, Permitted: []string{}},
		Command:      command, EnvRules: rules, ID: a.Image.Reference, Layers: found.Layers,
		Mounts: append(platformMounts(s.Kind), emptyDir(share, "ro")), Name: a.Name, NoNewPrivileges: true, Signals: []int{sigterm}, WorkingDir: found.WorkingDir,
		User: User{Groups: []IDName{id(user.GID)}, Umask: umask, User: id(user.UID)},
	}), nil
}

func id(n uint32) IDName { return IDName{strconv.FormatUint(uint64(n), 10), matchID} }

// Image is what the policy takes from an image of a known digest.
type Image struct {
	Layers      []string // dm-verity root hashes, lowest first
	Environment []string // NAME=VALUE, as its configuration has them
	WorkingDir  string   // where its processes start; "/" when empty
}

// Inputs are what a policy needs beside the specification, all of which the
// specification's digests decide.
type Inputs struct {
	// Images by their references in the specification. One whose layers the
	// specification lists may be missing; its variables are then not admitted.
	Images         map[string]Image
	Infrastructure Infrastructure
	// Policies are the Rego files that the specification pins, by their paths there.
	// A container policy is the same without them; a template carries them.
	Policies map[string][]byte
}

func (in Inputs) image(want spec.Image) (Image, error) {
	found, ok := in.Images[want.Reference]
	switch {
	case !ok && len(want.Layers) > 0:
		return Image{Layers: want.Layers}, nil
	case !ok || len(found.Layers) == 0:
		return found, fault.Errorf(fault.Usage, "give the image, or each layer's dm-verity root hash with --layer, lowest first", "image %s has no layer hashes", want.Reference)
	case len(want.Layers) > 0 && !slices.Equal(want.Layers, found.Layers):
		return found, fault.Errorf(fault.Refused, "correct application.image.layers, or leave them out",
			"image %s has the layers %q, and the specification says %q", want.Reference, found.Layers, want.Layers)
	default:
		return found, nil
	}
}
