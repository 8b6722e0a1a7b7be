package cli

import (
	"runtime/debug"
	"strings"
)

// version says from which source a binary was built and with which compiler, as
// the compiler wrote it into it: "05681b8c0f3e, changed, go1.26.8". A binary
// that must be the same from every checkout carries no revision.
func version(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "unknown"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	switch {
	case revision == "":
		revision = "no revision"
	case len(revision) > shownRevision:
		revision = revision[:shownRevision]
	}
	parts := []string{revision}
	if settings["vcs.modified"] == "true" {
		parts = append(parts, "changed")
	}
	return strings.Join(append(parts, info.GoVersion), ", ")
}

// shownRevision is how many hexadecimal digits name a commit: what git shows of a
// large repository.
const shownRevision = 12
