package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"cloister/internal/cleanroom"

	"github.com/moby/sys/mountinfo"
)

// stays is a program that does what programs do to stay: orphaned twice, in
// sessions of its own, deaf to signals and to the death of its parent, forking on,
// under another name, with a file of the input open and mapped.
const stays = `import ctypes, mmap, os, signal, sys, time
for s in range(1, 32):
    if s not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
        signal.signal(s, signal.SIG_IGN)
for _ in range(2):
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
ctypes.CDLL(None).prctl(1, 0) # PR_SET_PDEATHSIG
held = open(os.environ["IN"] + "/private/secret.txt", "rb")
seen = mmap.mmap(held.fileno(), 0, prot=mmap.PROT_READ)
open("/proc/self/comm", "w").write("kworker")
while True:
    if os.fork() == 0:
        os.setsid()
        while True:
            seen[0]
            time.sleep(0.01)
    open(os.environ["OUT"] + "/beat", "w").close()
    time.sleep(0.05)
`

// TestNothingStays kills a runtime, while its application does what it can to stay:
// no process of it is left, under whatever name, and nothing is to be read at the
// mounts. Under a runtime that is root, and under one that is not and may make no
// control group.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	for name, uid := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoomWith(t, uid, func(c *cleanroom.Room) {
				must(t, os.MkdirAll(c.Path("data"), 0o755))
				must(t, os.WriteFile(c.Path("data", "stays.py"), []byte(stays), 0o644))
			})
			run := r.start()
			run.do("python3 $IN/stays.py")
			world := r.namespace()
			until(t, "it spreads", func() bool { return len(inNamespace(t, world)) > 8 })
			must(t, run.cmd.Process.Kill())
			run.wait()
			until(t, "no process is left", func() bool { return len(inNamespace(t, world)) == 0 })
			if dead := r.mounted(); len(dead) != 2 {
				t.Fatalf("after the kill there are %v; two dead mounts were expected", dead)
			}
			for _, file := range []string{"input/private/secret.txt", "input/stays.py", "report/beat"} {
				if text, err := os.ReadFile(r.Path("mnt", file)); err == nil {
					t.Errorf("%s can still be read: %q", file, text)
				}
			}
			if last := r.last(); last.Completed {
				t.Errorf("recorded as %+v", last)
			}
			again := r.start() // which clears the mounts
			again.tell("exit 0")
			again.ends(0)
			r.checkNothingLeft()
		})
	}
}

// TestDelegated: a runtime whose control group is its alone settles below it, and its
// application's is beside it; killed, it leaves both empty.
func TestDelegated(t *testing.T) {
	t.Parallel()
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil || len(mounts) == 0 || os.Getuid() != 0 {
		t.Fatalf("the test needs to be root and control groups of version 2 (mount -t cgroup2 none /sys/fs/cgroup): %v", err)
	}
	r := newRoom(t, 0)
	group, err := os.MkdirTemp(mounts[0].Mountpoint, "cloister-test-")
	must(t, err)
	groups := func() (all []string) {
		all, err := filepath.Glob(filepath.Join(group, "cloister-*"))
		must(t, err)
		return all
	}
	t.Cleanup(func() { // the kernel removes what is empty
		for _, g := range append(groups(), group) {
			if err := syscall.Rmdir(g); err != nil {
				t.Errorf("a process is left in %s: %v", g, err)
			}
		}
	})
	dir, err := os.Open(group)
	must(t, err)
	defer dir.Close()
	cmd, err := r.Runtime("guest")
	must(t, err)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	run := r.watchCommand(cmd)
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("setsid sleep 1000 < /dev/null > /dev/null 2>&1 &")
	members := map[string][]string{}
	for _, g := range groups() {
		list, err := os.ReadFile(filepath.Join(g, "cgroup.procs"))
		must(t, err)
		kind, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(g), "cloister-"), "-")
		members[kind] = strings.Fields(string(list))
	}
	if len(members) != 2 || len(members["application"]) < 3 || len(members["runtime"]) != 1 || members["runtime"][0] != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("the groups' members are %v", members)
	}
	must(t, cmd.Process.Kill())
	run.wait()
	until(t, "no process is left", func() bool { return len(r.processes()) == 0 })
	again := r.start()
	again.tell("exit 0")
	again.ends(0)
}

// namespace is the application's namespace of processes.
func (r *site) namespace() string {
	r.t.Helper()
	own, err := os.Readlink("/proc/self/ns/pid")
	must(r.t, err)
	for _, line := range r.processes() {
		pid, _, _ := strings.Cut(line, " ")
		if world, err := os.Readlink(filepath.Join("/proc", pid, "ns", "pid")); err == nil && world != own {
			return world
		}
	}
	r.t.Fatal("no process is in a namespace of its own")
	return ""
}

// inNamespace are the processes in one.
func inNamespace(t *testing.T, world string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	must(t, err)
	for _, link := range all {
		if there, err := os.Readlink(link); err == nil && there == world {
			pids = append(pids, strings.Split(link, "/")[2])
		}
	}
	return pids
}
