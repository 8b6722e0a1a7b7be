package governance

import (
	"strings"
	"testing"

	"cloister/governance/statement"
)

// TestRefusedClientsAreTold: an audit sums up what a run's endpoints refused, over
// all of its statements, and judges nothing by it.
func TestRefusedClientsAreTold(t *testing.T) {
	_, l, r := begun(t)
	for _, refusals := range [][]statement.IngressRefusal{
		{{Count: 2, Endpoint: "api", Reason: statement.IngressHandshake}, {Count: 1, Endpoint: "api", Reason: statement.IngressPolicy}},
		{{Count: 40, Endpoint: "api", Reason: statement.IngressHandshake}},
	} {
		if err := r.RecordIngress(t.Context(), refusals); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.RecordIngress(t.Context(), []statement.IngressRefusal{{Count: 1, Endpoint: "api", Reason: "another"}}); err == nil {
		t.Error("a reason that no reader knows is recorded")
	}
	a := Auditor{Key: l.key}
	report, err := a.Audit(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	for _, f := range report.Findings {
		if f.Check == "clients" && f.OK && f.Run == r.ID() {
			told = f.Detail
		}
	}
	if want := "handshake at api, 42 times; refused-by-policy at api, 1 times"; !strings.Contains(told, want) {
		t.Errorf("told is %q, want %q", told, want)
	}
}
