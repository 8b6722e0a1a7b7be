package cce

import "strconv"

// Policy is what a container policy says, apart from how it is written.
// Package framework reads it out of any policy's text.
type Policy struct {
	APIVersion       string      `json:"api_version"`
	FrameworkVersion string      `json:"framework_version"`
	Fragments        []Fragment  `json:"fragments"`
	Containers       []Container `json:"containers"`
	// Allow are the general permissions, by their names in the text.
	Allow map[string]bool `json:"allow"`
	// Own are the enforcement points that the policy decides by itself instead
	// of asking the framework, with what it answers: {"allowed": true} for all.
	Own map[string]any `json:"own,omitempty"`
}

// Fragment is a policy of somebody else's that may add to this one.
type Fragment struct {
	Feed       string   `json:"feed"`
	Includes   []string `json:"includes"`
	Issuer     string   `json:"issuer"` // a did:x509 of the signer
	MinimumSVN string   `json:"minimum_svn"`
}

// Container is one container that may be started; its JSON members are in
// rising order, as the platform's own tool writes them.
type Container struct {
	AllowElevated   bool          `json:"allow_elevated"`
	AllowStdio      bool          `json:"allow_stdio_access"`
	Capabilities    *Capabilities `json:"capabilities"` // nil: the platform's default, all where elevated
	Command         []string      `json:"command"`
	EnvRules        []EnvRule     `json:"env_rules"`
	ExecProcesses   []Process     `json:"exec_processes"`
	ID              string        `json:"id"`
	Layers          []string      `json:"layers"` // dm-verity root hashes, lowest first
	Mounts          []Mount       `json:"mounts"`
	Name            string        `json:"name"`
	NoNewPrivileges bool          `json:"no_new_privileges"`
	Seccomp         string        `json:"seccomp_profile_sha256"`
	Signals         []int         `json:"signals"`
	User            User          `json:"user"`
	WorkingDir      string        `json:"working_dir"`
}

// Capabilities are those of capabilities(7), by set.
type Capabilities struct {
	Ambient     []string `json:"ambient"`
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Inheritable []string `json:"inheritable"`
	Permitted   []string `json:"permitted"`
}

// The strategies of a pattern.
const (
	MatchText = "string" // the pattern itself
	MatchRE2  = "re2"    // the whole text
	matchID   = "id"     // the number of a user or group
	matchAny  = "any"
)

// EnvRule admits variables, each NAME=VALUE; a required one must be there.
type EnvRule struct {
	Pattern  string `json:"pattern"`
	Required bool   `json:"required"`
	Strategy string `json:"strategy"`
}

// Process is one that may be started in a running container.
type Process struct {
	Command []string `json:"command"`
	Signals []int    `json:"signals"`
}

// Mount is one that the container may have.
type Mount struct {
	Destination string   `json:"destination"`
	Options     []string `json:"options"`
	Source      string   `json:"source"`
	Type        string   `json:"type"`
}

// User is who the container's first process may be.
type User struct {
	Groups []IDName `json:"group_idnames"`
	Umask  string   `json:"umask"`
	User   IDName   `json:"user_idname"`
}

// IDName matches a user or a group.
type IDName struct {
	Pattern  string `json:"pattern"`
	Strategy string `json:"strategy"`
}

// Number returns the number that is matched, if it is one number.
func (n IDName) Number() (int64, bool) {
	number, err := strconv.ParseUint(n.Pattern, 10, 32)
	return int64(number), n.Strategy == matchID && err == nil
}
