package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// row is a line of the table: a work, Cloister's figure for it, and the
// references it is held against, each with its bar.
type row struct {
	name    string
	unit    string
	ours    side
	against []reference
}

// reference is what Cloister is held against. With a bar that needs no
// reference the side is left out.
type reference struct {
	side
	bar bar
}

// side is one that is measured.
type side struct {
	name    string
	measure attempt
}

// attempt measures once and returns a figure in the row's unit.
type attempt func(ctx context.Context, l *lab) (float64, error)

// bar is what a row must reach.
type bar struct {
	text    string
	value   func(ours, theirs float64) float64 // what is printed
	reached func(value float64) bool
}

// atLeast asks for so many times the reference's figure, or more.
func atLeast(times float64) bar {
	return bar{fmt.Sprintf("≥ %g ×", times), quotient, func(v float64) bool { return v >= times }}
}

// atMost asks for so many times the reference's figure, or less.
func atMost(times float64) bar {
	return bar{fmt.Sprintf("≤ %g ×", times), quotient, func(v float64) bool { return v <= times }}
}

// beyond asks for the reference's figure and no more than this on top.
func beyond(limit float64, unit string) bar {
	return bar{fmt.Sprintf("≤ %g %s beyond", limit, unit), func(ours, theirs float64) float64 { return ours - theirs }, func(v float64) bool { return v <= limit }}
}

// within asks for at most this, whatever others need.
func within(limit float64, unit string) bar {
	return bar{fmt.Sprintf("≤ %g %s", limit, unit), own, func(v float64) bool { return v <= limit }}
}

// reach asks for at least this, whatever others do.
func reach(limit float64, unit string) bar {
	return bar{fmt.Sprintf("≥ %g %s", limit, unit), own, func(v float64) bool { return v >= limit }}
}

// shown and alone have no bar: the ratio to a reference that is measured once,
// or our figure, is there to be known.
var (
	shown = bar{"", quotient, nil}
	alone = bar{"", own, nil}
)

func quotient(ours, theirs float64) float64 { return ours / theirs }
func own(ours, _ float64) float64           { return ours }

func (b bar) verdict(v float64) string {
	switch {
	case b.reached == nil:
		return ""
	case b.reached(v):
		return "reached"
	default:
		return "missed"
	}
}

// measure lets all take turns, and prints a line for each reference but for
// those that failed, which the error names.
func (r row) measure(ctx context.Context, l *lab) (failed error) {
	sides := []side{r.ours}
	for _, ref := range r.against {
		sides = append(sides, ref.side)
	}
	figures := make([][]float64, len(sides))
	for round := range l.rounds {
		for i, s := range sides {
			if s.measure == nil || round > 0 && i > 0 && r.against[i-1].bar.reached == nil {
				continue // what decides nothing is measured once
			}
			v, err := s.measure(ctx, l)
			if err != nil {
				err = fmt.Errorf("measuring %s: %w", s.name, err)
			}
			switch {
			case err == nil:
				figures[i] = append(figures[i], v)
			case i == 0 || ctx.Err() != nil:
				return err
			default: // the other references tell as much without this one
				sides[i].measure = nil
				failed = errors.Join(failed, err)
			}
		}
	}
	for i, ref := range r.against {
		if ref.measure == nil || sides[i+1].measure != nil {
			r.print(ref, figures[0], figures[i+1])
		}
	}
	return failed
}

const format = "| %-44s | %18s | %-22s | %18s | %7s | %-16s | %-7s |\n"

// print prints a line of a Markdown table.
func (r row) print(ref reference, ours, theirs []float64) {
	theirText, theirMedian := "", 0.0
	if len(theirs) > 0 {
		theirMedian = median(theirs)
		theirText = figure(theirMedian) + " " + r.unit
	}
	v := ref.bar.value(median(ours), theirMedian)
	fmt.Printf(format, r.name, figure(median(ours))+" "+r.unit, ref.name, theirText, figure(v), ref.bar.text, ref.bar.verdict(v))
}

func printTableHead() {
	fmt.Printf(format, "work", "Cloister", "reference", "", "value", "bar", "")
	fmt.Println("|---|---:|---|---:|---:|---|---|")
}

// figure prints three digits that matter.
func figure(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
