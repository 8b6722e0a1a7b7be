package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// checkRuntime keeps the simulated platform's stand-in for an image and real
// images apart, in both directions.
func (s Specification) checkRuntime(c *checks) {
	r := s.Runtime
	if r == nil {
		r = &Runtime{}
	}
	s.checkBinary(c, r.Binary)
	s.checkSidecar(c, r)
}

func (s Specification) checkBinary(c *checks, binary string) {
	switch {
	case s.Kind == Simulated && s.Runtime == nil:
		c.missing("runtime", "kind simulated has no image, so the runtime's binary must be named", "set it with cloister spec set kind --runtime-binary")
	case s.Kind == Simulated:
		c.digest("runtime.binary", binary)
	case binary != "":
		c.add("runtime.binary", "a binary stands in for an image only in kind simulated", "take it out; the image's layers, or the VM's system, are measured")
	}
}

// checkSidecar: the runtime has a container of its own in the distributed model
// where containers are started, and nowhere else.
func (s Specification) checkSidecar(c *checks, r *Runtime) {
	sidecar := s.Kind.StartsContainers() && s.Model == Distributed
	switch {
	case !sidecar && (r.Image != nil || r.Resources != nil):
		c.add("runtime", "only in the distributed model of kind aci or aks has the runtime a container of its own", "take image and resources out; the application's hold for both")
	case sidecar && r.Image == nil:
		c.missing("runtime.image", "the sidecar needs an image", "set it with cloister spec set runtime --image")
	case sidecar:
		c.image("runtime.image", *r.Image)
		c.resources("runtime.resources", r.Resources)
	}
}

func (s Specification) checkApplication(c *checks) {
	a := s.Application
	if a.Name == "" && len(a.Command) == 0 {
		c.missing("application", "nothing is to run", "add it with cloister spec add application")
		return
	}
	c.name("application.name", a.Name)
	s.checkLabel(c, "application.name", a.Name)
	s.checkImage(c)
	c.command("application.command", a.Command)
	c.environment("application.environment", a.Environment)
	if a.WorkingDir != "" {
		c.absolute("application.workingDir", a.WorkingDir)
	}
	if a.User != nil && (a.User.UID == 0 || a.User.GID == 0) {
		c.add("application.user", "is root", "give a user and a group other than 0")
	}
	c.ports("application.ports", a.Ports)
	s.checkGovernanceAPI(c)
	c.resources("application.resources", a.Resources)
	s.checkLife(c)
}

// checkGovernanceAPI: the port is the runtime's, in the application's own network.
// With egress unguarded that network is the whole pod's, and whoever is in it
// could speak for the application.
func (s Specification) checkGovernanceAPI(c *checks) {
	const at = "application.governanceAPI"
	port := s.Application.GovernanceAPI
	if port == 0 {
		return
	}
	c.port(at, port)
	if s.Network.Egress == EgressUnguarded {
		c.add(at, "with egress unguarded the application has no network of its own", "take it out, or set egress "+EgressClosed)
	}
	taken := slices.Contains(s.Application.Ports, port) || slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.Target() == port })
	if taken {
		c.add(at, fmt.Sprintf("the application listens on port %d itself", port), "give another port")
	}
}

// checkLabel: where containers are started the name is also that of a container.
func (s Specification) checkLabel(c *checks, at, name string) {
	if s.Kind.StartsContainers() && namePattern.MatchString(name) && !labelPattern.MatchString(name) {
		c.add(at, fmt.Sprintf("%.80q cannot name a container", name), "use at most 63 of a-z 0-9 -, with a letter or digit first and last")
	}
}

// checkLife: a start that nobody can ask for never comes, and a Kubernetes Job
// refuses to begin again what has ended well.
func (s Specification) checkLife(c *checks) {
	a := s.Application
	c.optional("application.start", a.Start, StartAuto, StartManual)
	if a.Start == StartManual && len(s.Endpoints) == 0 {
		c.missing("application.start", "nobody can call for a start: there is no endpoint", "add one with cloister spec add endpoint, or start it by itself")
	}
	c.optional("application.restart", a.Restart, RestartNever, RestartOnFailure, RestartAlways)
	if a.Restart == RestartAlways && s.Deployment != nil && s.Deployment.Replicas > 1 {
		c.add("application.restart", "replicas run until each has ended", "use "+RestartOnFailure)
	}
}

func (s Specification) checkImage(c *checks) {
	image := s.Application.Image
	switch {
	case !s.Kind.StartsContainers() && image != nil:
		c.add("application.image", fmt.Sprintf("kind %s starts no image", s.Kind), "take it out, or set another kind")
	case !s.Kind.StartsContainers():
	case image == nil:
		c.missing("application.image", "a container needs an image", "give it by digest")
	default:
		c.image("application.image", *image)
	}
}

func (c *checks) image(at string, image Image) {
	c.imageReference(at+".reference", image.Reference)
	c.count(at+".layers", len(image.Layers))
	for i, layer := range image.Layers {
		c.hex(fmt.Sprintf("%s.layers[%d]", at, i), layer, 32, "a dm-verity root hash")
	}
}

func (c *checks) command(at string, command []string) {
	c.count(at, len(command))
	if len(command) == 0 {
		c.add(at, "is empty", "give the program and its arguments")
	}
	for i, arg := range command {
		at := fmt.Sprintf("%s[%d]", at, i)
		c.publicText(at, arg)
		if flag, value, ok := strings.Cut(arg, "="); ok {
			c.publicVariable(at, strings.ReplaceAll(strings.TrimLeft(flag, "-"), "-", "_"), value)
		}
		if i == 0 && !path.IsAbs(arg) {
			c.add(at, fmt.Sprintf("%.200q is not an absolute path", arg), "the runtime has no search path; write the program's full path")
		}
	}
}

func (c *checks) ports(at string, ports []uint32) {
	c.count(at, len(ports))
	twice := c.unique("this port")
	for i, port := range ports {
		at := fmt.Sprintf("%s[%d]", at, i)
		c.port(at, port)
		twice(at, fmt.Sprint(port))
	}
}

// What a container can be given: a hundredth of a processor, as ACI counts
// them, up to the largest machines there are; less memory than 64 MiB does not
// hold the runtime.
const (
	minMilliCPU, maxMilliCPU   = 10, 1024 * 1000
	minMemoryMiB, maxMemoryMiB = 64, 32 << 20
)

func (c *checks) resources(at string, r *Resources) {
	if r == nil {
		return
	}
	if r.MilliCPU < minMilliCPU || r.MilliCPU > maxMilliCPU {
		c.add(at+".milliCPU", fmt.Sprintf("%d is not in %d to %d", r.MilliCPU, minMilliCPU, maxMilliCPU), "write thousandths of a processor")
	}
	if r.MemoryMiB < minMemoryMiB || r.MemoryMiB > maxMemoryMiB {
		c.add(at+".memoryMiB", fmt.Sprintf("%d is not in %d to %d", r.MemoryMiB, minMemoryMiB, maxMemoryMiB), "write MiB")
	}
}

// MaxReplicas is far above what one store serves at speed.
const MaxReplicas = 1024

func (s Specification) checkDeployment(c *checks) {
	d := s.Deployment
	if d == nil {
		return
	}
	s.checkReplicas(c)
	if d.Subnet != "" {
		s.checkSubnet(c, d.Subnet)
	}
	s.checkRegistries(c, d.Registries)
}

func (s Specification) checkSubnet(c *checks, subnet string) {
	if s.Kind != ACI {
		c.add("deployment.subnet", fmt.Sprintf("kind %s joins no subnet of its own", s.Kind), "take it out; a pod is in its cluster's network")
		return
	}
	c.resource("deployment.subnet", subnet, subnetResource, "a subnet")
}

func (s Specification) checkRegistries(c *checks, registries []Registry) {
	c.count("deployment.registries", len(registries))
	twice := c.unique("credentials for this registry")
	for i, r := range registries {
		at := fmt.Sprintf("deployment.registries[%d]", i)
		twice(at+".server", r.Server)
		if !slices.Contains(s.registriesUsed(), r.Server) {
			c.add(at+".server", fmt.Sprintf("no image is from %.80q", r.Server), "write the part of the image's reference before the first /")
		}
		s.checkCredentials(c, at, r)
	}
}

func (s Specification) registriesUsed() []string {
	var servers []string
	add := func(image *Image) {
		if image != nil {
			server, _, _ := strings.Cut(image.Reference, "/")
			servers = append(servers, server)
		}
	}
	add(s.Application.Image)
	if s.Runtime != nil {
		add(s.Runtime.Image)
	}
	return servers
}

func (s Specification) checkCredentials(c *checks, at string, r Registry) {
	switch {
	case (r.Identity == "") == (r.Secret == ""):
		c.add(at, "one of identity and secret is needed", "name an identity that may pull, or in kind aks a Secret of Kubernetes")
	case r.Identity != "":
		s.checkIdentityName(c, at+".identity", r.Identity)
	case s.Kind != AKS:
		c.add(at+".secret", fmt.Sprintf("kind %s has no Kubernetes Secrets", s.Kind), "name an identity that may pull")
	case !labelPattern.MatchString(r.Secret):
		c.add(at+".secret", "is not the name of a Kubernetes Secret", "give its name, never what is in it")
	}
}
