package launch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Limits bound what the application uses; 0 is no limit beyond the container's.
type Limits struct {
	MilliCPU  uint32 `json:"milliCPU"`  // thousandths of a processor
	MemoryMiB uint32 `json:"memoryMiB"` // MiB
}

const (
	// maxProcesses, threads included, is what Kubernetes' providers commonly allow
	// a pod. It holds as the user's limit where there is no control group for it.
	maxProcesses = 4096
	// maxFiles, of a process, is far above what programs are tested with, and what
	// the runtime can hold open of its mounts.
	maxFiles = 65536
	// maxLocked bytes, of a process, is Linux's default (since 5.16).
	maxLocked = 8 << 20
	// cpuPeriod is the kernel's default, in microseconds.
	cpuPeriod = 100_000
)

// files are the control group's, with what to write to them (the kernel's
// admin-guide/cgroup-v2).
func (l Limits) files() map[string]string {
	files := map[string]string{"pids.max": fmt.Sprint(maxProcesses)}
	if l.MemoryMiB > 0 {
		files["memory.max"] = fmt.Sprint(int64(l.MemoryMiB) << 20)
		files["memory.oom.group"] = "1" // half an application writes half an output
	}
	if l.MilliCPU > 0 {
		files["cpu.max"] = fmt.Sprintf("%d %d", uint64(l.MilliCPU)*cpuPeriod/1000, cpuPeriod)
	}
	return files
}

// temporary is the size option of a directory for temporary files, which are in
// memory: a quarter of it.
func (l Limits) temporary() string {
	if l.MemoryMiB == 0 {
		return "size=25%"
	}
	return fmt.Sprintf("size=%dk", uint64(l.MemoryMiB)*1024/4)
}

// bound bounds this process, and so what it starts, whether or not there is a
// control group.
func bound() error {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxFiles, unix.RLIMIT_NPROC: maxProcesses, unix.RLIMIT_MEMLOCK: maxLocked,
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("reading limit %d: %w", resource, err)
		}
		most = min(most, now.Max) // raising it takes a privilege
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("setting limit %d: %w", resource, err)
		}
	}
	// Where memory ends, the kernel ends the application and not the runtime, which
	// then closes the outputs.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return fmt.Errorf("offering the application to the kernel: %w", err)
	}
	return nil
}
