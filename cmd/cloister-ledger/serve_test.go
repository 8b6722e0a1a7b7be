package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

// TestTesseraSpeaksThroughTheLog: what goes wrong in it is a line of our log, and
// what goes well is none.
func TestTesseraSpeaksThroughTheLog(t *testing.T) {
	var out bytes.Buffer
	quietTessera(slog.New(slog.NewTextHandler(&out, nil)))
	t.Cleanup(klog.ClearLogger)
	klog.Infof("Initializing directory")
	klog.Errorf("no space left")
	klog.Flush()
	if said := out.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "level=WARN msg=tessera") || !strings.Contains(said, "no space left") {
		t.Errorf("it says\n%s", said)
	}
}
