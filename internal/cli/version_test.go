package cli

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	vcs := func(settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{GoVersion: "go1.26.8", Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "05681b8c0f3e05681b8c0f3e05681b8c0f3e0568"}
	for _, tc := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{vcs(revision), "05681b8c0f3e, go1.26.8"},
		{vcs(revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "05681b8c0f3e, changed, go1.26.8"},
		{vcs(), "no revision, go1.26.8"},
	} {
		if got := version(tc.info, true); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	if got := version(nil, false); got != "unknown" {
		t.Errorf("got %q of a binary that says nothing", got)
	}
}
