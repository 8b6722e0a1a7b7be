package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
	"cloister/internal/image"
	"cloister/internal/podman"
	"cloister/policy/cce"
	"cloister/policy/spec"
	"cloister/policy/template"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/yaml"
)

// The tests here run the images under podman and runc, with FUSE, against the
// simulated cloud on loopback: the development runtime, in images made as the
// production ones are.

// containers is a clean room whose runtime and application are in containers.
type containers struct {
	*site
	*podman.Engine
}

func newContainers(t *testing.T, distributed bool, change ...func(*cleanroom.Room)) *containers {
	t.Helper()
	return newContainersWith(t, append([]func(*cleanroom.Room){func(r *cleanroom.Room) { r.Distributed, r.LedgerAddress = distributed, distributed }}, change...)...)
}

func newContainersWith(t *testing.T, change ...func(*cleanroom.Room)) *containers {
	t.Helper()
	room := newRoomWith(t, 0, func(r *cleanroom.Room) {
		for _, c := range change {
			c(r)
		}
	})
	c := &containers{room, podman.New(t)}
	must(t, os.MkdirAll(c.share(), 0o755))
	return c
}

// share is what the containers share: where the specification mounts.
func (c *containers) share() string { return c.Path("mnt") }

// layouts writes the images once for all tests, into bin: the runtime's own, and
// an application's with the runtime or the shim in front.
var layouts = sync.OnceValue(func() error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("%w; run `make test-setup` (apt-get install busybox-static)", err)
	}
	// All there is in it: busybox finds its other programs in itself.
	app, err := image.Scratch(image.Nobody, image.File{Path: "/bin/sh", Data: busybox})
	if err != nil {
		return err
	}
	runtime, err := scratch(image.Root, "cloisterd", engineProgram)
	if err != nil {
		return err
	}
	shim, err := scratch(image.Nobody, "cloister-shim")
	if err != nil {
		return err
	}
	monolithic, err := image.Wrap(app, runtime)
	if err != nil {
		return err
	}
	beside, err := image.Wrap(app, shim)
	if err != nil {
		return err
	}
	return image.WriteLayout(filepath.Join(bin, "layout"), image.Named{Name: "runtime", Image: runtime},
		image.Named{Name: "monolithic", Image: monolithic.Image}, image.Named{Name: "application", Image: beside.Image})
})

// scratch is a development image of some of the binaries, which starts the first.
func scratch(user string, names ...string) (v1.Image, error) {
	var files []image.File
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			return nil, err
		}
		files = append(files, image.File{Path: "/" + name, Data: data})
	}
	return image.Scratch(user, files[0], files[1:]...)
}

// load gives the engine images.
func (c *containers) load(names ...string) {
	c.t.Helper()
	must(c.t, layouts())
	for _, name := range names {
		c.Load(filepath.Join(bin, "layout"), name)
	}
}

// measured is the runtime's command line after its first word, with the options
// of where everything is in the room.
func (c *containers) measured(args ...string) []string {
	c.t.Helper()
	cmd, err := c.Runtime("guest", args...)
	must(c.t, err)
	return cmd.Args[2:]
}

// environment gives a container the variables of the simulated cloud.
func (c *containers) environment() (flags []string) {
	for _, v := range c.Env {
		flags = append(flags, "--env", v)
	}
	return flags
}

// launchContainer starts `podman run` with what follows.
func (c *containers) launchContainer(args ...string) *process {
	c.t.Helper()
	return c.watchCommand(c.Engine.Command(append([]string{"run"}, args...)...))
}

// TestContainerMonolithic: runtime and application in one image, the runtime the
// container's first process, with no more than mounting takes.
func TestContainerMonolithic(t *testing.T) {
	t.Parallel()
	c := newContainers(t, false)
	c.load("monolithic")
	args := append([]string{"--rm", "--network", "host", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--volume", c.Dir + ":" + c.Dir}, c.environment()...)
	args = append(append(args, "localhost/monolithic:test", "run"), c.measured()...)

	run := c.launchContainer(args...)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do(`test "$(id -u)" = 65534 && grep -q 'CapEff:.*0000000000000000' /proc/self/status && grep -q 'NoNewPrivs:.*1' /proc/self/status`)
	run.do("cat $IN/private/secret.txt > $OUT/secret")
	run.tell("exit 7")
	run.ends(7)
	if got := c.decrypt(run.reference("output"))["secret"]; got != "for the owner alone\n" {
		t.Errorf("the output has %q", got)
	}

	again := c.launchContainer(args...)
	again.hear()
	again.do("echo kept > $OUT/kept")
	must(t, again.cmd.Process.Signal(syscall.SIGTERM))
	again.ends(cli.ExitIncomplete, "ended by a signal")
	if got := c.decrypt(again.reference("partial"))["kept"]; got != "kept\n" {
		t.Errorf("the output has %q", got)
	}
}

// TestContainerMemory: where the container's memory ends, the kernel ends what of
// the application took it, and not the runtime, whose mounts still serve.
func TestContainerMemory(t *testing.T) {
	t.Parallel()
	c := newContainers(t, false)
	c.load("monolithic")
	args := append([]string{"--rm", "--network", "host", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--memory", "512m", "--volume", c.Dir + ":" + c.Dir}, c.environment()...)
	run := c.launchContainer(append(append(args, "localhost/monolithic:test", "run"), c.measured()...)...)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("echo kept > $OUT/kept")
	run.do(`dd if=/dev/zero of=/dev/null bs=1900M count=1; test "$?" = 137`)
	run.do("cat $IN/private/secret.txt > $OUT/secret")
	run.tell("exit 0")
	run.ends(0)
	files := c.decrypt(run.reference("output"))
	if files["kept"] != "kept\n" || files["secret"] != "for the owner alone\n" {
		t.Errorf("the output is %q", files)
	}

	// One that is itself ended so is no run that came to its end; the runtime says what
	// became of it, and keeps what it wrote.
	again := c.launchContainer(append(append(args, "localhost/monolithic:test", "run"), c.measured()...)...)
	again.hear()
	again.do("echo kept > $OUT/again")
	again.tell("exec dd if=/dev/zero of=/dev/null bs=1900M count=1")
	again.ends(137, "exit=137")
	if got := c.decrypt(again.reference("partial"))["again"]; got != "kept\n" {
		t.Errorf("the output has %q", got)
	}
	if last := c.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, "signal 9 ended the application") {
		t.Errorf("recorded as %+v", last)
	}
}

// TestContainerPolicy: the policies' engine beside the runtime in an image, sealed in
// namespaces within the container's, judges what the application asks for.
func TestContainerPolicy(t *testing.T) {
	t.Parallel()
	c := newContainersWith(t, func(r *cleanroom.Room) {
		buildProgram(t, r, "client")
		must(t, os.WriteFile(r.Path("egress.rego"), []byte(egressPolicy), 0o644))
		r.Network = []string{"--policy", r.Path("egress.rego"), "policy"}
	})
	c.load("monolithic")
	args := append([]string{"--rm", "--network", "host", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--volume", c.Dir + ":" + c.Dir}, c.environment()...)
	run := c.launchContainer(append(append(args, "localhost/monolithic:test", "run"), c.measured()...)...)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	get := func(path, status string) {
		t.Helper()
		run.do(`$IN/client get http://192.0.2.1/` + path + ` > /tmp/answer; grep -q "` + status + `" /tmp/answer`)
	}
	get("private", "only what is public may be read")
	run.do(`! grep -q engine /tmp/answer && test "$(ls /proc | grep -c '^[0-9]')" -le 6`) // which is in a namespace of its own
	get("public", "only what is public may be read")
	run.tell("exit 0")
	run.ends(0)
	log := c.cloister("audit", "list", "--kind", "egress", "--ledger", c.Path("ledger"))
	if !strings.Contains(log, "refused-by-policy, 2 times") {
		t.Errorf("the refusals are not in the record: %s", log)
	}
}

// newPair is containers for the distributed model, and the shared directory as a
// node's agent prepares it: a mount that passes on what is mounted in it.
func newPair(t *testing.T, change ...func(*cleanroom.Room)) *containers {
	t.Helper()
	c := newContainers(t, true, change...)
	c.beside = true
	must(t, os.Mkdir(c.Path("app"), 0o777))
	for _, pipe := range []string{"app/said", "app/told"} {
		must(t, syscall.Mkfifo(c.Path(pipe), 0o666))
	}
	for _, path := range []string{"app", "app/said", "app/told"} {
		must(t, os.Chmod(c.Path(path), 0o777))
	}
	must(t, syscall.Mount(c.share(), c.share(), "", syscall.MS_BIND, ""))
	t.Cleanup(func() {
		if err := syscall.Unmount(c.share(), 0); err != nil {
			t.Errorf("unmounting the shared directory: %v", err)
			_ = syscall.Unmount(c.share(), syscall.MNT_DETACH)
		}
	})
	must(t, syscall.Mount("", c.share(), "", syscall.MS_SHARED|syscall.MS_REC, ""))
	c.load("runtime", "application")
	return c
}

// sidecar starts the runtime in a container: privileged, as Kubernetes demands
// of one whose mounts others are to see.
func (c *containers) sidecar(args ...string) *process {
	c.t.Helper()
	flags := append([]string{"--rm", "--network", "host", "--privileged", "--volume", c.Dir + ":" + c.Dir + ":bind", "--volume", c.share() + ":" + c.share() + ":rshared"}, c.environment()...)
	flags = append(append(flags, "localhost/runtime:test", "serve", "--share", c.share()), c.measured(args...)...)
	return c.launchContainer(flags...)
}

// confined is how the platform runs the application's container: an ordinary
// user, no capabilities, nothing writable but what is sealed.
func (c *containers) confined() []string {
	return []string{"--user", image.Nobody, "--cap-drop", "ALL", "--read-only", "--security-opt", "no-new-privileges", "--volume", c.share() + ":" + c.share() + ":ro,rslave"}
}

// profiled is that where the platform lets nobody make a user namespace, by its
// profile of system calls.
func (c *containers) profiled() []string {
	c.t.Helper()
	profile := c.Path("seccomp.json")
	must(c.t, os.WriteFile(profile, fmt.Appendf(nil, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": %[1]d},
		{"names": ["clone", "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": %[2]d,
			"args": [{"index": 0, "value": %[3]d, "valueTwo": %[3]d, "op": "SCMP_CMP_MASKED_EQ"}]}]}`,
		syscall.ENOSYS, syscall.EPERM, syscall.CLONE_NEWUSER), 0o644))
	return append(c.confined(), "--security-opt", "seccomp="+profile)
}

// application starts the shim, and through it the application, in a container that
// shares the runtime's network, as those of a pod do: here, the machine's.
func (c *containers) application(confinement ...string) *process {
	c.t.Helper()
	flags := append([]string{"--rm", "--network", "host", "--volume", c.Path("app") + ":" + c.Path("app")}, confinement...)
	return c.launchContainer(append(append(flags, "localhost/application:test"), c.shimArgs()...)...)
}

// shimArgs is the measured command line of the application's container.
func (c *containers) shimArgs() []string {
	c.t.Helper()
	c.measured() // writes the canonical form
	canonical, err := os.ReadFile(c.Path("specification.json"))
	must(c.t, err)
	s, err := spec.ParseCanonical(canonical)
	must(c.t, err)
	args, err := cce.ShimCommand(s)
	must(c.t, err)
	for i, arg := range args {
		args[i] = c.piped(arg)
	}
	return args[1:]
}

// piped has the application's pipes where the test finds them.
func (c *containers) piped(script string) string {
	return strings.NewReplacer(private+"/said", c.Path("app", "said"), private+"/told", c.Path("app", "told")).Replace(script)
}

// says waits until a process has said something.
func (r *process) says(what string) {
	r.t.Helper()
	until(r.t, what, func() bool {
		select {
		case <-r.ended:
			r.t.Fatalf("it ended without saying %q, but: %s", what, &r.stderr)
		default:
		}
		return strings.Contains(r.stderr.String(), what)
	})
}

// both is a pair that is up, started in either order.
func (c *containers) both(applicationFirst bool) (sidecar, application *process) {
	c.t.Helper()
	if applicationFirst {
		application = c.application(c.confined()...)
		sidecar = c.sidecar()
	} else {
		sidecar = c.sidecar()
		sidecar.says("application may start")
		application = c.application(c.confined()...)
	}
	if said := application.hear(); said != "up" {
		c.t.Fatalf("the application said %q", said)
	}
	return sidecar, application
}

// TestSidecar: runtime and application in containers of their own, started in
// either order; both end with the application's code, and what it wrote is
// sealed.
func TestSidecar(t *testing.T) {
	t.Parallel()
	c := newPair(t)
	for _, applicationFirst := range []bool{false, true} {
		sidecar, application := c.both(applicationFirst)
		application.do(`test "$(id -u)" = 65534 && grep -q 'CapBnd:.*0000000000000000' /proc/self/status && grep -q 'NoNewPrivs:.*1' /proc/self/status`)
		application.do("cat $IN/private/secret.txt > $OUT/secret; echo unheard; echo unheard >&2")
		for _, line := range []string{"echo > /new", "echo > " + c.share() + "/new", "echo > $IN/new", "echo > /dev/fuse"} {
			application.tell(line)
			if status := application.hear(); status == "0" {
				t.Errorf("%s: the application can", line)
			}
		}
		application.tell("setsid sh -c 'while :; do sleep 1; done' & exit 7")
		application.ends(7)
		sidecar.ends(7)
		if got := c.decrypt(sidecar.reference("output"))["secret"]; got != "for the owner alone\n" {
			t.Errorf("the output has %q", got)
		}
		if last := c.last(); !last.Complete {
			t.Errorf("recorded as %+v", last)
		}
		for _, p := range []*process{sidecar, application} {
			if strings.Contains(p.stdout.String()+p.stderr.String(), "unheard") {
				t.Errorf("what the application prints goes somewhere without consent: %s%s", &p.stdout, &p.stderr)
			}
		}
		c.checkNothingLeft()
	}
}

// TestSidecarKilled: an application whose runtime is killed is ended, and
// started again on the mounts of the next run.
func TestSidecarKilled(t *testing.T) {
	t.Parallel()
	c := newPair(t)
	sidecar, application := c.both(true)
	application.do("echo durable > $OUT/durable && sync $OUT/durable")
	application.do("setsid sh -c 'while :; do : < $IN/private/secret.txt; done' < /dev/null > /dev/null 2>&1 & :")
	c.Do("kill", "--signal", "KILL", c.Do("ps", "--quiet", "--filter", "ancestor=localhost/runtime:test"))
	sidecar.ends(128 + int(syscall.SIGKILL))
	application.says("did not come to its end; waiting for the next")
	processes := strings.Fields(c.Do("top", c.Do("ps", "--quiet", "--filter", "ancestor=localhost/application:test"), "pid"))
	if len(processes) != 2 { // the heading and the shim
		t.Errorf("in the application's container are left: %q", processes)
	}

	again := c.sidecar()
	again.says("application may start")
	if said := application.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	application.do("cp $OUT/durable $OUT/again && cat $IN/private/secret.txt")
	application.tell("exit 0")
	application.ends(0)
	again.ends(0, "recovered what an earlier writer left")
	files := c.decrypt(again.reference("output"))
	if files["durable"] != "durable\n" || files["again"] != "durable\n" {
		t.Errorf("the output is %q", files)
	}
	if runs := c.record(); len(runs) != 2 || runs[0].Completed || !runs[1].Complete {
		t.Errorf("recorded are %+v", runs)
	}
}

// TestSidecarTerminated: SIGTERM to the runtime ends the application with it,
// and what it wrote is kept; the shim waits, for SIGTERM or another run.
func TestSidecarTerminated(t *testing.T) {
	t.Parallel()
	c := newPair(t)
	sidecar, application := c.both(false)
	application.do("echo before > $OUT/before")
	application.tell(`trap 'echo after > $OUT/after; exit 0' TERM; echo 0 > ` + c.Path("app", "said") + `; while :; do sleep 0.05; done`)
	application.hear()
	must(t, sidecar.cmd.Process.Signal(syscall.SIGTERM))
	sidecar.ends(cli.ExitIncomplete, "ended by a signal")
	files := c.decrypt(sidecar.reference("partial"))
	if files["before"] != "before\n" || files["after"] != "after\n" {
		t.Errorf("the output is %q", files)
	}
	application.says("waiting for the next")
	must(t, application.cmd.Process.Signal(syscall.SIGTERM))
	application.ends(cli.ExitIncomplete, "while it waited for the runtime")
}

// TestSidecarApplicationKilled: a runtime whose application's container is
// killed says so, and its run is incomplete.
func TestSidecarApplicationKilled(t *testing.T) {
	t.Parallel()
	c := newPair(t)
	sidecar, application := c.both(false)
	application.do("echo kept > $OUT/kept")
	c.Do("kill", "--signal", "KILL", c.Do("ps", "--quiet", "--filter", "ancestor=localhost/application:test"))
	application.wait()
	sidecar.ends(cli.ExitIncomplete, "the application's container is gone")
	if got := c.decrypt(sidecar.reference("partial"))["kept"]; got != "kept\n" {
		t.Errorf("the output has %q", got)
	}
}

// TestShimRefuses: the application is not started in a container that is more
// than the policy gives it, nor on anything but this run's mounts.
func TestShimRefuses(t *testing.T) {
	t.Parallel()
	c := newPair(t)
	volume := c.share() + ":" + c.share()
	for name, tc := range map[string]struct {
		confinement []string
		said        string
	}{
		"root":         {[]string{"--user", "0:0", "--cap-drop", "ALL", "--volume", volume + ":ro,rslave"}, "runs as 0:0"},
		"root's group": {[]string{"--user", "1000:0", "--cap-drop", "ALL", "--volume", volume + ":ro,rslave"}, "runs as 1000:0"},
		"capabilities": {[]string{"--user", image.Nobody, "--cap-drop", "ALL", "--cap-add", "SYS_PTRACE", "--volume", volume + ":ro,rslave"}, "has capabilities"},
		"device":       {[]string{"--user", image.Nobody, "--cap-drop", "ALL", "--device", "/dev/null:/dev/sev-guest", "--volume", volume + ":ro,rslave"}, "could open /dev/sev-guest"},
	} {
		t.Log(name)
		c.application(tc.confinement...).ends(cli.ExitRefused, tc.said)
	}
	for name, tc := range map[string]struct {
		confinement []string
		said        string
	}{
		"no network of its own": {c.profiled(), "cannot be given a network of its own"},
		"writable beneath":      {[]string{"--user", image.Nobody, "--cap-drop", "ALL", "--volume", volume + ":rslave"}, "is writable where nothing is mounted"},
		"no propagation":        {[]string{"--user", image.Nobody, "--cap-drop", "ALL", "--read-only", "--volume", volume + ":ro,rprivate"}, "nothing is mounted at"},
	} {
		t.Log(name)
		application, sidecar := c.application(tc.confinement...), c.sidecar()
		application.ends(cli.ExitRefused, tc.said)
		sidecar.ends(cli.ExitRefused, "the shim does not start the application", tc.said)
	}
}

// TestPod: both containers as a Kubernetes pod, from the manifest that is
// generated for kind aks. What is changed in it is what the simulated platform
// needs: its specification and the options that find it, the host's network,
// directories of this machine, images that are loaded rather than pulled, and no
// limits, which take cgroups of a kind that not every machine has.
func TestPod(t *testing.T) {
	t.Parallel()
	c := newPair(t)
	manifest := c.Path("pod.json")
	text, err := json.Marshal(c.pod())
	must(t, err)
	must(t, os.WriteFile(manifest, text, 0o644))
	c.Do("play", "kube", "--build=false", manifest)

	logs := c.watchCommand(c.Engine.Command("logs", "--follow", "room-runtime"))
	if said := logs.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	logs.do("cat $IN/private/secret.txt > $OUT/secret")
	logs.tell("exit 7")
	if codes := strings.Fields(c.Do("wait", "room-runtime", "room-application")); len(codes) != 2 || codes[0] != "7" || codes[1] != "7" {
		t.Errorf("the containers ended with %q; the runtime said %s", codes, c.Do("logs", "room-runtime"))
	}
	logs.wait()
	if got := c.decrypt(logs.reference("output"))["secret"]; got != "for the owner alone\n" {
		t.Errorf("the output has %q", got)
	}
	if last := c.last(); !last.Complete {
		t.Errorf("recorded as %+v", last)
	}
}

// object is a JSON object of Kubernetes' API.
type object = map[string]any

// aks is the room's specification as for a cluster.
func (c *containers) aks() (simulated, aks spec.Specification) {
	c.t.Helper()
	c.measured() // writes the canonical form
	canonical, err := os.ReadFile(c.Path("specification.json"))
	must(c.t, err)
	s, err := spec.ParseCanonical(canonical)
	must(c.t, err)
	aks, err = spec.ParseCanonical(canonical)
	must(c.t, err)
	image := func(name string) *spec.Image {
		return &spec.Image{Reference: "localhost/" + name + "@sha256:" + strings.Repeat("ab", 32), Layers: []string{strings.Repeat("cd", 32)}}
	}
	aks.Kind, aks.Runtime, aks.Application.Image = spec.AKS, &spec.Runtime{Image: image("runtime")}, image("application")
	aks.Attestation = spec.Attestation{Authority: "https://attest.example", MinSVN: 100}
	aks.DataSources[0].Store, aks.DataSinks[0].Store = "https://store.example/input", "https://store.example/output"
	return s, aks
}

// pod is the generated manifest, with what podman and the simulated platform
// need.
func (c *containers) pod() object {
	c.t.Helper()
	s, aks := c.aks()
	manifest, err := template.Generate(aks, cce.Inputs{})
	must(c.t, err)
	digests := make([]string, 2)
	for i, s := range []spec.Specification{aks, s} {
		digests[i], err = s.Digest()
		must(c.t, err)
	}
	var pod object
	must(c.t, yaml.Unmarshal(bytes.ReplaceAll(manifest.Text, []byte(digests[0]), []byte(digests[1])), &pod))
	within := pod["spec"].(object)
	volumes, mounts := c.volumes()
	within["hostNetwork"], within["volumes"] = true, volumes
	for i, name := range []string{"runtime", "application"} {
		container := within["containers"].([]any)[i].(object)
		container["name"], container["image"], container["imagePullPolicy"] = name, "localhost/"+name+":test", "Never"
		delete(container, "resources")
		command := container["command"].([]any)
		for i, arg := range command {
			command[i] = c.piped(strings.ReplaceAll(arg.(string), "$$", "$")) // which podman leaves as it is
		}
		container["volumeMounts"] = append(container["volumeMounts"].([]any), mounts[name]...)
	}
	runtime := within["containers"].([]any)[0].(object)
	for _, arg := range c.measured()[6:] { // beyond what is measured, and the specification, which comes as a variable
		runtime["command"] = append(runtime["command"].([]any), arg)
	}
	canonical, err := s.Canonical()
	must(c.t, err)
	runtime["env"] = []any{object{"name": cce.SpecificationVariable, "value": base64.StdEncoding.EncodeToString(canonical)}}
	for _, v := range c.Env {
		name, value, _ := strings.Cut(v, "=")
		runtime["env"] = append(runtime["env"].([]any), object{"name": name, "value": value})
	}
	pod["metadata"] = object{"name": "room"}
	return pod
}

// volumes are the room without what is shared: a directory each, as a volume is
// mounted with all that is in it.
func (c *containers) volumes() (volumes []any, mounts map[string][]any) {
	volumes, mounts = []any{object{"name": "share", "hostPath": object{"path": c.share()}}}, map[string][]any{}
	for _, name := range []string{"cloud", "guest", "ledger", "store", "app"} {
		volumes = append(volumes, object{"name": name, "hostPath": object{"path": c.Path(name)}})
		container := "runtime"
		if name == "app" {
			container = "application"
		}
		mounts[container] = append(mounts[container], object{"name": name, "mountPath": c.Path(name)})
	}
	return volumes, mounts
}
