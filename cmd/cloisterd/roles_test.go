package main

import (
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
)

// A run has enough with the roles that provision apply gives, on exactly its keys
// and secrets; without one of them it has nothing.
func TestRolesAreEnoughAndNeeded(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) { r.Roles = true })
	run := r.start()
	run.do("cat $IN/private/secret.txt > $OUT/copy")
	run.tell("exit 0")
	run.ends(0)
	if got := r.decrypt(run.reference("output"))["copy"]; got != "for the owner alone\n" {
		t.Errorf("the result is %q", got)
	}
	if err := r.AsOwner("provision", "destroy", "--specification", r.Path("specification.yaml"), "--key-release-policy", r.ReleasePolicy(), "source"); err != nil {
		t.Fatal(err)
	}
	before := len(r.requests())
	r.launch().ends(4, "ForbiddenByRbac")
	for _, a := range r.requests()[before:] {
		if a.Status == 200 && (a.Service == "hsm" || a.Service == "vault") && strings.Contains(a.Path, "hospital") {
			t.Errorf("without its roles it was given %s", a.Path)
		}
	}
}
