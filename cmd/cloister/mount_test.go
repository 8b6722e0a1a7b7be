//go:build linux

package main

import (
	"testing"

	"cloister/internal/fault"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "7B": 7, "64KiB": 64 << 10, "64K": 64 << 10, "512MiB": 512 << 20, "2M": 2 << 20, "3GiB": 3 << 30, "1G": 1 << 30,
	} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("parseSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "MiB", "1MB", "1 MiB", "1KK", "9999999999GiB", "0x10", "1.5GiB"} {
		if got, err := parseSize(text); err == nil || fault.KindOf(err) != fault.Usage {
			t.Errorf("parseSize(%q) = %d, %v; want a usage error", text, got, err)
		}
	}
}
