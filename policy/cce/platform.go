package cce

import (
	"bytes"
	"fmt"
	"slices"

	"cloister/policy/spec"
)

// Versions that the policy declares. The framework's later versions read a
// policy that declares an earlier one.
const (
	apiVersion       = "0.11.0"
	frameworkVersion = "0.2.3"
)

// The fragment that lists the platform's own containers, signed by its vendor.
const (
	fragmentFeed   = "mcr.microsoft.com/aci/aci-cc-infra-fragment"
	fragmentIssuer = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3"
	fragmentSVN    = "4" // the lowest security version accepted
)

// pauseLayer is the root hash of the one layer of the platform's pause image.
const pauseLayer = "16b514057a06ad665f92c02863aca074fd5976c755d26bff16365299169e8415"

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

func platform(s spec.Specification, command []string) []byte {
	fragments := []any{map[string]any{
		"feed": fragmentFeed, "includes": []string{"containers", "fragments"},
		"issuer": fragmentIssuer, "minimum_svn": fragmentSVN,
	}}
	containers := []any{runtimeContainer(s, command), pauseContainer()}

	var b bytes.Buffer
	b.WriteString("package policy\n\nimport future.keywords.every\nimport future.keywords.in\n\n")
	fmt.Fprintf(&b, "api_version := %q\nframework_version := %q\n\n", apiVersion, frameworkVersion)
	fmt.Fprintf(&b, "fragments := %s\n\n", encodeIndented(fragments))
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

// container has every field the framework asks for; the framework refuses a
// policy that lacks one.
func container(fields map[string]any) map[string]any {
	c := map[string]any{
		"allow_elevated":         false,
		"allow_stdio_access":     false, // what the application prints is data too
		"exec_processes":         []any{},
		"mounts":                 []any{},
		"no_new_privileges":      false,
		"seccomp_profile_sha256": "",
		"signals":                []any{},
		"working_dir":            "/",
	}
	for name, value := range fields {
		c[name] = value
	}
	return c
}

// runtimeContainer is the one container of the monolithic model: the runtime,
// which starts the application. It is privileged, for FUSE, and root; the
// application it starts is neither. Capabilities null: those the platform gives
// to a privileged container.
func runtimeContainer(s spec.Specification, command []string) map[string]any {
	return container(map[string]any{
		"allow_elevated": true,
		"capabilities":   nil,
		"command":        command,
		"env_rules":      environmentRules(s),
		"id":             s.Application.Image.Reference,
		"layers":         s.Application.Image.Layers,
		"mounts":         []any{resolvConf()},
		"name":           s.Application.Name,
		"signals":        []int{15}, // SIGTERM: the orderly end, which seals what was written
		"user": map[string]any{
			"group_idnames": []any{match("", "any")},
			"umask":         "0022",
			"user_idname":   match("0", "id"),
		},
	})
}

func pauseContainer() map[string]any {
	return container(map[string]any{
		"capabilities": map[string]any{
			"ambient": []any{}, "bounding": defaultCapabilities[:], "effective": defaultCapabilities[:],
			"inheritable": []any{}, "permitted": defaultCapabilities[:],
		},
		"command": []string{"/pause"},
		"env_rules": []any{
			variable("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "string", true),
			variable("TERM=xterm", "string", false),
		},
		"id":     "pause",
		"layers": []string{pauseLayer},
		"name":   "pause-container",
		"user": map[string]any{
			"group_idnames": []any{match("", "any")},
			"umask":         "0022",
			"user_idname":   match("", "any"),
		},
	})
}

// defaultCapabilities are those of an unprivileged container in containerd.
var defaultCapabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// SpecificationVariable is the variable in which the host hands the runtime the
// canonical specification, in base64. Nothing in it is believed before its
// digest equals the one on the command line.
const SpecificationVariable = "CLOISTER_SPECIFICATION"

// injected are the variables that the platform, and for their identities ACI
// and AKS, put into every container.
var injected = [...]string{
	`(?i)(FABRIC)_.+=.+`, `HOSTNAME=.+`, `T(E)?MP=.+`, `FabricPackageFileName=.+`, `HostedServiceName=.+`,
	`IDENTITY_API_VERSION=.+`, `IDENTITY_HEADER=.+`, `IDENTITY_SERVER_THUMBPRINT=.+`,
	`azurecontainerinstance_restarted_by=.+`,
}

// environmentRules lets in what the platform sets and the specification. The
// application's own variables are not here: the runtime sets them itself, out
// of the specification.
func environmentRules(s spec.Specification) []any {
	rules := []any{variable("TERM=xterm", "string", false)}
	for _, pattern := range injected {
		rules = append(rules, variable(pattern, "re2", false))
	}
	rules = append(rules, variable("^"+SpecificationVariable+"=[A-Za-z0-9+/]+=*$", "re2", false))
	for _, id := range identities(s) {
		rules = append(rules, variable("AZURE_CLIENT_ID="+id, "string", false))
	}
	return rules
}

// identities returns the client ids that the specification names, sorted.
func identities(s spec.Specification) []string {
	var ids []string
	for _, id := range s.Identities {
		ids = append(ids, id.ClientID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func variable(pattern, strategy string, required bool) map[string]any {
	return map[string]any{"pattern": pattern, "required": required, "strategy": strategy}
}

func match(pattern, strategy string) map[string]any {
	return map[string]any{"pattern": pattern, "strategy": strategy}
}

// resolvConf is the mount that ACI makes in every container.
func resolvConf() map[string]any {
	return map[string]any{
		"destination": "/etc/resolv.conf",
		"options":     []string{"rbind", "rshared", "rw"},
		"source":      "sandbox:///tmp/atlas/resolvconf/.+",
		"type":        "bind",
	}
}
