//go:build linux && race

package mount_test

func init() { raceFlags, cgo = []string{"-race"}, "CGO_ENABLED=1" }
