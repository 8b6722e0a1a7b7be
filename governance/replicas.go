package governance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloister/governance/statement"
)

// replicasOf is how many runs carry a contract version out together, at least 1.
func replicasOf(k statement.Contract) uint64 { return max(1, k.Replicas) }

// checkReplicas tells, of each version with several replicas that runs carried
// out, which replicas did not come to their end and which ran more than once. A
// job that is under way has such too, and one that failed is started again, so
// this is told and not judged.
func (a *Auditor) checkReplicas() {
	for _, k := range slices.SortedFunc(maps.Values(a.versions), func(x, y statement.Contract) int { return cmp.Compare(x.Version, y.Version) }) {
		if began, complete := a.countReplicas(k.Version); replicasOf(k) > 1 && len(began) > 0 {
			a.found("replicas", "", true, "version %d: %s", k.Version, replicaWords(k.Replicas, began, complete))
		}
	}
}

// countReplicas counts the runs of a version, and those that are complete, by
// replica.
func (a *Auditor) countReplicas(version uint64) (began, complete map[uint64]int) {
	began, complete = map[uint64]int{}, map[uint64]int{}
	for _, r := range a.report.Runs {
		if r.Version != version {
			continue
		}
		began[r.Replica]++
		if r.Complete {
			complete[r.Replica]++
		}
	}
	return began, complete
}

func replicaWords(n uint64, began, complete map[uint64]int) string {
	var says, missing, again []string
	for i := range n {
		if complete[i] == 0 {
			missing = append(missing, fmt.Sprint(i))
		}
		if began[i] > 1 {
			again = append(again, fmt.Sprintf("%d (%d runs, %d complete)", i, began[i], complete[i]))
		}
	}
	says = append(says, fmt.Sprintf("%d of %d replicas are complete", int(n)-len(missing), n))
	if missing != nil {
		says = append(says, "MISSING: "+strings.Join(missing, ", "))
	}
	if again != nil {
		says = append(says, "MORE THAN ONCE: "+strings.Join(again, ", "))
	}
	return strings.Join(says, "; ")
}
