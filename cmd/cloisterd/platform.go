package main

import (
	"fmt"
	"os"
	"strings"

	"cloister/enclave/azurekeys"
	"cloister/enclave/snp"
	"cloister/enclave/snp/hardware"
	"cloister/enclave/snp/vtpm"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func platformFlag() *urfave.StringFlag {
	return &urfave.StringFlag{Name: "platform", Usage: "`hardware`, a confidential container; vtpm, a confidential VM" + platformUsage, Value: "hardware"}
}

func machinePolicyFlag() *urfave.StringFlag {
	return &urfave.StringFlag{Name: "machine-policy", Usage: "of a confidential VM: the measurements and PCRs that the parties agreed on, `FILE`"}
}

// choosePlatform takes the hardware, or what the operator opted into by name.
// There is no falling back from one to the other.
func choosePlatform(name, machinePolicy string) (platform, error) {
	switch kind, dir, _ := strings.Cut(name, ":"); {
	case name == "hardware":
		anchors, err := hardware.Platform{}.Anchors()
		return platform{Platform: hardware.Platform{}, anchors: anchors, name: "sev-snp"}, err
	case name == "vtpm":
		return vmPlatform(machinePolicy, "sev-snp-vtpm", func(p vtpm.Platform) azurekeys.Platform { return p })
	case kind == "simulated":
		return simulatedPlatform(dir)
	case kind == "simulated-vtpm":
		return simulatedVM(dir, machinePolicy)
	}
	return platform{}, fault.Errorf(fault.Usage, "--platform hardware, or vtpm for a confidential VM"+platformUsage, "there is no platform %q", name)
}

// vmPlatform is a confidential VM that must be what the machine policy says.
func vmPlatform(machinePolicy, name string, around func(vtpm.Platform) azurekeys.Platform) (platform, error) {
	if machinePolicy == "" {
		return platform{}, fault.Errorf(fault.Usage, "give --machine-policy FILE", "a confidential VM has no container policy, so what it must be has to be said")
	}
	text, err := os.ReadFile(machinePolicy)
	if err != nil {
		return platform{}, fault.Errorf(fault.NotFound, "", "reading the machine policy: %w", err)
	}
	want, err := snp.ParseVMPolicy(text)
	if err != nil {
		return platform{}, fmt.Errorf("reading %s: %w", machinePolicy, err)
	}
	p := platform{Platform: around(vtpm.Platform{Policy: text}), name: name, vm: want}
	p.anchors, err = p.Anchors()
	return p, err
}
