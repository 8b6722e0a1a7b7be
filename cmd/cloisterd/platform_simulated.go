//go:build !production

package main

import (
	"context"
	"path/filepath"

	"cloister/enclave/azurekeys"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/snp/vtpm"
)

const platformUsage = "; or simulated:DIR for a guest of `cloister local`, which protects nothing, and simulated-vtpm:DIR where a TPM answers on DIR/tpm.sock"

func simulatedPlatform(dir string) (platform, error) {
	p := simulated.New(dir)
	anchors, err := p.Anchors()
	return platform{Platform: p, anchors: anchors, name: "simulated-sev-snp", simulated: true}, err
}

// simulatedVM is a confidential VM whose processor is simulated.
func simulatedVM(dir, machinePolicy string) (platform, error) {
	p, err := vmPlatform(machinePolicy, "simulated-sev-snp-vtpm", func(vm vtpm.Platform) azurekeys.Platform {
		vm.TPM = filepath.Join(dir, "tpm.sock")
		return simulatedHost{vm, simulated.New(dir)}
	})
	p.simulated = true
	return p, err
}

// simulatedHost gives a VM the simulated processor's certificates and root.
type simulatedHost struct {
	vtpm.Platform
	host simulated.Platform
}

func (h simulatedHost) Anchors() (snp.Anchors, error) { return h.host.Anchors() }

func (h simulatedHost) Certificates(context.Context, *snp.Report, snp.HostCerts) (snp.HostCerts, error) {
	secctx, err := h.host.SecurityContext()
	return secctx.HostCerts, err
}
