package main

import (
	"fmt"
	"strings"

	"cloister/enclave/snp/hardware"
	"cloister/internal/fault"

	"golang.org/x/sys/unix"
)

// choosePlatform takes the hardware, or what the operator opted into by name.
// There is no falling back from one to the other.
func choosePlatform(name string) (platform, error) {
	if name == "hardware" {
		anchors, err := hardware.Platform{}.Anchors()
		return platform{Platform: hardware.Platform{}, anchors: anchors, name: "sev-snp"}, err
	}
	if dir, ok := strings.CutPrefix(name, "simulated:"); ok {
		return simulatedPlatform(dir)
	}
	return platform{}, fault.Errorf(fault.Usage, "--platform hardware"+platformUsage, "there is no platform %q", name)
}

// protectMemory keeps keys out of core files and from being read by another
// process of this user.
func protectMemory() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core files off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping this process from being read: %w", err)
	}
	return nil
}
