package snp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"

	"cloister/internal/fault"
)

// ReportSize is the size of a raw attestation report in bytes (AMD 56860,
// table 21), signature included.
const ReportSize = abi.ReportSize

// Report is a raw report's fields, as far as anything here uses them.
type Report struct {
	Version     uint32
	Line        Line // "" before version 3
	GuestSVN    uint32
	VMPL        uint32 // 0xffffffff when the host asked for the report
	Debug       bool   // the host may decrypt the guest
	MigrationOK bool   // a migration agent may move the guest
	SMT         bool   // the guest may run with a sibling thread beside it
	VLEK        bool   // signed by a VLEK, else by a VCEK
	ReportData  [64]byte
	Measurement [48]byte // of the utility VM at launch
	HostData    [32]byte // what the host bound in at launch: the policy's digest
	ReportID    [32]byte
	ChipID      [64]byte // zero when the host masks it
	Reported    TCB      // the version the signing key was made for
	Current     TCB
	Committed   TCB

	proto *spb.Report
}

// ParseReport reads a raw report of version 2 to 5. It checks form only.
func ParseReport(raw []byte) (*Report, error) {
	if len(raw) != ReportSize {
		return nil, badReport("it has %d bytes, not %d", len(raw), ReportSize)
	}
	if err := abi.ValidateReportFormat(raw); err != nil {
		return nil, badReport("%v", err)
	}
	proto, err := abi.ReportToProto(raw)
	if err != nil {
		return nil, badReport("%v", err)
	}
	// The library checks the signature over its own rendering of the fields, so
	// a byte it does not keep would escape the signature.
	if again, err := abi.ReportToAbiBytes(proto); err != nil || !bytes.Equal(again, raw) {
		return nil, badReport("reserved bits are set")
	}
	policy, err := abi.ParseSnpPolicy(proto.GetPolicy())
	if err != nil {
		return nil, badReport("%v", err)
	}
	signer, err := abi.ParseSignerInfo(proto.GetSignerInfo())
	if err != nil {
		return nil, badReport("%v", err)
	}
	return &Report{
		Version:     proto.GetVersion(),
		Line:        lineOfReport(raw),
		GuestSVN:    proto.GetGuestSvn(),
		VMPL:        proto.GetVmpl(),
		Debug:       policy.Debug,
		MigrationOK: policy.MigrateMA,
		SMT:         policy.SMT,
		VLEK:        signer.SigningKey == abi.VlekReportSigner,
		ReportData:  [64]byte(proto.GetReportData()),
		Measurement: [48]byte(proto.GetMeasurement()),
		HostData:    [32]byte(proto.GetHostData()),
		ReportID:    [32]byte(proto.GetReportId()),
		ChipID:      [64]byte(proto.GetChipId()),
		Reported:    tcbOf(proto.GetReportedTcb(), raw),
		Current:     tcbOf(proto.GetCurrentTcb(), raw),
		Committed:   tcbOf(proto.GetCommittedTcb(), raw),
		proto:       proto,
	}, nil
}

// ReportedVersion is the reported TCB as the report and its certificate write
// it: one number, laid out as the line of processors does.
func (r *Report) ReportedVersion() uint64 { return r.proto.GetReportedTcb() }

// VCEKPath is where AMD's key distribution service keeps the certificate that
// signs this report (AMD 57230, section 4.1). Reports of version 2 do not name
// their line, so given, of the same host, does.
func (r *Report) VCEKPath(given HostCerts) (string, error) {
	line := r.Line
	if line == "" {
		line = lineOfCerts(given)
	}
	switch {
	case r.VLEK:
		return "", errors.New("a VLEK's certificate is given to the cloud's operator only")
	case r.ChipID == [64]byte{}:
		return "", errors.New("the report does not name the chip")
	case line == "":
		return "", errors.New("neither report nor certificates name the line of processors")
	}
	t, chip, fmc := r.Reported, r.ChipID[:], ""
	if line == Turin {
		chip, fmc = chip[:turinChipID], fmt.Sprintf("fmcSPL=%d&", t.FMC)
	}
	return fmt.Sprintf("/vcek/v1/%s/%x?%sblSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d",
		line, chip, fmc, t.Bootloader, t.TEE, t.SNP, t.Microcode), nil
}

func badReport(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "", "the attestation report is malformed: "+format, args...)
}

// TCB is a trusted computing base's version: security patch levels, each
// compared by itself.
type TCB struct {
	FMC        uint8 // Turin and later, else 0
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// turinFamily is CPUID family 1Ah, whose TCB_VERSION is laid out anew (AMD
// 56860, table 4). Reports name the family from version 3 on.
const turinFamily = 0x1a

func tcbOf(version uint64, report []byte) TCB {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], version)
	if binary.LittleEndian.Uint32(report) >= abi.ReportVersion3 && report[0x188] == turinFamily {
		return TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}

// AtLeast reports whether no level of t is below the floor's.
func (t TCB) AtLeast(floor TCB) bool {
	return t.FMC >= floor.FMC && t.Bootloader >= floor.Bootloader && t.TEE >= floor.TEE &&
		t.SNP >= floor.SNP && t.Microcode >= floor.Microcode
}

func (t TCB) String() string {
	return fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}
