package cleanroom

import (
	"fmt"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// witness is one that a party runs.
type witness struct {
	dir, key, listen string
	job              *exec.Cmd // nil while it is down
}

// initWitnesses makes and starts the witnesses of a ledger, and returns how they
// are named to it.
func (r *Room) initWitnesses(ledgerKey string) (ledger []string, err error) {
	for i := range r.Witnesses {
		w := &witness{dir: r.Witness(i), listen: "127.0.0.1:0"}
		if w.key, err = r.Cloister("witness", "init", "--ledger-key", ledgerKey, w.dir); err != nil {
			return nil, err
		}
		r.witnesses = append(r.witnesses, w)
		if err := r.StartWitness(i); err != nil {
			return nil, err
		}
		ledger = append(ledger, "--witness", w.key+"@http://"+w.listen)
	}
	if r.Threshold > 0 {
		ledger = append(ledger, "--threshold", strconv.Itoa(r.Threshold))
	}
	return ledger, nil
}

// namedWitnesses are the witnesses as a specification names them.
func (r *Room) namedWitnesses() (args []string) {
	for _, w := range r.witnesses {
		args = append(args, "--witness", w.key)
	}
	if r.Threshold > 0 {
		args = append(args, "--threshold", strconv.Itoa(r.Threshold))
	}
	return args
}

// Witness is the folder of the i-th witness.
func (r *Room) Witness(i int) string { return r.Path(fmt.Sprintf("witness-%d", i)) }

// StartWitness starts the i-th witness where it was before.
func (r *Room) StartWitness(i int) error {
	w := r.witnesses[i]
	ready, err := r.serve(r.Command("cloister", "witness", "serve", "--listen", w.listen, w.dir))
	if err != nil {
		return err
	}
	_, address, _ := strings.Cut(ready, "@")
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	w.listen, w.job = u.Host, r.jobs[len(r.jobs)-1]
	return nil
}

// StopWitness ends the i-th witness.
func (r *Room) StopWitness(i int) error {
	w := r.witnesses[i]
	job := w.job
	w.job = nil
	return r.stop(job, syscall.SIGTERM)
}
