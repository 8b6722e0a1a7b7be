//go:build linux

package ledger

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestProcessesShareADirectory: the appends of several processes on one directory
// each get a place of their own, and this one, open all along, goes on from them.
func TestProcessesShareADirectory(t *testing.T) {
	const processes = 3
	dir, a := initFor(t)
	here := open(t, dir)
	put(t, here, a.propose(), a.approve())
	raw, err := a.key.PKCS8()
	check(t, err)
	self, err := os.Executable()
	check(t, err)
	var out, errs [processes]bytes.Buffer
	var children [processes]*exec.Cmd
	for i := range children {
		children[i] = exec.Command(self)
		children[i].Env = append(os.Environ(), childDir+"="+dir, childTogether+"=true", childKey+"="+hex.EncodeToString(raw))
		children[i].Stdout, children[i].Stderr = &out[i], &errs[i]
		check(t, children[i].Start())
	}
	var places []string
	for i, child := range children {
		if err := child.Wait(); err != nil {
			t.Fatalf("process %d: %v\n%s", i, err, &errs[i])
		}
		places = append(places, strings.Fields(out[i].String())...)
	}
	slices.Sort(places)
	const each = childAppends*togetherSize + 1 // run-begin
	if len(places) != processes*each || len(slices.Compact(places)) != processes*each {
		t.Errorf("acknowledged places: %v", places)
	}
	r, err := here.Append(t.Context(), a.grant())
	if check(t, err); r.Index != 2+processes*each {
		t.Errorf("the next entry is %d", r.Index)
	}
	if runs := here.view.State().Runs(); len(runs) != processes || runs[0].Records != each {
		t.Errorf("%+v", runs)
	}
	open(t, dir)
}
