package dir

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

func TestRenameNewRefusesATakenName(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	if err := s.Put(t.Context(), "d/taken", []byte("first")); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(path, tempPrefix+"T")
	if err := os.WriteFile(temp, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := renameNew(s.root, tempPrefix+"T", "d/taken"); !errors.Is(err, object.ErrExist) {
		t.Errorf("onto a taken name: %v", err)
	}
	if err := renameNew(s.root, tempPrefix+"T", "d/free"); err != nil {
		t.Errorf("onto a free name: %v", err)
	}
	for name, want := range map[string]string{"d/taken": "first", "d/free": "second"} {
		if got, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
}

func TestAFIFOIsRefused(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	if err := syscall.Mkfifo(filepath.Join(path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Get(t.Context(), "fifo", 0, make([]byte, 1)); fault.KindOf(err) != fault.Refused {
		t.Errorf("Get of a FIFO: %v", err)
	}
}

// inNamespace names the environment variable by which TestFullDisk knows that
// it is the copy of itself that runs in a mount namespace of its own.
const inNamespace = "CLOISTER_TEST_FULL_DISK"

func TestFullDisk(t *testing.T) {
	if path := os.Getenv(inNamespace); path != "" {
		fullDisk(t, path)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
		t.Errorf("in a mount namespace: %v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, path string) {
	if err := syscall.Mount("volume", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	err := s.Put(t.Context(), "d/big", make([]byte, 2<<20))
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Put on a full disk: %v: %v", fault.KindOf(err), err)
	}
	if hints := fault.Hints(err); len(hints) != 1 || !strings.Contains(hints[0], "free some space") {
		t.Errorf("hints %q", hints)
	}
	if got := tree(t, path); !slices.Equal(got, []string{"d"}) {
		t.Errorf("left behind: %q", got)
	}
	if err := s.Put(t.Context(), "d/small", make([]byte, 1000)); err != nil {
		t.Errorf("an object that fits, afterwards: %v", err)
	}
}
