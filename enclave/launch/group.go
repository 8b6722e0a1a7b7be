package launch

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// group is the application's control group, of version 2. The methods of a nil
// one, where the runtime may make none, do nothing.
type group struct {
	dir    string
	open   *os.File // the directory
	limits []string // the files in it that bound the application
}

// groupPrefix begins the name of each group of an application; something of its
// own and the runtime's process id follow, so that what a killed runtime left can
// be told.
const groupPrefix = "cloister-application-"

func groupPattern(own string, pid int) string {
	return filepath.Join(own, groupPrefix+"*-"+strconv.Itoa(pid))
}

// runtimePrefix begins the name of the group that a runtime moves itself into; its
// process id follows.
const runtimePrefix = "cloister-runtime-"

// Settle moves this process, and with it what it starts, into a group of its own
// below the one that it is in, so that an application's can be beside it and be
// bounded: a group that has processes hands no controllers on to those below
// ("no internal process constraint" of the kernel's admin-guide/cgroup-v2). main
// calls it before anything is started.
//
// It does nothing where the group is not the process's alone, as one is that was
// delegated to it; at the hierarchy's root, which has no such constraint; and
// where it may not, as in most containers, whose groups are read-only. What a group
// is not needed for holds all the same: see the package's document.
func Settle() {
	own, err := ownGroup()
	if err == nil {
		settleIn(own)
	}
}

func settleIn(own string) {
	if isRoot(own) {
		return
	}
	self := strconv.Itoa(os.Getpid())
	if all, err := os.ReadFile(filepath.Join(own, "cgroup.procs")); err != nil || strings.TrimSpace(string(all)) != self {
		return
	}
	removeStale(own)
	leaf := filepath.Join(own, runtimePrefix+self)
	if os.Mkdir(leaf, 0o755) == nil && os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(self), 0) != nil {
		_ = unix.Rmdir(leaf)
	}
}

// makeGroup makes the group, beside the runtime's own where it has settled, and
// bounds it by what the machine's controllers can.
func makeGroup(l Limits) *group {
	own, err := ownGroup()
	if err != nil {
		return nil
	}
	if strings.HasPrefix(filepath.Base(own), runtimePrefix) {
		own = filepath.Dir(own)
	}
	return makeGroupIn(own, l)
}

func makeGroupIn(own string, l Limits) *group {
	removeStale(own)
	dir, err := os.MkdirTemp(own, filepath.Base(groupPattern(own, os.Getpid())))
	if err != nil {
		return nil
	}
	g := &group{dir: dir}
	if g.open, err = os.Open(g.dir); err != nil {
		return nil
	}
	if handsOn(own) {
		// Each may be refused: the machine has not got the controller. The group then has
		// no such files, and the log says so.
		for _, controller := range []string{"pids", "memory", "cpu"} {
			_ = os.WriteFile(filepath.Join(own, "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
	}
	files := l.files()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if os.WriteFile(filepath.Join(g.dir, name), []byte(files[name]), 0) == nil {
			g.limits = append(g.limits, name)
		}
	}
	return g
}

// handsOn reports whether a group may hand controllers on to those below. Where it
// has processes, the kernel refuses some, and takes the others to mean that there
// are to be threads below, and no processes.
func handsOn(group string) bool {
	if isRoot(group) {
		return true
	}
	processes, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	return err == nil && len(processes) == 0
}

// isRoot reports whether a group is the hierarchy's root: the one that has no type.
func isRoot(group string) bool {
	_, err := os.Stat(filepath.Join(group, "cgroup.type"))
	return errors.Is(err, os.ErrNotExist)
}

// ownGroup is the directory of the group that the runtime is in.
func ownGroup() (dir string, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil || len(mounts) == 0 {
		return "", errors.Join(err, errors.New("no control groups of version 2 are mounted"))
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok { // cgroups(7): version 2's line
			return filepath.Join(mounts[0].Mountpoint, strings.TrimPrefix(own, mounts[0].Root)), nil
		}
	}
	return "", errors.New("the runtime is in no control group of version 2")
}

// removeStale removes the groups of runtimes that are gone. One that is not
// empty, or belongs to a runtime that this one cannot see, stays.
func removeStale(own string) {
	old, _ := filepath.Glob(filepath.Join(own, groupPrefix+"*"))
	runtimes, _ := filepath.Glob(filepath.Join(own, runtimePrefix+"*"))
	for _, dir := range append(old, runtimes...) {
		pid, err := strconv.Atoi(dir[strings.LastIndexByte(dir, '-')+1:])
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = unix.Rmdir(dir)
		}
	}
}

// hold has a process start in the group.
func (g *group) hold(attr *syscall.SysProcAttr) {
	if g != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.open.Fd())
	}
}

// kill ends all processes in it, as far as the kernel has cgroup.kill (5.14).
func (g *group) kill() {
	if g != nil {
		_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	}
}

// emptyTime bounds the wait for a group to be empty, of which no process is
// left: the kernel takes the last of them out after it has been reaped.
const emptyTime = 10 * time.Second

// remove removes the group, which the kernel does only once it is empty: an
// error says that a process of the application is left.
func (g *group) remove() error {
	if g == nil {
		return nil
	}
	g.kill()
	g.open.Close()
	for deadline := time.Now().Add(emptyTime); ; time.Sleep(time.Millisecond) {
		err := unix.Rmdir(g.dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("a process of the application may be left: removing its control group: %w", err)
		}
	}
}

func (g *group) String() string {
	switch {
	case g == nil:
		return "none: the number of processes is limited by user, memory by the container"
	case len(g.limits) == 0:
		return "kill"
	}
	return "kill " + strings.Join(g.limits, " ")
}
