package storetest

import (
	"errors"
	"io"
	"testing"

	"cloister/fs/store/object"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Store { return &Memory{} })
}

func TestFaultyWithoutFaults(t *testing.T) {
	Run(t, func(*testing.T) Store { return &Faulty{Store: &Memory{}} })
}

func TestFaults(t *testing.T) {
	lost := errors.New("the response was lost")
	f := &Faulty{Store: &Memory{}, Faults: []Fault{
		{Op: Put, Name: "d/", Nth: 2, Err: Away},
		{Op: Put, Nth: 3, Lost: lost},
		{Op: Get, Nth: 1, Short: 2},
		{Op: Get, Nth: 2, Flip: 1},
		{Op: List, Lost: lost},
		{Op: Delete, From: 2, Err: Away},
	}}
	ctx := t.Context()
	if err := f.Put(ctx, "d/1", []byte("one")); err != nil {
		t.Error(err)
	}
	if err := f.Put(ctx, "d/2", []byte("two")); !errors.Is(err, Away) {
		t.Errorf("second Put: %v", err)
	}
	if err := f.Put(ctx, "m/3", []byte("three")); !errors.Is(err, lost) {
		t.Errorf("third Put: %v", err)
	}
	if err := f.Put(ctx, "m/3", []byte("three")); !errors.Is(err, object.ErrExist) {
		t.Errorf("the Put whose response was lost did not happen: %v", err)
	}
	p := make([]byte, 3)
	if err := f.Get(ctx, "d/1", 0, p); !errors.Is(err, io.ErrUnexpectedEOF) || string(p) != "on\x00" {
		t.Errorf("short Get: %q, %v", p, err)
	}
	if err := f.Get(ctx, "d/1", 0, p); err != nil || string(p) != "nne" {
		t.Errorf("flipped Get: %q, %v", p, err)
	}
	if err := f.Get(ctx, "d/1", 0, p); err != nil || string(p) != "one" {
		t.Errorf("third Get: %q, %v", p, err)
	}
	seen, last := 0, error(nil)
	for _, err := range f.List(ctx, "") {
		if last = err; err == nil {
			seen++
		}
	}
	if seen != 2 || !errors.Is(last, lost) {
		t.Errorf("List yields %d entries, then %v", seen, last)
	}
	for i, want := range []error{nil, Away, Away} {
		if err := f.Delete(ctx, "d/1"); !errors.Is(err, want) {
			t.Errorf("Delete %d: %v, want %v", i+1, err, want)
		}
	}
	if got := f.Count(Put); got != 4 {
		t.Errorf("%d Puts recorded, want 4", got)
	}
	if c := f.Calls()[4]; c.Op != Get || c.Name != "d/1" || c.Len != 3 || c.Err == nil {
		t.Errorf("the fifth call is recorded as %+v", c)
	}
}
