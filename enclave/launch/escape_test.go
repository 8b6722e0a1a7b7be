package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEscape has a hostile application, hostile_test.go, try each way out, under
// a runtime that is root and under one that is not: it manages none. What it
// tries is shown to work where nothing confines it, as the user or as root, so
// that a way which is closed here is closed by the sandbox.
func TestEscape(t *testing.T) {
	s := newScene(t)
	if os.Getuid() == 0 {
		for name, managed := range s.try(asRoot, "outside", 0) {
			if attempts[name].outside == asRoot && managed != "managed" {
				t.Errorf("outside, as root, %s proves nothing: %s", name, managed)
			}
		}
		for name, managed := range s.try(asUser, "outside", nobodyElse) {
			if attempts[name].outside == asUser && managed != "managed" {
				t.Errorf("outside, as a user, %s proves nothing: %s", name, managed)
			}
		}
	}
	uids := []int{os.Getuid()}
	if os.Getuid() == 0 {
		uids = append(uids, nobodyElse)
	}
	for _, uid := range uids {
		said := s.try("", "inside", uid)
		for name, managed := range said {
			if managed == "managed" {
				t.Errorf("under a runtime of user %d the application managed: %s", uid, name)
			}
		}
		if len(said) != len(attempts) {
			t.Errorf("under a runtime of user %d it tried %d of %d", uid, len(said), len(attempts))
		}
		for name, why := range said {
			t.Logf("under a runtime of user %d: %s: %s", uid, name, why)
		}
	}
}

// nobodyElse is a user without privileges whom nothing else on the machine is: the
// number of a user's processes is limited, and a test of that elsewhere takes all
// there are of the one that it is about.
const nobodyElse = 4712

// scene is what there is to reach outside.
type scene struct {
	t *testing.T
	// Told to the application.
	Secret, Input, Scratch, Unix, Abstract, TCP, UDP string
	Victim, SharedMemory                             int
}

func newScene(t *testing.T) *scene {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // for other users to reach
		must(t, os.Chmod(d, 0o755))
	}
	s := &scene{t: t, Secret: filepath.Join(dir, "secret"), Input: filepath.Join(dir, "input"), Scratch: filepath.Join(dir, "scratch"), Unix: filepath.Join(dir, "socket")}
	must(t, os.WriteFile(s.Secret, []byte("key"), 0o600))
	must(t, os.Mkdir(s.Input, 0o777))
	must(t, os.Chmod(s.Input, 0o777))
	must(t, os.Mkdir(s.Scratch, 0o777))
	must(t, os.Chmod(s.Scratch, 0o777))
	program, err := plainProgram()
	must(t, err)
	must(t, os.WriteFile(s.program(), program, 0o755))
	must(t, os.WriteFile(filepath.Join(s.Input, "setuid"), program, 0o755))
	must(t, os.Chmod(filepath.Join(s.Input, "setuid"), 0o755|os.ModeSetuid))
	s.sockets()
	s.victim()
	return s
}

// plainProgram is this test binary as it is without the race detector, which wants
// of the kernel what the sandbox refuses, and more addresses than some have.
var plainProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "launch-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "launch.test")
	build := exec.Command("go", "test", "-c", "-o", file, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the program of these tests: %w\n%s", err, out)
	}
	return os.ReadFile(file)
})

func (s *scene) program() string { return filepath.Join(s.Input, "hostile") }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sockets are open on every transport that the application might find.
func (s *scene) sockets() {
	listen := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		must(s.t, err)
		s.t.Cleanup(func() { l.Close() })
		return l
	}
	s.TCP = listen("tcp", "127.0.0.1:0").Addr().String()
	listen("unix", s.Unix)
	must(s.t, os.Chmod(s.Unix, 0o777))
	s.Abstract = "@cloister-escape-" + fmt.Sprint(os.Getpid())
	listen("unix", s.Abstract)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(s.t, err)
	s.t.Cleanup(func() { udp.Close() })
	s.UDP = udp.LocalAddr().String()
	go func() { // answers
		b := make([]byte, 16)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
}

// victim is a process, and memory, of the user that the application has too.
func (s *scene) victim() {
	cmd := exec.Command(s.program(), "wait")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyElse, Gid: nobodyElse}}
	}
	stdin, err := cmd.StdinPipe()
	must(s.t, err)
	must(s.t, cmd.Start())
	s.t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	s.Victim = cmd.Process.Pid
	s.SharedMemory = 0x636c0000 | os.Getpid()&0xffff
	id, err := unix.SysvShmGet(s.SharedMemory, 4096, unix.IPC_CREAT|0o666)
	must(s.t, err)
	s.t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
}

// try runs the hostile program, outside or as the application of a runtime that
// is user uid, and returns what it says of each attempt. who limits it to what
// is shown to work for them.
func (s *scene) try(who, where string, uid int) map[string]string {
	s.t.Helper()
	told, err := json.Marshal(s)
	must(s.t, err)
	cmd := exec.Command(s.program(), where, who, string(told))
	cmd.Env = []string{"SECRET_OF_THE_RUNTIME=key"}
	secret, err := os.Open(s.Secret)
	must(s.t, err)
	defer secret.Close()
	ours, socket, err := socketPair()
	must(s.t, err)
	defer ours.Close()
	defer socket.Close()
	cmd.ExtraFiles = []*os.File{secret, secret, secret, socket} // the first two become other files in the init
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s as %d: %v\n%s", where, uid, err, &errs)
	}
	said := map[string]string{}
	for line := range strings.Lines(out.String()) {
		name, what, _ := strings.Cut(strings.TrimSpace(line), "\t")
		said[name] = what
	}
	return said
}
