package main

import (
	"strings"

	"cloister/enclave/snp/hardware"
	"cloister/internal/fault"
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
