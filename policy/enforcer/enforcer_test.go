//go:build rego

package enforcer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/Microsoft/hcsshim/pkg/securitypolicy"
	oci "github.com/opencontainers/runtime-spec/specs-go"
)

type request struct {
	Layers, Command, Environment []string
	WorkingDir                   string
	Mounts                       []oci.Mount
	Privileged, NoNewPrivileges  bool
	User                         string
	Groups                       []string
	Umask                        string
	Capabilities                 oci.LinuxCapabilities
	Seccomp                      string
}

type testCase struct {
	Policy, Name string
	Request      request
	Mutations    []struct {
		Name    string
		Request request
		Allowed string
		MayDrop bool
	}
}

// load has cloister print the cases.
func load(t *testing.T) (list []testCase) {
	t.Helper()
	root := filepath.Join("..", "..")
	policies, err := filepath.Glob(filepath.Join(root, "policy", "cce", "testdata", "a*.rego"))
	if err != nil || len(policies) < 4 {
		t.Fatalf("generated policies: %v, %v", policies, err)
	}
	args := []string{"run", "./policy/framework/cases"}
	for _, p := range policies {
		rel, err := filepath.Rel(root, p)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, rel)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// left is what the enforcer lets a container keep.
type left struct {
	environment  []string
	capabilities oci.LinuxCapabilities
}

func (a left) same(b left) bool {
	same := func(x, y []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
	}
	x, y := a.capabilities, b.capabilities
	return same(a.environment, b.environment) && same(x.Ambient, y.Ambient) && same(x.Bounding, y.Bounding) &&
		same(x.Effective, y.Effective) && same(x.Inheritable, y.Inheritable) && same(x.Permitted, y.Permitted)
}

// start does what the utility VM's agent does for a container.
func start(ctx context.Context, policy string, r request) (left, error) {
	e, err := securitypolicy.CreateSecurityPolicyEnforcer("rego", base64.StdEncoding.EncodeToString([]byte(policy)), nil, nil, 0)
	if err != nil {
		return left{}, err
	}
	var devices []string
	for i, layer := range r.Layers {
		target := fmt.Sprintf("/run/mounts/scsi/m%d", i)
		devices = slices.Insert(devices, 0, target)
		if err := e.EnforceDeviceMountPolicy(ctx, target, layer); err != nil {
			return left{}, err
		}
	}
	if err := e.EnforceOverlayMountPolicy(ctx, "container", devices, "/run/gcs/c/container/rootfs"); err != nil {
		return left{}, err
	}
	groups := []securitypolicy.IDName{}
	for _, g := range r.Groups {
		groups = append(groups, securitypolicy.IDName{ID: g})
	}
	kept, caps, stdio, err := e.EnforceCreateContainerPolicy(ctx, "sandbox", "container", r.Command, r.Environment, r.WorkingDir, r.Mounts,
		r.Privileged, r.NoNewPrivileges, securitypolicy.IDName{ID: r.User}, groups, r.Umask, &r.Capabilities, r.Seccomp)
	if err != nil {
		return left{}, err
	}
	if stdio {
		return left{}, errors.New("the host would see what it prints")
	}
	return left{kept, *caps}, nil
}

func TestThePlatformAdmitsWhatWeGenerateAndNothingElse(t *testing.T) {
	t.Log("framework:", version(t))
	cases := load(t)
	if len(cases) < 10 {
		t.Fatalf("%d containers: the test looked at too little", len(cases))
	}
	refused := 0
	for _, c := range cases {
		plain, err := start(context.Background(), c.Policy, c.Request)
		if err != nil {
			t.Errorf("%s is refused: %v", c.Name, err)
			continue
		}
		for _, m := range c.Mutations {
			kept, err := start(context.Background(), c.Policy, m.Request)
			switch {
			case err != nil:
				refused++
			case m.Allowed != "" || m.MayDrop && kept.same(plain):
			default:
				t.Errorf("%s is admitted with %s", c.Name, m.Name)
			}
		}
	}
	if refused < 20*len(cases) {
		t.Errorf("%d mutations of %d containers were refused", refused, len(cases))
	}
	t.Logf("%d containers admitted, %d mutations refused", len(cases), refused)
}

func TestOneBitOfThePolicyIsAnotherPolicy(t *testing.T) {
	c := load(t)[0]
	loose := c.Request
	loose.Command = append(slices.Clone(loose.Command), "--debug")
	if _, err := start(context.Background(), "package policy\n", c.Request); err == nil {
		t.Error("an empty policy admits")
	}
	if _, err := start(context.Background(), c.Policy, loose); err == nil {
		t.Error("another command is admitted")
	}
}
