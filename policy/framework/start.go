package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cloister/policy/cce"
)

// Request is a container that a host asks the utility VM to start.
type Request struct {
	Layers          []string         `json:"layers"` // root hashes of the devices, lowest first
	Command         []string         `json:"command"`
	Environment     []string         `json:"environment"`
	WorkingDir      string           `json:"workingDir"`
	Mounts          []cce.Mount      `json:"mounts"` // sources as they are in the utility VM
	Privileged      bool             `json:"privileged"`
	NoNewPrivileges bool             `json:"noNewPrivileges"`
	User            string           `json:"user"` // numeric
	Groups          []string         `json:"groups"`
	Umask           string           `json:"umask"`
	Capabilities    cce.Capabilities `json:"capabilities"`
	Seccomp         string           `json:"seccomp"`
}

// Names in the utility VM, as hcsshim has them.
const (
	sandboxID   = "sandbox"
	containerID = "container"
	vmRoot      = "/run/gcs/c/"
	// SandboxMounts is where what a policy calls sandbox:// lies for a container
	// of the sandbox named sandboxID.
	SandboxMounts  = vmRoot + sandboxID + "/sandboxMounts"
	hugePageMounts = vmRoot + sandboxID + "/hugepages"
	deviceFormat   = "/run/mounts/scsi/m%d"
	devicePattern  = "/run/mounts/scsi/m[0-9]+"
)

// Verdict is the platform's answer to a request.
type Verdict struct {
	Admitted bool
	// Point is the enforcement point that refused, and Reason what it gave.
	Point, Reason string
	// Environment and Capabilities are what is left of the requested ones, where
	// the policy lets the framework drop some.
	Environment  []string
	Capabilities cce.Capabilities
	Stdio        bool // whether the host sees what the container prints
}

// Start plays one request against a fresh utility VM. An error is one of the
// evaluation itself; where the policy cannot be evaluated the platform refuses,
// which is a verdict.
func (e *Enforcer) Start(ctx context.Context, r Request) (Verdict, error) {
	if err := e.reset(ctx); err != nil {
		return Verdict{}, err
	}
	var devices []string
	for i, layer := range r.Layers {
		target := fmt.Sprintf(deviceFormat, i)
		devices = slices.Insert(devices, 0, target) // an overlay's upper layers come first
		v := e.step(ctx, "mount_device", map[string]any{"target": target, "deviceHash": layer, "mountPathRegex": devicePattern})
		if !v.Admitted {
			return v, ctx.Err()
		}
	}
	v := e.step(ctx, "mount_overlay", map[string]any{"containerID": containerID, "layerPaths": texts(devices), "target": vmRoot + containerID + "/rootfs"})
	if !v.Admitted {
		return v, ctx.Err()
	}
	input, err := r.input()
	if err != nil {
		return v, err
	}
	v = e.step(ctx, "create_container", input)
	return v, ctx.Err()
}

func (r Request) input() (map[string]any, error) {
	groups := []any{}
	for _, g := range r.Groups {
		groups = append(groups, map[string]any{"id": g, "name": ""})
	}
	capabilities, err := plain(r.Capabilities)
	if err != nil {
		return nil, err
	}
	mounts, err := plain(append([]cce.Mount{}, r.Mounts...))
	return map[string]any{
		"containerID": containerID, "argList": texts(r.Command), "envList": texts(r.Environment), "workingDir": r.WorkingDir,
		"sandboxDir": SandboxMounts, "hugePagesDir": hugePageMounts, "mounts": mounts, "devices": []any{},
		"privileged": r.Privileged, "noNewPrivileges": r.NoNewPrivileges, "isSandboxContainer": false,
		"user": map[string]any{"id": r.User, "name": ""}, "groups": groups, "umask": r.Umask,
		"capabilities": capabilities, "seccompProfileSHA256": r.Seccomp,
	}, err
}

// step asks one enforcement point, and for the reason where it refuses.
func (e *Enforcer) step(ctx context.Context, point string, input map[string]any) Verdict {
	got, err := e.ask(ctx, point, input)
	if err != nil {
		return Verdict{Point: point, Reason: err.Error()}
	}
	if got["allowed"] != true {
		return Verdict{Point: point, Reason: e.reason(ctx, point, input)}
	}
	return admitted(got, input)
}

func (e *Enforcer) reason(ctx context.Context, point string, input map[string]any) string {
	input["rule"] = point
	got, err := e.query(ctx, "data.policy.reason", input)
	if err != nil {
		return err.Error()
	}
	list, _ := got["errors"].([]any)
	var reasons []string
	for _, r := range list {
		reasons = append(reasons, fmt.Sprint(r))
	}
	slices.Sort(reasons)
	return strings.Join(reasons, "; ")
}

// admitted takes from an answer what the container is left with; what the
// answer does not name stays as it was asked for.
func admitted(got answer, input map[string]any) Verdict {
	v := Verdict{Admitted: true}
	v.Stdio, _ = got["allow_stdio_access"].(bool)
	environment, capabilities := got["env_list"], got["caps_list"]
	if environment == nil {
		environment = input["envList"]
	}
	if capabilities == nil {
		capabilities = input["capabilities"]
	}
	// Of a form that the platform would not take either: nothing is left.
	_ = convert(environment, &v.Environment)
	_ = convert(capabilities, &v.Capabilities)
	slices.Sort(v.Environment)
	return v
}

func plain(v any) (out any, err error) { return out, convert(v, &out) }

func convert(from, to any) error {
	raw, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, to)
}
