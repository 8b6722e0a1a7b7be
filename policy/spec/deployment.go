package spec

// Deployment is what a template needs to know of the cloud around the clean
// room. None of it decides who gets a key.
type Deployment struct {
	// Replicas is how many clean rooms work on the same sources, each with output
	// volumes of its own: see Specification.Replica; 1 when 0.
	Replicas uint32 `json:"replicas,omitempty"`
	// Subnet is the Azure resource of the subnet that a container group joins,
	// with a private address in it: /subscriptions/…/subnets/NAME.
	Subnet     string     `json:"subnet,omitempty"`
	Registries []Registry `json:"registries,omitempty"`
}

// Registry says where the credentials for an image registry are, never what
// they are. One of Identity and Secret is given.
type Registry struct {
	Server   string `json:"server"`             // as it begins the image's reference
	Identity string `json:"identity,omitempty"` // name of an identity that may pull
	Secret   string `json:"secret,omitempty"`   // name of the Kubernetes Secret of type dockerconfigjson
}
