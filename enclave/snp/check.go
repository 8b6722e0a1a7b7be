package snp

import (
	"strings"

	"cloister/internal/fault"
)

// Check is one thing that was looked at.
type Check struct {
	Name     string `json:"name"`
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
	OK       bool   `json:"ok"`
}

// Checks is the whole record of a verification, in a fixed order.
type Checks []Check

// Add appends a check that holds when the two texts are the same.
func (c *Checks) Add(name, expected, actual string) {
	c.AddIf(name, expected, actual, expected == actual)
}

// AddIf appends a check that holds when ok does.
func (c *Checks) AddIf(name, expected, actual string, ok bool) {
	*c = append(*c, Check{Name: name, Expected: expected, Actual: actual, OK: ok})
}

// Err is nil when there are checks and all of them hold; else a refusal of the
// subject that names every one that failed.
func (c Checks) Err(subject string) error {
	var failed []string
	for _, check := range c {
		if !check.OK {
			failed = append(failed, check.Name+": expected "+check.Expected+", got "+check.Actual)
		}
	}
	if len(c) == 0 {
		failed = []string{"nothing was checked"}
	}
	if failed == nil {
		return nil
	}
	return fault.Errorf(fault.Refused, "", "%s is refused: %s", subject, strings.Join(failed, "; "))
}
