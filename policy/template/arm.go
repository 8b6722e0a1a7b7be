package template

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"

	"cloister/policy/cce"
	"cloister/policy/spec"
)

type armTemplate struct {
	Schema         string                  `json:"$schema"`
	ContentVersion string                  `json:"contentVersion"`
	Parameters     map[string]armParameter `json:"parameters"`
	Resources      []armGroup              `json:"resources"`
}

type armParameter struct {
	Type         string `json:"type"`
	DefaultValue string `json:"defaultValue"`
}

type armGroup struct {
	Type       string        `json:"type"`
	APIVersion string        `json:"apiVersion"`
	Name       string        `json:"name"`
	Location   string        `json:"location"`
	Copy       *armCopy      `json:"copy,omitempty"`
	Identity   *armIdentity  `json:"identity,omitempty"`
	Properties armProperties `json:"properties"`
}

// armCopy deploys a resource several times; copyIndex() is the number of each.
type armCopy struct {
	Name  string `json:"name"`
	Count uint32 `json:"count"`
}

type armIdentity struct {
	Type                   string              `json:"type"`
	UserAssignedIdentities map[string]struct{} `json:"userAssignedIdentities"`
}

type armProperties struct {
	SKU                           string          `json:"sku"`
	OSType                        string          `json:"osType"`
	RestartPolicy                 string          `json:"restartPolicy"`
	ConfidentialComputeProperties armConfidential `json:"confidentialComputeProperties"`
	Containers                    []armContainer  `json:"containers"`
	Volumes                       []armVolume     `json:"volumes,omitempty"`
	IPAddress                     *armAddress     `json:"ipAddress,omitempty"`
	SubnetIDs                     []armSubnet     `json:"subnetIds,omitempty"`
	ImageRegistryCredentials      []armCredential `json:"imageRegistryCredentials,omitempty"`
}

type armConfidential struct {
	CCEPolicy string `json:"ccePolicy"`
}

type armContainer struct {
	Name       string                 `json:"name"`
	Properties armContainerProperties `json:"properties"`
}

type armContainerProperties struct {
	Image                string       `json:"image"`
	Command              []string     `json:"command"`
	EnvironmentVariables []variable   `json:"environmentVariables,omitempty"`
	Ports                []armPort    `json:"ports,omitempty"`
	Resources            armResources `json:"resources"`
	SecurityContext      armSecurity  `json:"securityContext"`
	VolumeMounts         []armMount   `json:"volumeMounts,omitempty"`
}

type armPort struct {
	Protocol string `json:"protocol"`
	Port     uint32 `json:"port"`
}

type armResources struct {
	Requests armAmounts `json:"requests"`
	Limits   armAmounts `json:"limits"`
}

type armAmounts struct {
	CPU        float64 `json:"cpu"`
	MemoryInGB float64 `json:"memoryInGB"`
}

type armSecurity struct {
	Privileged               bool             `json:"privileged"`
	AllowPrivilegeEscalation bool             `json:"allowPrivilegeEscalation"`
	RunAsUser                *int64           `json:"runAsUser,omitempty"`
	RunAsGroup               *int64           `json:"runAsGroup,omitempty"`
	Capabilities             *armCapabilities `json:"capabilities,omitempty"`
}

type armCapabilities struct {
	Add  []string `json:"add"`
	Drop []string `json:"drop"`
}

type armVolume struct {
	Name     string   `json:"name"`
	EmptyDir struct{} `json:"emptyDir"`
}

type armMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

type armAddress struct {
	Type  string    `json:"type"`
	Ports []armPort `json:"ports"`
}

type armSubnet struct {
	ID string `json:"id"`
}

type armCredential struct {
	Server   string `json:"server"`
	Identity string `json:"identity"`
}

type variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// shareVolume is the directory that the containers share. It holds mount points
// alone: what is mounted there is sealed elsewhere.
const shareVolume = "share"

var restartPolicies = map[string]string{
	"": "Never", spec.RestartNever: "Never", spec.RestartOnFailure: "OnFailure", spec.RestartAlways: "Always",
}

// arm writes a deployment template of one container group.
func (r room) arm() ([]byte, error) {
	group := armGroup{
		Type: "Microsoft.ContainerInstance/containerGroups", APIVersion: "2023-05-01", Name: r.Name, Location: "[parameters('location')]",
		Properties: armProperties{
			SKU: "Confidential", OSType: "Linux", RestartPolicy: restartPolicies[r.Application.Restart],
			ConfidentialComputeProperties: armConfidential{base64.StdEncoding.EncodeToString(r.policy)},
		},
	}
	for _, c := range r.containers {
		group.Properties.Containers = append(group.Properties.Containers, c.arm(r.share))
	}
	if r.share != "" {
		group.Properties.Volumes = []armVolume{{Name: shareVolume}}
	}
	r.armNetwork(&group.Properties)
	if err := r.armReplicas(&group); err != nil {
		return nil, err
	}
	if err := r.armIdentities(&group); err != nil {
		return nil, err
	}
	return indented(armTemplate{
		Schema:         "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
		ContentVersion: "1.0.0.0",
		Parameters:     map[string]armParameter{"location": {"string", "[resourceGroup().location]"}},
		Resources:      []armGroup{group},
	})
}

// armReplicas deploys a container group for each replica, and tells its runtime
// which it is.
func (r room) armReplicas(group *armGroup) error {
	if r.Replicas() == 1 {
		return nil
	}
	if err := r.checkLastName(); err != nil {
		return err
	}
	group.Name, group.Copy = "[format('"+r.Name+"-{0}', copyIndex())]", &armCopy{"replicas", r.Replicas()}
	runtime := &group.Properties.Containers[0].Properties
	runtime.EnvironmentVariables = append(runtime.EnvironmentVariables, variable{cce.ReplicaVariable, "[string(copyIndex())]"})
	return nil
}

// arm says of a container what the policy does. A mount's propagation has no
// field there: the platform makes every one shared.
func (c container) arm(share string) armContainer {
	p := armContainerProperties{Image: c.ID, EnvironmentVariables: c.environment, Resources: c.armResources(), SecurityContext: c.armSecurity(), Ports: armPorts(c.ports)}
	for _, arg := range c.Command {
		p.Command = append(p.Command, armLiteral(arg))
	}
	if share != "" {
		p.VolumeMounts = []armMount{{shareVolume, share, c.inside}}
	}
	return armContainer{c.Name, p}
}

// armLiteral keeps the deployment from evaluating a text in brackets as an
// expression of the template language.
func armLiteral(s string) string {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return "[" + s
	}
	return s
}

// armResources: the service counts hundredths of a processor and tenths of a GB
// (which is its GiB). What lies between is rounded up, so that nobody gets less
// than was agreed.
func (c container) armResources() armResources {
	amounts := armAmounts{
		CPU:        math.Ceil(float64(c.resources.MilliCPU)/10) / 100,
		MemoryInGB: math.Ceil(float64(c.resources.MemoryMiB)*10/1024) / 10,
	}
	return armResources{amounts, amounts}
}

func (c container) armSecurity() armSecurity {
	s := armSecurity{Privileged: c.AllowElevated, AllowPrivilegeEscalation: !c.NoNewPrivileges}
	s.RunAsUser, s.RunAsGroup = c.user()
	if !c.AllowElevated {
		s.Capabilities = &armCapabilities{Add: []string{}, Drop: []string{"ALL"}}
	}
	return s
}

// user returns user and group, where the policy admits one alone.
func (c container) user() (uid, gid *int64) {
	if n, ok := c.User.User.Number(); ok {
		uid = &n
	}
	if n, ok := c.User.Groups[0].Number(); ok {
		gid = &n
	}
	return uid, gid
}

func armPorts(ports []uint32) (list []armPort) {
	for _, p := range ports {
		list = append(list, armPort{"TCP", p})
	}
	return list
}

// armNetwork: in a subnet the group's address is private. Without endpoints
// nobody calls it, and it has none of its own.
func (r room) armNetwork(p *armProperties) {
	kind := "Public"
	if r.Deployment != nil && r.Deployment.Subnet != "" {
		kind, p.SubnetIDs = "Private", []armSubnet{{r.Deployment.Subnet}}
	}
	if ports := armPorts(portsOf(r.Specification)); ports != nil {
		p.IPAddress = &armAddress{kind, ports}
	}
}

// armIdentities attaches every identity, and says which pulls from a registry.
func (r room) armIdentities(group *armGroup) error {
	for _, id := range r.Identities {
		resource, err := resource(id)
		if err != nil {
			return err
		}
		if group.Identity == nil {
			group.Identity = &armIdentity{"UserAssigned", map[string]struct{}{}}
		}
		group.Identity.UserAssignedIdentities[resource] = struct{}{}
	}
	for _, registry := range r.registries() {
		group.Properties.ImageRegistryCredentials = append(group.Properties.ImageRegistryCredentials,
			armCredential{registry.Server, r.identity(registry.Identity).ResourceID})
	}
	return nil
}

func indented(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}
