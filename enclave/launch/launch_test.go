package launch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloister/internal/fault"
)

func TestMain(m *testing.M) {
	Init()
	hostile()
	if os.Getenv("LAUNCH_TEST_RUNTIME") != "" {
		// A runtime to be killed: its application writes down that it lives.
		a := shell(os.Getenv("LAUNCH_TEST_RUNTIME"))
		a.Mounts = []Mount{{Path: os.Getenv("LAUNCH_TEST_OUTPUT"), Writable: true}}
		Run(context.Background(), a)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func shell(script string) Application {
	return Application{Command: []string{"/bin/sh", "-c", script}, UID: 65534, GID: 65534, Grace: 5 * time.Second,
		Environment: map[string]string{"PATH": "/usr/bin:/bin"}}
}

// output runs script and returns what it printed.
func output(t *testing.T, a Application) (string, int) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a.Stdout, a.Stderr = f, f
	exit, err := Run(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(out), exit
}

func TestExitCodeIsPassedOn(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137} {
		if _, exit := output(t, shell(script)); exit != want {
			t.Errorf("%s: exit code %d, want %d", script, exit, want)
		}
	}
}

func TestApplicationIsAlone(t *testing.T) {
	t.Setenv("SECRET_OF_THE_RUNTIME", "leak")
	out, _ := output(t, shell(`id -u; env | grep -c SECRET; ls /proc | grep -c '^[0-9]'; cat /proc/1/environ | wc -c
grep -c : /proc/net/dev; ls /proc/self/fd | wc -l; grep NoNewPrivs /proc/self/status; grep -E 'Cap|Seccomp:' /proc/self/status; cat /proc/self/oom_score_adj; hostname >/dev/null`))
	lines := strings.Fields(strings.ReplaceAll(out, "\t", " "))
	uid := fmt.Sprint(os.Getuid())
	if uid == "0" {
		uid = "65534"
	}
	if len(lines) < 6 || lines[0] != uid || lines[1] != "0" {
		t.Fatalf("the application sees %q", out)
	}
	for _, want := range []string{"NoNewPrivs: 1", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapInh: 0000000000000000", "Seccomp: 2", "\n1000\n"} {
		if !strings.Contains(strings.ReplaceAll(out, "\t", " "), want) {
			t.Errorf("%s is missing in %q", want, out)
		}
	}
	if n := lines[2]; n != "5" && n != "4" && n != "3" {
		t.Errorf("the application sees %s processes, want its own", n)
	}
}

func TestTexts(t *testing.T) {
	a := shell("cat /dev/proxy.pem; { echo x >> /dev/proxy.pem; } 2>/dev/null || echo kept")
	a.Texts = map[string][]byte{"proxy.pem": []byte("text\n")}
	if out, exit := output(t, a); exit != 0 || out != "text\nkept\n" {
		t.Errorf("exit code %d, %q", exit, out)
	}
}

func TestNoNetwork(t *testing.T) {
	out, _ := output(t, shell("cat /proc/net/route | wc -l; cat /proc/net/dev"))
	routes, devices, _ := strings.Cut(out, "\n")
	if (routes != "0" && routes != "1") || strings.Count(devices, ":") != 1 || !strings.Contains(devices, "lo:") {
		t.Errorf("the application has a network: %s", out)
	}
}

func TestAbsentProgram(t *testing.T) {
	a := shell("")
	a.Command = []string{"/absent/program"}
	if _, err := Run(t.Context(), a); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "/absent/program") {
		t.Errorf("an absent program: %v", err)
	}
}

func TestTerminate(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
		want   int
	}{
		"drains":  {"trap 'exit 3' TERM; echo ready >&2; while :; do sleep 0.05; done", 20 * time.Second, 3},
		"ignores": {"trap '' TERM; echo ready >&2; while :; do sleep 0.05; done", 200 * time.Millisecond, 137},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				r.Read(make([]byte, 6))
				cancel()
			}()
			a := shell(tc.script)
			a.Grace, a.Stderr = tc.grace, w
			exit, err := Run(ctx, a)
			if err != nil || exit != tc.want {
				t.Errorf("exit code %d, %v; want %d", exit, err, tc.want)
			}
		})
	}
}

// TestNothingOutlivesTheRuntime kills a runtime and watches a process that its
// application left in the background, in a session of its own.
func TestNothingOutlivesTheRuntime(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // the application is another user
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	beat := filepath.Join(dir, "beat")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LAUNCH_TEST_RUNTIME=setsid sh -c 'while :; do date +%s%N > "+beat+"; sleep 0.02; done' & sleep 1000", "LAUNCH_TEST_OUTPUT="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if b, _ := os.ReadFile(beat); len(b) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the application did not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	last := ""
	for same := 0; same < 10; {
		b, _ := os.ReadFile(beat)
		if string(b) == last {
			same++
		} else {
			same, last = 0, string(b)
		}
		if time.Now().After(deadline) {
			t.Fatal("a process of the application outlives the runtime")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
