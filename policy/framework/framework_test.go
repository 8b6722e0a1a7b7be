package framework

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloister/internal/fault"
)

func generations(t *testing.T) []Generation {
	t.Helper()
	list, err := Generations()
	if err != nil {
		t.Fatal("the frameworks are missing: make frameworks")
	}
	if len(list) < 3 {
		t.Fatalf("%d generations, want 3: make frameworks", len(list))
	}
	return list
}

// goldens are the generated policies of real kinds.
func goldens(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "cce", "testdata", "a*.rego"))
	if err != nil || len(files) < 4 {
		t.Fatalf("golden policies: %v, %v", files, err)
	}
	list := map[string][]byte{}
	for _, f := range files {
		if list[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func TestWhatWeGenerateIsAdmittedAndNothingElse(t *testing.T) {
	count := len(generations(t))
	for name, text := range goldens(t) {
		outcomes, err := Try(context.Background(), text)
		if err != nil {
			t.Fatal(err)
		}
		if err := Err(outcomes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		containers := 2
		if strings.Contains(name, "distributed") || name == "aks_replicas.rego" { // with a shim's
			containers = 3
		}
		if len(outcomes) != count*containers {
			t.Errorf("%s: %d outcomes", name, len(outcomes))
		}
		for _, o := range outcomes {
			if o.Tried < 20 || o.Stdio || o.Unknown != nil {
				t.Errorf("%s: %+v", name, o)
			}
			if o.Container == "count" && strings.Contains(name, "distributed") && o.Allowed != nil {
				t.Errorf("%s: the application's container may differ in %q", name, o.Allowed)
			}
		}
	}
}

// TestEveryKindOfMutationIsSeen loosens a policy in one thing at a time: Try
// must name it. Otherwise it could not fail.
func TestEveryKindOfMutationIsSeen(t *testing.T) {
	text := string(goldens(t)["aci_distributed.rego"])
	for name, l := range map[string]struct{ from, to, want string }{
		"any variable":       {`"^HOSTNAME=.+$"`, `".+=.+"`, "environment: one more"},
		"any mount":          {"create_container := data.framework.create_container", `create_container := {"allowed": true, "allow_stdio_access": true}`, "mount: one more"},
		"framework too new":  {`framework_version := "0.2.3"`, `framework_version := "9.0.0"`, "is refused at"},
		"enforcement absent": {"mount_overlay := data.framework.mount_overlay\n", "", "does not decide mount_overlay"},
	} {
		changed := strings.Replace(text, l.from, l.to, 1)
		if changed == text {
			t.Fatalf("%s: %q is not in the policy", name, l.from)
		}
		outcomes, err := Try(context.Background(), []byte(changed))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := Err(outcomes); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), l.want) {
			t.Errorf("%s: want %q, got %.300v", name, l.want, err)
		}
	}
}

// TestLoosenedRulesShow: what a looser rule lets in has its name in the outcome.
func TestLoosenedRulesShow(t *testing.T) {
	text := string(goldens(t)["aci_distributed.rego"])
	for _, l := range []struct{ from, to, allowed, dropped string }{
		{`"user_idname":{"pattern":"1000","strategy":"id"}`, `"user_idname":{"pattern":"","strategy":"any"}`, "user: another: its user may be any", ""},
		{`"group_idnames":[{"pattern":"1000","strategy":"id"}]`, `"group_idnames":[{"pattern":"","strategy":"any"}]`, "group: one more: its groups may be any", ""},
		{"allow_environment_variable_dropping := false", "allow_environment_variable_dropping := true", "", "environment: one more"},
	} {
		outcomes, err := Try(context.Background(), []byte(strings.Replace(text, l.from, l.to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(outcomes, func(o Outcome) bool { return o.Container == "count" })
		if o := outcomes[i]; l.allowed != "" && !slices.Contains(o.Allowed, l.allowed) || l.dropped != "" && !slices.Contains(o.Dropped, l.dropped) {
			t.Errorf("%s: %+v", l.to, o)
		}
	}
}

func TestReadSaysWhatAPolicyDecidesItself(t *testing.T) {
	const text = "package policy\napi_version := \"0.11.0\"\nframework_version := \"0.2.3\"\n" +
		"mount_device := {\"allowed\": true}\ncreate_container := data.framework.create_container\nallow_dump_stacks := true\n" +
		"exec_external := {\"allowed\": input.argList[0] == \"/x\"}\n" +
		"default allow_properties_access := false\nallow_properties_access if input.x\n" +
		"rw_mount_device := data.framework.rw_mount_device\nrw_mount_device := {\"allowed\": true} if input.x\n"
	p, err := Read(context.Background(), []byte(text))
	if err != nil || !p.Allow["allow_dump_stacks"] || !slices.Equal(slices.Sorted(maps.Keys(p.Own)), []string{"allow_properties_access", "exec_external", "mount_device", "rw_mount_device"}) {
		t.Errorf("%+v, %v", p, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "another package": "package cloister_simulated\nsimulated := true\n", "no Rego": "{", "reaches out": "package policy\nx := http.send({\"method\":\"get\",\"url\":\"http://127.0.0.1\"})\n",
		"containers of a form": "package policy\ncontainers := 7\n", "depends": "package policy\ncontainers := input.x\n",
		// Without a question there are none; with one there are others.
		"another when asked": "package policy\ndefault containers := []\ncontainers := [{\"name\": \"evil\"}] if input.x\n",
		"else":               "package policy\ncontainers := [{\"name\": \"evil\"}] if { input.x } else := []\n",
		"made when asked":    "package policy\nfragments := [f | f := input.x]\n", "made of the data": "package policy\nframework_version := data.metadata.x\n",
		"one at a time": "package policy\ncontainers contains c if c := input.x\n",
		"large":         "package policy\n#" + strings.Repeat("x", maxPolicy),
	} {
		if _, err := Read(context.Background(), []byte(bad)); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	generations(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Try(ctx, goldens(t)["aci.rego"]); err == nil {
		t.Error("went on")
	}
}
