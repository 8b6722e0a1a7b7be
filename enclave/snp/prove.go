package snp

import (
	"context"
	"crypto/ecdsa"
	"slices"
	"time"
)

// Machine is a platform, and who is believed about it.
type Machine interface {
	Platform
	Anchors() (Anchors, error)
}

// Requirements are what a machine demands of itself; see Expectations.
type Requirements struct {
	SMT       SMT
	MinTCB    Floors
	MinUVMSVN uint64
	VM        *VMExpectations // of a confidential VM, in place of MinUVMSVN
	// UVMLedgers are believed beside the machine's own: see Anchors. May be empty.
	UVMLedgers []*ecdsa.PublicKey
}

// Prove has a report made and judges it before anybody else is shown it: it
// must be about the statement, and this container must run under the policy
// that its security context shows.
func Prove(ctx context.Context, m Machine, want Requirements, about Statement) (*Evidence, *Result, error) {
	anchors, err := m.Anchors()
	if err != nil {
		return nil, nil, err
	}
	anchors.UVMLedgers = slices.Concat(anchors.UVMLedgers, want.UVMLedgers)
	e, err := Collect(ctx, m, about)
	if err != nil {
		return nil, nil, err
	}
	data, err := about.ReportData()
	if err != nil {
		return nil, nil, err
	}
	host := e.HostData()
	result, err := Verify(e, Expectations{
		Anchors: anchors, HostData: host[:], ReportData: data[:],
		SMT: want.SMT, MinTCB: want.MinTCB, MinUVMSVN: want.MinUVMSVN, VM: want.VM,
		Now: time.Now(),
	})
	if err != nil {
		return nil, nil, err
	}
	return e, result, nil
}
