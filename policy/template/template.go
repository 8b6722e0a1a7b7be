// Package template writes what deploys a clean room: an ARM template for a
// confidential container group of Azure Container Instances, or a manifest for
// confidential virtual nodes of AKS.
//
// Life of a template: Generate takes a valid specification and its images, and
// has package cce say which containers the policy admits; of those very
// containers it writes command, user, privileges and the shared mount in the
// platform's words, and beside them what the policy leaves to the deployment:
// identities, ports, network, credentials' names, resources, restarts, replicas.
// The policy itself goes in, in base64. Nobody has to believe a template: what
// it asks for beyond the policy the platform refuses, and Verify makes it again
// and names what was changed. Of kind simulated it is a container group too, which
// only the simulated cloud runs: where an image is, it names the runtime's file by
// its hash, which no registry has.
//
// Forms: the deployment template's schema of 2019-04-01 with
// Microsoft.ContainerInstance/containerGroups of 2023-05-01, and Kubernetes'
// v1 and batch/v1 with the annotations of virtual nodes on Azure Container
// Instances (github.com/microsoft/virtualnodesOnAzureContainerInstances,
// Docs/PodCustomizations.md).
package template

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/spec"
)

// The names of the files that templates are.
const (
	ARM        = "arm-template.json"
	Kubernetes = "kubernetes.yaml"
)

// Template is a deployment's text.
type Template struct {
	Name string // ARM or Kubernetes
	Text []byte
	// ContainerPolicy is the policy in it; its SHA-256 is HOST_DATA.
	ContainerPolicy []byte
}

// Generate returns the template for the specification's kind: the same
// specification and images give the same bytes. Errors are of kind fault.Usage
// where the specification cannot be deployed this way.
func Generate(s spec.Specification, in cce.Inputs) (Template, error) {
	t, err := generate(s, in)
	if err != nil {
		return Template{}, fmt.Errorf("making the template of %s: %w", s.Name, err)
	}
	return t, nil
}

func generate(s spec.Specification, in cce.Inputs) (Template, error) {
	switch {
	case s.Kind == spec.Simulated && s.Model == spec.Distributed:
		return Template{}, fault.Errorf(fault.Usage, "launch a guest with `cloister local guest` and start runtime and shim there, or set kind aci or aks", "kind simulated is deployed in one container, not in two")
	case s.Kind == spec.CVM:
		return Template{}, fault.Errorf(fault.Usage, "build the runtime into the VM's image, or set kind aci or aks", "there is no template for kind cvm")
	}
	r, err := roomOf(s, in)
	if err != nil {
		return Template{}, err
	}
	t := Template{Name: ARM, ContainerPolicy: r.policy}
	if s.Kind == spec.AKS {
		t.Name = Kubernetes
		t.Text, err = r.kubernetes()
		return t, err
	}
	t.Text, err = r.arm()
	return t, err
}

// room is what both kinds of template say in their own words.
type room struct {
	spec.Specification
	policy     []byte
	share      string // what the containers share; "" where there is one
	containers []container
}

// container is one that the policy admits, and what is the deployment's to say.
type container struct {
	cce.Container
	environment []variable // for the runtime: what it holds against the specification's digest
	resources   spec.Resources
	ports       []uint32
	inside      bool // shows what the runtime mounts, rather than mounting it
}

// standard is what a container is given that asks for nothing: the platform's
// own default, 1 processor and 1.5 GB.
var standard = spec.Resources{MilliCPU: 1000, MemoryMiB: 1536}

func roomOf(s spec.Specification, in cce.Inputs) (r room, err error) {
	r.Specification = s
	if r.policy, err = cce.Generate(s, in); err != nil {
		return r, err
	}
	admitted, err := cce.Containers(s, in)
	if err != nil {
		return r, err
	}
	environment, err := environmentOf(s, in)
	if err != nil {
		return r, err
	}
	runtime := container{Container: admitted[0], environment: environment, resources: standard, ports: portsOf(s)}
	application := s.Application.Resources
	if s.Model != spec.Distributed {
		r.containers = []container{runtime.given(application)}
		return r, nil
	}
	beside := container{Container: admitted[1], resources: standard, inside: true}
	r.containers = []container{runtime.given(s.Runtime.Resources), beside.given(application)}
	r.share, err = cce.Share(s)
	return r, err
}

// environmentOf is what was agreed, for the runtime: the specification, and the
// policies that it pins.
func environmentOf(s spec.Specification, in cce.Inputs) ([]variable, error) {
	canonical, err := s.Canonical()
	if err != nil {
		return nil, err
	}
	list := []variable{{cce.SpecificationVariable, base64.StdEncoding.EncodeToString(canonical)}}
	policies, err := cce.PoliciesValue(s, in.Policies)
	if policies != "" {
		list = append(list, variable{cce.PoliciesVariable, policies})
	}
	return list, err
}

func (c container) given(resources *spec.Resources) container {
	if resources != nil {
		c.resources = *resources
	}
	return c
}

// portsOf are the ports of the endpoints: TLS, which ends in the runtime. Ports
// of the application that are no endpoint's are not for outside.
func portsOf(s spec.Specification) (ports []uint32) {
	for _, e := range s.Endpoints {
		ports = append(ports, e.Port)
	}
	slices.Sort(ports)
	return ports
}

// resource returns the Azure resource of an identity.
func resource(id spec.Identity) (string, error) {
	if id.ResourceID == "" {
		return "", fault.Errorf(fault.Usage, "give it with `cloister spec add identity --resource-id`", "identity %s has no resource id, by which a template attaches it", id.Name)
	}
	return id.ResourceID, nil
}

// identity returns the one of that name, which a valid specification has.
func (r room) identity(name string) spec.Identity {
	i := slices.IndexFunc(r.Identities, func(id spec.Identity) bool { return id.Name == name })
	return r.Identities[i]
}

// checkLastName: of a pod of a job the host name has its index, and of replicas in
// container groups the group's own; both are DNS labels.
func (r room) checkLastName() error {
	if last := fmt.Sprintf("%s-%d", r.Name, r.Replicas()-1); len(last) > 63 {
		return fault.Errorf(fault.Usage, "give the specification a shorter name", "the last replica's name, %s, is longer than 63", last)
	}
	return nil
}

// registries returns where credentials are for, by server: as a set they have no
// order.
func (r room) registries() []spec.Registry {
	if r.Deployment == nil {
		return nil
	}
	return slices.SortedFunc(slices.Values(r.Deployment.Registries), func(a, b spec.Registry) int { return strings.Compare(a.Server, b.Server) })
}
