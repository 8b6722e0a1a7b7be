//go:build linux

package mount

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// describeHolders says which programs keep dir busy, as far as this user may
// see: " (by cat, process 12)", or nothing.
func describeHolders(dir string) string {
	var who []string
	for _, pid := range holders(dir) {
		comm, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		who = append(who, fmt.Sprintf("%s, process %d", strings.TrimSpace(string(comm)), pid))
	}
	if len(who) == 0 {
		return ""
	}
	return " (by " + strings.Join(who, "; ") + ")"
}

// holders returns the processes with a descriptor, a mapping, their root or
// their working directory below dir.
func holders(dir string) []int {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, proc := range procs {
		if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil && holds(proc, dir) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// holds looks at names of links only, and so never touches the mount.
func holds(proc, dir string) bool {
	below := func(path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	links, _ := filepath.Glob(proc + "/fd/*")
	for _, link := range append(links, proc+"/cwd", proc+"/root") {
		if target, err := os.Readlink(link); err == nil && below(target) {
			return true
		}
	}
	maps, err := os.Open(proc + "/maps")
	if err != nil {
		return false
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		if _, path, ok := strings.Cut(lines.Text(), "/"); ok && below("/"+path) {
			return true
		}
	}
	return false
}
