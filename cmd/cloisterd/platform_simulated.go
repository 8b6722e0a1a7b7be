//go:build !production

package main

import "cloister/enclave/snp/simulated"

const platformUsage = ", or simulated:DIR for a guest of `cloister local`, which protects nothing"

func simulatedPlatform(dir string) (platform, error) {
	p := simulated.New(dir)
	anchors, err := p.Anchors()
	return platform{Platform: p, anchors: anchors, name: "simulated-sev-snp", simulated: true}, err
}
