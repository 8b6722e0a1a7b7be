//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/internal/localcloud/arm"
)

// TestRestarts: whether a container is started again is its group's to say, by its
// exit code.
func TestRestarts(t *testing.T) {
	for _, tc := range []struct {
		restart, program string
		exit, restarts   int
		goesOn           bool
	}{
		{"Never", "exit 3", 3, 0, false},
		{"OnFailure", "exit 0", 0, 0, false},
		{"OnFailure", "echo x >>count; [ $(wc -l <count) -ge 3 ]", 0, 2, false},
		{"Never", "kill -9 $$", 137, 0, false},
		{"Always", "echo x >>count; [ $(wc -l <count) -lt 4 ] || exec sleep 1000", 0, 3, true},
	} {
		dir := t.TempDir()
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tc.program+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		r := newRun(arm.Group{Name: "room", Command: []string{"cloisterd"}, Restart: tc.restart}, dir)
		r.pause = time.Millisecond
		if err := r.start(program, nil); err != nil {
			t.Fatal(err)
		}
		for tc.goesOn && (r.look().Restarts < tc.restarts || !r.look().Running) && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if !tc.goesOn {
			<-r.ended
			close(r.stop)
		} else {
			r.end()
		}
		if now := r.look(); now.Running || now.Restarts != tc.restarts || !tc.goesOn && now.Exit != tc.exit {
			t.Errorf("%s of %q: %+v", tc.restart, tc.program, now)
		}
	}
	r := newRun(arm.Group{Command: []string{"cloisterd"}}, t.TempDir())
	if err := r.start("/no/such/program", nil); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("no program: %v", err)
	}
	<-r.ended
}
