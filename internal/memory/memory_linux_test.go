package memory

import (
	"os"
	"path/filepath"
	"testing"

	"cloister/internal/fault"
)

func TestRefuseSwap(t *testing.T) {
	for name, tc := range map[string]struct {
		table string
		ok    bool
	}{
		"none":    {"Filename Type Size Used Priority\n", true},
		"empty":   {"", true},
		"one":     {"Filename Type Size Used Priority\n/swapfile file 1 0 -2\n", false},
		"several": {"Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n/swapfile file 1 0 -2\n", false},
	} {
		table := filepath.Join(t.TempDir(), "swaps")
		if err := os.WriteFile(table, []byte(tc.table), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := refuseSwap(table); (err == nil) != tc.ok || err != nil && fault.KindOf(err) != fault.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refuseSwap(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("a machine that does not say is taken for one that does not swap")
	}
}
