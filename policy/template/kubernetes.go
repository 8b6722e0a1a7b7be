package template

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"

	"sigs.k8s.io/yaml"
)

type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       any      `json:"spec,omitempty"`
}

type metadata struct {
	Name        string            `json:"name,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

type podSpec struct {
	Containers                   []podContainer    `json:"containers"`
	RestartPolicy                string            `json:"restartPolicy"`
	NodeSelector                 map[string]string `json:"nodeSelector"`
	Tolerations                  []toleration      `json:"tolerations"`
	AutomountServiceAccountToken bool              `json:"automountServiceAccountToken"`
	EnableServiceLinks           bool              `json:"enableServiceLinks"`
	ServiceAccountName           string            `json:"serviceAccountName,omitempty"`
	ImagePullSecrets             []named           `json:"imagePullSecrets,omitempty"`
	Volumes                      []podVolume       `json:"volumes,omitempty"`
}

type named struct {
	Name string `json:"name"`
}

type toleration struct {
	Key      string `json:"key"`
	Operator string `json:"operator"`
	Effect   string `json:"effect"`
}

type podVolume struct {
	Name     string   `json:"name"`
	EmptyDir struct{} `json:"emptyDir"`
}

type podContainer struct {
	Name            string       `json:"name"`
	Image           string       `json:"image"`
	Command         []string     `json:"command"`
	Env             []variable   `json:"env,omitempty"`
	Ports           []podPort    `json:"ports,omitempty"`
	Resources       podResources `json:"resources"`
	SecurityContext podSecurity  `json:"securityContext"`
	VolumeMounts    []podMount   `json:"volumeMounts,omitempty"`
}

type podPort struct {
	ContainerPort uint32 `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

type podResources struct {
	Limits   podAmounts `json:"limits"`
	Requests podAmounts `json:"requests"`
}

type podAmounts struct {
	CPU    string `json:"cpu"`
	Memory string `json:"memory"`
}

type podSecurity struct {
	Privileged               bool             `json:"privileged"`
	AllowPrivilegeEscalation bool             `json:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool             `json:"readOnlyRootFilesystem,omitempty"`
	RunAsNonRoot             bool             `json:"runAsNonRoot,omitempty"`
	RunAsUser                *int64           `json:"runAsUser,omitempty"`
	RunAsGroup               *int64           `json:"runAsGroup,omitempty"`
	Capabilities             *podCapabilities `json:"capabilities,omitempty"`
}

type podCapabilities struct {
	Drop []string `json:"drop"`
}

type podMount struct {
	Name             string `json:"name"`
	MountPath        string `json:"mountPath"`
	ReadOnly         bool   `json:"readOnly,omitempty"`
	MountPropagation string `json:"mountPropagation"`
}

type jobSpec struct {
	CompletionMode       string  `json:"completionMode"`
	Completions          uint32  `json:"completions"`
	Parallelism          uint32  `json:"parallelism"`
	BackoffLimitPerIndex *uint32 `json:"backoffLimitPerIndex,omitempty"`
	Template             pod     `json:"template"`
}

type pod struct {
	Metadata metadata `json:"metadata"`
	Spec     podSpec  `json:"spec"`
}

// What virtual nodes go by.
const (
	policyAnnotation   = "microsoft.containerinstance.virtualnode.ccepolicy"
	identityAnnotation = "microsoft.containerinstance.virtualnode.identity"
)

// What the webhook of workload identity goes by.
const (
	useWorkloadIdentity = "azure.workload.identity/use"
	skipContainers      = "azure.workload.identity/skip-containers"
	clientID            = "azure.workload.identity/client-id"
	tenantID            = "azure.workload.identity/tenant-id"
)

// kubernetes writes a pod, or an Indexed Job of as many as there are replicas.
func (r room) kubernetes() ([]byte, error) {
	p, err := r.pod()
	if err != nil {
		return nil, err
	}
	objects, err := r.podIdentity(&p)
	if err != nil {
		return nil, err
	}
	if r.Replicas() == 1 {
		p.Metadata.Name = r.Name
		return documents(append(objects, object{"v1", "Pod", p.Metadata, p.Spec}))
	}
	job, err := r.job(p)
	return documentsOr(append(objects, job), err)
}

func (r room) pod() (pod, error) {
	p := pod{
		Metadata: metadata{Annotations: map[string]string{policyAnnotation: base64.StdEncoding.EncodeToString(r.policy)}},
		Spec: podSpec{
			RestartPolicy: restartPolicies[r.Application.Restart],
			NodeSelector:  map[string]string{"virtualization": "virtualnode2"},
			Tolerations:   []toleration{{"virtual-kubelet.io/provider", "Exists", "NoSchedule"}},
		},
	}
	for _, c := range r.containers {
		p.Spec.Containers = append(p.Spec.Containers, c.kubernetes(r.share))
	}
	if r.share != "" {
		p.Spec.Volumes = []podVolume{{Name: shareVolume}}
	}
	for _, registry := range r.registries() {
		if registry.Secret == "" {
			return p, fault.Errorf(fault.Usage, "name a Secret of type dockerconfigjson, or leave the registry out where the cluster may pull from it",
				"a pod has no place for the identity that pulls from %s", registry.Server)
		}
		if secret := (named{registry.Secret}); !slices.Contains(p.Spec.ImagePullSecrets, secret) {
			p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, secret)
		}
	}
	return p, nil
}

// kubernetes says of a container what the policy does.
func (c container) kubernetes(share string) podContainer {
	p := podContainer{Name: c.Name, Image: c.ID, Env: c.environment, SecurityContext: c.podSecurity()}
	amounts := podAmounts{fmt.Sprintf("%dm", c.resources.MilliCPU), fmt.Sprintf("%dMi", c.resources.MemoryMiB)}
	p.Resources = podResources{amounts, amounts}
	for _, arg := range c.Command {
		p.Command = append(p.Command, podLiteral(arg))
	}
	for _, port := range c.ports {
		p.Ports = append(p.Ports, podPort{port, "TCP"})
	}
	switch {
	case share == "":
	case c.inside:
		p.VolumeMounts = []podMount{{shareVolume, share, true, "HostToContainer"}}
	default:
		p.VolumeMounts = []podMount{{shareVolume, share, false, "Bidirectional"}}
	}
	return p
}

// podLiteral keeps Kubernetes from replacing $(NAME) in a command: of two dollar
// signs it leaves one.
func podLiteral(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func (c container) podSecurity() podSecurity {
	s := podSecurity{Privileged: c.AllowElevated, AllowPrivilegeEscalation: !c.NoNewPrivileges}
	s.RunAsUser, s.RunAsGroup = c.user()
	if !c.AllowElevated {
		s.Capabilities = &podCapabilities{[]string{"ALL"}}
		s.RunAsNonRoot, s.ReadOnlyRootFilesystem = true, true
	}
	return s
}

// podIdentity lets the runtime sign in. A pod on a virtual node has one identity
// attached; for several, or one whose resource is not known, it has workload
// identity, as a service account that each of them must trust (a federated
// credential for system:serviceaccount:NAMESPACE:NAME). The application's
// container gets neither token nor variables.
func (r room) podIdentity(p *pod) ([]object, error) {
	switch {
	case len(r.Identities) == 0:
		return nil, nil
	case len(r.Identities) == 1 && r.Identities[0].ResourceID != "":
		p.Metadata.Annotations[identityAnnotation] = r.Identities[0].ResourceID
		return nil, nil
	}
	first := slices.MinFunc(r.Identities, func(a, b spec.Identity) int { return cmp.Compare(a.Name, b.Name) })
	account := metadata{Name: r.Name, Annotations: map[string]string{clientID: first.ClientID}}
	if first.TenantID != "" {
		account.Annotations[tenantID] = first.TenantID
	}
	p.Metadata.Labels = map[string]string{useWorkloadIdentity: "true"}
	p.Spec.ServiceAccountName = r.Name
	if len(r.containers) > 1 {
		p.Metadata.Annotations[skipContainers] = r.Application.Name
	}
	return []object{{"v1", "ServiceAccount", account, nil}}, nil
}

// job runs every replica once; where the application is not to be started again,
// one that fails fails alone.
func (r room) job(p pod) (object, error) {
	n := r.Replicas()
	if err := r.checkLastName(); err != nil {
		return object{}, err
	}
	j := jobSpec{CompletionMode: "Indexed", Completions: n, Parallelism: n, Template: p}
	if p.Spec.RestartPolicy == "Never" {
		j.BackoffLimitPerIndex = new(uint32)
	}
	return object{"batch/v1", "Job", metadata{Name: r.Name}, j}, nil
}

func documentsOr(objects []object, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return documents(objects)
}

// documents writes YAML as Kubernetes' own tools do, and so as they read it.
func documents(objects []object) ([]byte, error) {
	var list [][]byte
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return bytes.Join(list, []byte(separator)), nil
}

const separator = "---\n"
