package cce

import (
	"bytes"
	"fmt"

	"cloister/policy/spec"
)

// Versions that the policy declares. The framework's later versions read a
// policy that declares an earlier one.
const (
	apiVersion       = "0.11.0"
	frameworkVersion = "0.2.3"
)

// allowances are the policy's general permissions. Ours differs from the
// platform tool's default in one: variables that match no rule are refused
// rather than silently dropped.
var allowances = [...]struct {
	name    string
	allowed bool
}{
	{"allow_properties_access", true},
	{"allow_dump_stacks", false},
	{"allow_runtime_logging", false},
	{"allow_environment_variable_dropping", false},
	{"allow_unencrypted_scratch", false},
	{"allow_capability_dropping", true},
}

// enforcementPoints are those of the API version above that ask the framework.
// The two for mounting read-write devices came with that version; the framework
// answers for them by itself when a policy does not name them.
var enforcementPoints = [...]string{
	"mount_device", "unmount_device", "mount_overlay", "unmount_overlay",
	"create_container", "exec_in_container", "exec_external", "shutdown_container", "signal_container_process",
	"plan9_mount", "plan9_unmount", "get_properties", "dump_stacks", "runtime_logging", "load_fragment",
	"scratch_mount", "scratch_unmount",
}

// platform writes the text as the platform's own tool lays it out.
func platform(s spec.Specification, in Inputs) ([]byte, error) {
	containers, err := containersOf(s, in)
	if err != nil {
		return nil, err
	}
	return write(containers, in.Infrastructure), nil
}

func write(containers []Container, infrastructure Infrastructure) []byte {
	var b bytes.Buffer
	b.WriteString("package policy\n\nimport future.keywords.every\nimport future.keywords.in\n\n")
	fmt.Fprintf(&b, "api_version := %q\nframework_version := %q\n\n", apiVersion, frameworkVersion)
	fmt.Fprintf(&b, "fragments := %s\n\n", encodeIndented([]Fragment{infrastructure.fragment()}))
	fmt.Fprintf(&b, "containers := %s\n\n", encode(containers))
	for _, a := range allowances {
		fmt.Fprintf(&b, "%s := %t\n", a.name, a.allowed)
	}
	b.WriteString("\n")
	for _, point := range enforcementPoints {
		fmt.Fprintf(&b, "%s := data.framework.%s\n", point, point)
	}
	b.WriteString("\nreason := {\"errors\": data.framework.errors}\n")
	return b.Bytes()
}
