package template

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloister/policy/cce"
	"cloister/policy/framework"
	"cloister/policy/spec"

	"sigs.k8s.io/yaml"
)

// deployment is what a host reads in a template, apart from the form.
type deployment struct {
	policy     string // base64
	containers []asked
}

// asked is a container as the platform is asked to start it.
type asked struct {
	name, image string
	framework.Request
}

// deployed reads a template without the types that wrote it.
func deployed(t *testing.T, tm Template) deployment {
	t.Helper()
	if tm.Name == ARM {
		return fromARM(t, tm.Text)
	}
	return fromKubernetes(t, tm.Text)
}

type security struct {
	Privileged, AllowPrivilegeEscalation *bool
	RunAsUser, RunAsGroup                *int64
	Capabilities                         *struct{ Add, Drop []string }
}

type started struct {
	Image           string
	Command         []string
	Env             []struct{ Name, Value string }
	SecurityContext security
	VolumeMounts    []struct {
		MountPath string
		ReadOnly  bool
	}
}

func fromARM(t *testing.T, text []byte) (d deployment) {
	t.Helper()
	var template struct {
		Resources []struct {
			Properties struct {
				ConfidentialComputeProperties struct{ CcePolicy string }
				Containers                    []struct {
					Name       string
					Properties struct {
						started
						EnvironmentVariables []struct{ Name, Value string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(text, &template); err != nil || len(template.Resources) != 1 {
		t.Fatalf("%d resources, %v", len(template.Resources), err)
	}
	group := template.Resources[0].Properties
	d.policy = group.ConfidentialComputeProperties.CcePolicy
	for _, c := range group.Containers {
		s := c.Properties.started
		s.Env = c.Properties.EnvironmentVariables
		for i, v := range s.Env {
			if v.Value == "[string(copyIndex())]" { // as the deployment does, for the second replica
				s.Env[i].Value = "1"
			}
		}
		for i, arg := range s.Command {
			if strings.HasPrefix(arg, "[") && strings.HasSuffix(arg, "]") {
				if !strings.HasPrefix(arg, "[[") {
					t.Errorf("%s: %q would be evaluated", c.Name, arg)
				}
				s.Command[i] = arg[1:]
			}
		}
		d.containers = append(d.containers, request(c.Name, s, spec.ACI))
	}
	return d
}

func fromKubernetes(t *testing.T, text []byte) (d deployment) {
	t.Helper()
	type podTemplate struct {
		Metadata struct{ Annotations map[string]string }
		Spec     struct {
			Containers []struct {
				Name string
				started
			}
			Template json.RawMessage
		}
	}
	documents := strings.Split(string(text), "\n---\n")
	var p podTemplate
	if err := yaml.Unmarshal([]byte(documents[len(documents)-1]), &p); err != nil {
		t.Fatal(err)
	}
	if p.Spec.Template != nil {
		if err := json.Unmarshal(p.Spec.Template, &p); err != nil {
			t.Fatal(err)
		}
	}
	d.policy = p.Metadata.Annotations["microsoft.containerinstance.virtualnode.ccepolicy"]
	for _, c := range p.Spec.Containers {
		for i, arg := range c.Command {
			c.Command[i] = strings.ReplaceAll(arg, "$$", "$") // as the agent expands a command without references
		}
		d.containers = append(d.containers, request(c.Name, c.started, spec.AKS))
	}
	return d
}

// request is what the platform makes of a container in a template: its own
// mounts and defaults, the image's layers and variables.
func request(name string, s started, kind spec.Kind) asked {
	image := inputs().Images[s.Image]
	r := framework.Request{
		Layers: image.Layers, Command: s.Command, Environment: append(slices.Clone(image.Environment), "TERM=xterm", "HOSTNAME=h"), WorkingDir: "/",
		Mounts: platformMounts(kind), Privileged: *s.SecurityContext.Privileged, NoNewPrivileges: !*s.SecurityContext.AllowPrivilegeEscalation,
		User: fmt.Sprint(*s.SecurityContext.RunAsUser), Groups: []string{"0"}, Umask: "0022",
	}
	for _, v := range s.Env {
		r.Environment = append(r.Environment, v.Name+"="+v.Value)
	}
	if gid := s.SecurityContext.RunAsGroup; gid != nil {
		r.Groups = []string{fmt.Sprint(*gid)}
	}
	for i, m := range s.VolumeMounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		r.Mounts = append(r.Mounts, shared(m.MountPath, fmt.Sprintf("emptydir/%d", i), mode))
	}
	if r.Privileged { // all that the platform has
		all, _ := framework.RequestOf(cce.Container{AllowElevated: true})
		r.Capabilities = all.Capabilities
	} else if caps := s.SecurityContext.Capabilities; caps == nil || len(caps.Add) > 0 || !slices.Equal(caps.Drop, []string{"ALL"}) {
		some := []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}
		r.Capabilities = cce.Capabilities{Bounding: some, Effective: some, Permitted: some, Inheritable: some}
	}
	return asked{name, s.Image, r}
}

func platformMounts(kind spec.Kind) []cce.Mount {
	if kind == spec.ACI {
		return []cce.Mount{shared("/etc/resolv.conf", "resolvconf/1", "rw")}
	}
	return []cce.Mount{
		shared("/etc/resolv.conf", "emptydir/r", "rw"), shared("/etc/hosts", "emptydir/h", "rw"),
		shared("/etc/hostname", "emptydir/n", "rw"), shared("/dev/termination-log", "emptydir/t", "rw"),
	}
}

func shared(at, source, mode string) cce.Mount {
	return cce.Mount{Destination: at, Options: []string{"rbind", "rshared", mode}, Source: framework.SandboxMounts + "/tmp/atlas/" + source, Type: "bind"}
}

// TestThePolicyAdmitsTheTemplatesContainers asks the platform's framework, in
// every generation, about the containers as a host reads them in the template:
// each is admitted, and none that is changed in one thing of the template.
func TestThePolicyAdmitsTheTemplatesContainers(t *testing.T) {
	generations, err := framework.Generations()
	if err != nil || len(generations) < 3 {
		t.Fatalf("%d generations of the framework, %v: make frameworks", len(generations), err)
	}
	for name, s := range all(t) {
		if s.Kind == spec.Simulated {
			continue // its policy is for the simulated cloud, which reads it itself (internal/localcloud, TestGroupsRefused)
		}
		tm := made(t, s)
		read, err := framework.Read(t.Context(), tm.ContainerPolicy)
		if err != nil {
			t.Fatal(err)
		}
		d := deployed(t, tm)
		if len(read.Containers) != len(d.containers)+1 || read.Containers[len(d.containers)].Name != "pause-container" {
			t.Errorf("%s: the policy has %d containers, the template %d", name, len(read.Containers), len(d.containers))
		}
		for _, g := range generations {
			e, err := framework.New(g, tm.ContainerPolicy)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range d.containers {
				if c.name != read.Containers[i].Name || c.image != read.Containers[i].ID {
					t.Errorf("%s: container %s of %s, and the policy has %s of %s", name, c.name, c.image, read.Containers[i].Name, read.Containers[i].ID)
				}
				admits(t, fmt.Sprintf("%s, framework %s, %s", name, g.Version, c.name), e, c.Request)
			}
		}
	}
}

func admits(t *testing.T, at string, e *framework.Enforcer, r framework.Request) {
	t.Helper()
	v, err := e.Start(context.Background(), r)
	if err != nil || !v.Admitted {
		t.Errorf("%s: refused at %s: %s %v", at, v.Point, v.Reason, err)
	}
	for what, change := range map[string]func(*framework.Request){
		"another argument":  func(r *framework.Request) { r.Command[len(r.Command)-1] += "x" },
		"another user":      func(r *framework.Request) { r.User = "4711" },
		"another privilege": func(r *framework.Request) { r.NoNewPrivileges = false; r.Privileged = !r.Privileged },
		"a variable more":   func(r *framework.Request) { r.Environment = append(r.Environment, "LD_PRELOAD=/x") },
		"policies that are no base64": func(r *framework.Request) {
			r.Environment = append(r.Environment, cce.PoliciesVariable+"=e30= LD_PRELOAD=/x")
		},
		"a mount more": func(r *framework.Request) { r.Mounts = append(r.Mounts, shared("/x", "emptydir/x", "rw")) },
		"a mount otherwise": func(r *framework.Request) {
			last := &r.Mounts[len(r.Mounts)-1]
			last.Options = []string{"rbind", "rshared", "exec"}
		},
	} {
		changed := r
		changed.Command, changed.Environment, changed.Mounts = slices.Clone(r.Command), slices.Clone(r.Environment), slices.Clone(r.Mounts)
		change(&changed)
		v, err := e.Start(context.Background(), changed)
		// A privileged container may be asked for with less: it then cannot mount,
		// and nothing starts.
		if less := what == "another privilege" && r.Privileged; err != nil || v.Admitted && !less {
			t.Errorf("%s: with %s it is admitted, %v", at, what, err)
		}
	}
}
