//go:build production

package main

import "cloister/internal/fault"

const platformUsage = ""

// simulatedPlatform is refused: this build does not contain it.
func simulatedPlatform(string) (platform, error) {
	return platform{}, fault.Errorf(fault.Refused, "use a build for development", "a production build of cloisterd has no simulated platform")
}

func simulatedVM(string, string) (platform, error) { return simulatedPlatform("") }
