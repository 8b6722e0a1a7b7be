package platform

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
)

// What a good guest's report holds, after the public evidence of the real
// container platform: SMT allowed, ABI minor 0x1f, guest SVN 2.
const (
	goodGuestSVN = 2
	goodUVMSVN   = 104
	lowUVMSVN    = 22
)

var (
	goodTCB = kds.TCBParts{BlSpl: 4, TeeSpl: 0, SnpSpl: 24, UcodeSpl: 219}
	oldTCB  = kds.TCBParts{BlSpl: 3, TeeSpl: 0, SnpSpl: 8, UcodeSpl: 115}
)

// Measurement is the launch measurement that the platform endorses.
func Measurement() [abi.MeasurementSize]byte {
	return sha512.Sum384([]byte("Cloister simulated utility VM"))
}

// launch is what a guest's launch fixed for its lifetime.
type launch struct {
	version     uint32
	policy      uint64
	vmpl        uint32
	hostData    [abi.HostDataSize]byte
	measurement [abi.MeasurementSize]byte
	tcb         kds.TCBVersion
	reportID    [abi.ReportIDSize]byte
}

func newLaunch(g GuestConfig) (launch, error) {
	parts := goodTCB
	if g.OldTCB {
		parts = oldTCB
	}
	tcb, err := kds.ComposeTCBParts(parts)
	if err != nil {
		return launch{}, err
	}
	l := launch{
		version:     g.ReportVersion,
		policy:      abi.SnpPolicyToBytes(abi.SnpPolicy{ABIMinor: 0x1f, SMT: true, Debug: g.Debug, MigrateMA: g.Migration}),
		vmpl:        g.VMPL,
		hostData:    sha256.Sum256(g.Policy),
		measurement: Measurement(),
		tcb:         tcb,
	}
	if l.version == 0 {
		l.version = abi.ReportVersion3
	}
	if g.WrongHostData {
		l.hostData = sha256.Sum256(append([]byte("another policy\n"), g.Policy...))
	}
	if g.VM {
		l.hostData = [abi.HostDataSize]byte{}
	}
	if g.WrongMeasurement {
		l.measurement = sha512.Sum384([]byte("Cloister simulated utility VM, altered"))
	}
	_, err = rand.Read(l.reportID[:])
	return l, err
}

// report signs a report over data for the launched guest.
func (c *chain) report(l launch, data [abi.ReportDataSize]byte) ([]byte, error) {
	idKey := sha512.Sum384([]byte("Cloister simulated platform id key"))
	report := &spb.Report{
		Version:         l.version,
		GuestSvn:        goodGuestSVN,
		Policy:          l.policy,
		FamilyId:        append([]byte{1}, make([]byte, abi.FamilyIDSize-1)...),
		ImageId:         append([]byte{2}, make([]byte, abi.ImageIDSize-1)...),
		Vmpl:            l.vmpl,
		SignatureAlgo:   abi.SignEcdsaP384Sha384,
		CurrentTcb:      uint64(l.tcb),
		PlatformInfo:    1, // SMT on
		ReportData:      data[:],
		Measurement:     l.measurement[:],
		HostData:        l.hostData[:],
		IdKeyDigest:     idKey[:],
		AuthorKeyDigest: make([]byte, abi.AuthorKeyDigestSize),
		ReportId:        l.reportID[:],
		ReportIdMa:      bytes.Repeat([]byte{0xff}, abi.ReportIDMASize), // no migration agent
		ReportedTcb:     uint64(l.tcb),
		ChipId:          c.hwid[:],
		CommittedTcb:    uint64(l.tcb),
		CurrentBuild:    29, CurrentMinor: 55, CurrentMajor: 1,
		CommittedBuild: 29, CommittedMinor: 55, CommittedMajor: 1,
		LaunchTcb: uint64(l.tcb),
		Signature: make([]byte, abi.SignatureSize),
	}
	if l.version >= abi.ReportVersion3 {
		report.Cpuid1EaxFms = cpuid
	}
	raw, err := abi.ReportToAbiBytes(report)
	if err != nil {
		return nil, fmt.Errorf("filling a report: %w", err)
	}
	digest := sha512.Sum384(abi.SignedComponent(raw))
	r, s, err := ecdsa.Sign(rand.Reader, c.vcekKey, digest[:])
	if err != nil {
		return nil, err
	}
	return raw, abi.SetSignature(r, s, raw)
}
