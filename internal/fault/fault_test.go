package fault

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestKindAndHintsSurviveWrapping(t *testing.T) {
	missing := Sentinel(NotFound, "object is not in the store")
	inner := Errorf(NotFound, "check the name", "reading %q: %w", "a", missing)
	outer := Errorf(Refused, "ask the owner for the newest reference", "opening volume: %w",
		errors.Join(fmt.Errorf("first: %w", inner), errors.New("second")))

	if got := KindOf(outer); got != Refused {
		t.Errorf("KindOf(outer) = %v, want %v: the outermost decides", got, Refused)
	}
	if got := KindOf(fmt.Errorf("wrapped: %w", inner)); got != NotFound {
		t.Errorf("KindOf(inner) = %v, want %v", got, NotFound)
	}
	if !errors.Is(outer, missing) {
		t.Error("the sentinel is lost on the way out")
	}
	want := []string{"ask the owner for the newest reference", "check the name"}
	if got := Hints(outer); !slices.Equal(got, want) {
		t.Errorf("Hints = %q, want %q", got, want)
	}
	if KindOf(nil) != Internal || KindOf(errors.New("x")) != Internal || Hints(nil) != nil {
		t.Error("an unclassified error must be internal and without hints")
	}
}
