package spec

// Runtime pins the program that holds the keys where the application's image
// does not contain it: a binary on the simulated platform, the sidecar's image
// in the distributed model.
type Runtime struct {
	Binary    string     `json:"binary,omitempty"` // "sha256:" and the hash of the cloisterd file
	Image     *Image     `json:"image,omitempty"`
	Resources *Resources `json:"resources,omitempty"` // of the sidecar
}

// Application is the program that reads the sources and writes the sinks.
type Application struct {
	Name string `json:"name"`
	// Image is what the container is started from: in the monolithic model
	// runtime and application in one. The simulated platform has none.
	Image       *Image            `json:"image,omitempty"`
	Command     []string          `json:"command"` // the program's absolute path and its arguments
	Environment map[string]string `json:"environment,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"` // "/" when empty
	User        *User             `json:"user,omitempty"`       // nobody (65534:65534) when absent
	Ports       []uint32          `json:"ports,omitempty"`      // TCP ports it listens on
	Resources   *Resources        `json:"resources,omitempty"`  // the platform's default when absent
	Start       string            `json:"start,omitempty"`      // StartAuto when empty
	Restart     string            `json:"restart,omitempty"`    // RestartNever when empty
	// GovernanceAPI is the TCP port of 127.0.0.1 at which the application finds
	// the calls of Azure clean room's governance sidecar: it may ask for consent,
	// and put events of its own into the contract's record. Not offered when 0.
	GovernanceAPI uint32 `json:"governanceAPI,omitempty"`
}

// When the application starts.
const (
	StartAuto   = "auto"   // as soon as its volumes are there
	StartManual = "manual" // when a client first calls for it
)

// Whether an application that has ended is started again. The templates write
// the platform's own words for them.
const (
	RestartNever     = "never"
	RestartOnFailure = "on-failure" // when its exit code is not 0
	RestartAlways    = "always"
)

// Image is a container image.
type Image struct {
	Reference string `json:"reference"` // repository and digest, never a tag alone
	// Layers are the dm-verity root hashes of the layers, lowest first, each 64
	// hexadecimal digits. Where they are not here they follow from the digest in
	// Reference, and cloister policy generate computes them from the image.
	Layers []string `json:"layers,omitempty"`
}

// User is the numeric user and group the application runs as; never root.
type User struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Resources is what a container is given, and no more than that.
type Resources struct {
	MilliCPU  uint32 `json:"milliCPU"`  // thousandths of a processor
	MemoryMiB uint32 `json:"memoryMiB"` // MiB, plaintext in the page cache included
}
