// Package spec is the clean room specification: what the parties agree may run,
// on whose data, under which keys, and where its results go.
//
// Life of a specification: a party writes it as YAML with the owner's tool
// (package yaml below this one), Validate finds everything that is wrong with
// it, and Canonical turns it into the one sequence of bytes that stands for it.
// Digest of those bytes goes into the container policy. The runtime is handed
// the canonical bytes by an untrusted host, compares their digest with the one
// on its measured command line, and reads them with ParseCanonical; it never
// reads YAML.
//
// Nothing here is secret, and nothing here depends on a later document: no
// volume reference and no policy hash, or the order of digests had a cycle.
package spec

// APIVersion is the form of specification that this package reads.
const APIVersion = "cloister/v1"

// Kind is where the clean room runs.
type Kind string

// The kinds.
const (
	ACI Kind = "aci" // a confidential container group of Azure Container Instances
	AKS Kind = "aks" // a pod on confidential virtual nodes of AKS
	// CVM is a confidential VM of Azure, whose measured system has the runtime in
	// it: no image is started, and no container policy is enforced.
	CVM Kind = "cvm"
	// Simulated is the software platform for development. It protects nothing.
	Simulated Kind = "simulated"
)

// The deployment models.
const (
	Monolithic = "monolithic" // runtime and application share one container
	// Distributed: the runtime is a sidecar of the application. The platform
	// gives every container of the group the attestation device and one
	// network, so what the sidecar can guard is less: see AcceptedRisk.
	Distributed = "distributed"
)

// StartsContainers: the platform starts containers of images, and measures them.
func (k Kind) StartsContainers() bool { return k != Simulated && k != CVM }

// Cloud is which of Azure's clouds the services are in.
type Cloud string

// The clouds. A specification that names none is in the public one.
const (
	PublicCloud       Cloud = "public"
	USGovernmentCloud Cloud = "usgovernment"
	ChinaCloud        Cloud = "china"
)

// Specification is the whole document. Lists of named things are sets: their
// order has no meaning and does not change the digest.
type Specification struct {
	APIVersion string `json:"apiVersion"`
	Name       string `json:"name"`
	Kind       Kind   `json:"kind"`
	Cloud      Cloud  `json:"cloud,omitempty"` // public when empty
	Model      string `json:"model"`
	// AcceptedRisk says in the parties' own words why the distributed model's
	// residual risk is acceptable to them; it has no other use.
	AcceptedRisk string      `json:"acceptedRisk,omitempty"`
	Parties      []Party     `json:"parties,omitempty"`
	Identities   []Identity  `json:"identities,omitempty"`
	Runtime      *Runtime    `json:"runtime,omitempty"`
	Application  Application `json:"application"`
	// Code holds volumes of code or models: mounted first, like sources.
	Code        []Source    `json:"code,omitempty"`
	DataSources []Source    `json:"datasources,omitempty"`
	DataSinks   []Sink      `json:"datasinks,omitempty"`
	Network     Network     `json:"network"`
	Endpoints   []Endpoint  `json:"endpoints,omitempty"`
	Jobs        *Jobs       `json:"jobs,omitempty"`
	Governance  Governance  `json:"governance"`
	Attestation Attestation `json:"attestation"`
	Deployment  *Deployment `json:"deployment,omitempty"`
}

// Party is somebody whose agreement is needed.
type Party struct {
	Name string `json:"name"`
	// SigningKey signs the party's statements: SubjectPublicKeyInfo, DER, in
	// base64, ECDSA P-256 or Ed25519.
	SigningKey string `json:"signingKey"`
	// RecipientKey is the key results are sealed for, in the same form: X25519
	// or RSA of 2048 bits and more.
	RecipientKey string `json:"recipientKey,omitempty"`
}

// Identity is a managed identity of the clean room at the cloud's directory.
type Identity struct {
	Name     string `json:"name"`
	ClientID string `json:"clientId"`           // a UUID
	TenantID string `json:"tenantId,omitempty"` // a UUID; the resource's own tenant when empty
	// ResourceID is the identity's Azure resource: what a template attaches to
	// the container group, /subscriptions/…/userAssignedIdentities/NAME.
	ResourceID string `json:"resourceId,omitempty"`
}

// Source is a sealed volume that the application reads.
type Source struct {
	Name   string `json:"name"`
	Party  string `json:"party"`  // who owns it
	Volume string `json:"volume"` // volume id, 32 hexadecimal digits
	Store  string `json:"store"`  // URL of the volume; simulated: also a directory
	Mount  string `json:"mount"`  // absolute path the application sees
	Key    Key    `json:"key"`
	// Identity the runtime uses at the store and the vaults; its only one when empty.
	Identity string `json:"identity,omitempty"`
	Fetch    string `json:"fetch,omitempty"` // FetchOnDemand when empty
}

// When a source is fetched. Which parts of it an application reads, and when,
// shows to the store and the host, unless everything is read before it starts.
const (
	FetchOnDemand = "on-demand"
	FetchWhole    = "whole" // in a fixed order into memory, before the application starts
)

// Sink is a sealed volume that the application writes.
type Sink struct {
	Name       string   `json:"name"`
	Party      string   `json:"party"`
	Volume     string   `json:"volume"`
	Store      string   `json:"store"`
	Mount      string   `json:"mount"`
	Key        Key      `json:"key"`
	Identity   string   `json:"identity,omitempty"`
	Recipients []string `json:"recipients,omitempty"` // parties, beside the owner, who can open it
	Publish    string   `json:"publish,omitempty"`    // PublishAsWritten when empty
}

// When a sink goes to its store. When an application writes, and how much,
// shows to the store and the host, unless all goes at the end and padded.
const (
	PublishAsWritten   = "as-written"
	PublishAtEndPadded = "at-end, padded"
)

// Source returns what a sink has in common with a source.
func (s Sink) Source() Source {
	return Source{Name: s.Name, Party: s.Party, Volume: s.Volume, Store: s.Store, Mount: s.Mount, Key: s.Key, Identity: s.Identity}
}

// Key says where a volume's keys are: in a vault, or at a broker. The DEK's
// check value is not here: it comes with the volume reference in the contract.
type Key struct {
	KEK    string  `json:"kek,omitempty"`    // name of the key in the vault
	Vault  string  `json:"vault,omitempty"`  // URL of the Managed HSM or Key Vault that holds it
	Secret string  `json:"secret,omitempty"` // URL of the secret that holds the wrapped DEK
	Broker *Broker `json:"broker,omitempty"` // instead of the three
}

// Broker is a Key Broker Service of the Confidential Containers project, and
// which of its resources, each REPOSITORY/TYPE/TAG, are a volume's.
type Broker struct {
	URL      string `json:"url"`      // https, scheme and host
	Resource string `json:"resource"` // the wrapped DEK
	KEK      string `json:"kek"`      // the key that opens it
	// CA ends the broker's TLS chain: a certificate, DER, in base64; the system's
	// roots when empty.
	CA string `json:"ca,omitempty"`
}

// Governance says whose record is believed.
type Governance struct {
	// Ledger is the URL at which a run finds the ledger. It is not what makes the
	// ledger believed: LedgerKey is.
	Ledger string `json:"ledger,omitempty"`
	// LedgerCA ends the ledger's TLS chain: a certificate, DER, in base64; the
	// system's roots when empty.
	LedgerCA string `json:"ledgerCA,omitempty"`
	// LedgerKey verifies the ledger's signatures: a verifier key of the C2SP signed
	// note, NAME+HASH+BASE64.
	LedgerKey string `json:"ledgerKey"`
	// LedgerPolicy is the digest of the container policy, "sha256:…", under which the
	// ledger must prove to run, with its key and its TLS key made there, before
	// anything is said to it. No evidence is asked for when empty.
	LedgerPolicy string   `json:"ledgerPolicy,omitempty"`
	Witnesses    []string `json:"witnesses,omitempty"` // verifier keys that must cosign
	// WitnessAddresses are where witnesses serve, as far as that is known, each as
	// KEY@URL. Who looks after a clean room asks them there; a run does not need it.
	WitnessAddresses []string `json:"witnessAddresses,omitempty"`
	Threshold        uint32   `json:"threshold,omitempty"` // how many of the witnesses must; all when 0
	// Refused says what becomes of statements that parties and runs sign and the
	// ledger does not append: RefusedKept, or empty for nothing.
	Refused string `json:"refused,omitempty"`
}

// RefusedKept has the ledger keep the newest of the statements that it refuses.
const RefusedKept = "kept"

// Attestation says whose word about the platform is believed.
type Attestation struct {
	Authority string `json:"authority"` // URL of the attestation service
	// MinSVN is the lowest security version of the utility VM; none where there is
	// no such VM, in kind cvm.
	MinSVN uint32 `json:"minSVN,omitempty"`
	// TransparencyKeys are those of the transparency services one of which must
	// hold the utility VM's endorsement, where that is in hash-envelope form:
	// ECDSA on P-384, SubjectPublicKeyInfo in base64. The older form is in none.
	TransparencyKeys []string `json:"transparencyKeys,omitempty"`
}
