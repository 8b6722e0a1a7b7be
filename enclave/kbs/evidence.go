package kbs

import (
	"encoding/binary"
	"fmt"

	"cloister/enclave/snp"
)

// evidence is the protocol's for a processor with SEV-SNP: the report's fields,
// from which a verifier makes the signed bytes again, and the certificates.
// Bytes are lists of numbers.
type evidence struct {
	Report report        `json:"attestation_report"`
	Chain  []certificate `json:"cert_chain"`
}

type certificate struct {
	Type string `json:"cert_type"` // VCEK, VLEK, ASK or ARK
	Data list   `json:"data"`      // DER
}

// report is the layout of AMD 56860, table 23, in the order of its fields.
type report struct {
	Version         uint32    `json:"version"`
	GuestSVN        uint32    `json:"guest_svn"`
	Policy          uint64    `json:"policy"`
	FamilyID        list      `json:"family_id"`
	ImageID         list      `json:"image_id"`
	VMPL            uint32    `json:"vmpl"`
	SigAlgo         uint32    `json:"sig_algo"`
	CurrentTCB      tcb       `json:"current_tcb"`
	PlatInfo        uint64    `json:"plat_info"`
	KeyInfo         uint32    `json:"key_info"`
	ReportData      list      `json:"report_data"`
	Measurement     list      `json:"measurement"`
	HostData        list      `json:"host_data"`
	IDKeyDigest     list      `json:"id_key_digest"`
	AuthorKeyDigest list      `json:"author_key_digest"`
	ReportID        list      `json:"report_id"`
	ReportIDMA      list      `json:"report_id_ma"`
	ReportedTCB     tcb       `json:"reported_tcb"`
	Family          *uint8    `json:"cpuid_fam_id"` // null before version 3
	Model           *uint8    `json:"cpuid_mod_id"`
	Stepping        *uint8    `json:"cpuid_step"`
	ChipID          list      `json:"chip_id"`
	CommittedTCB    tcb       `json:"committed_tcb"`
	Current         version   `json:"current"`
	Committed       version   `json:"committed"`
	LaunchTCB       tcb       `json:"launch_tcb"`
	LaunchMit       *uint64   `json:"launch_mit_vector"` // null before version 5
	CurrentMit      *uint64   `json:"current_mit_vector"`
	Signature       signature `json:"signature"`
}

type tcb struct {
	FMC        *uint8 `json:"fmc"` // Turin and later, else null
	Bootloader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

type version struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

type signature struct {
	R list `json:"r"`
	S list `json:"s"`
}

// list is bytes that JSON has as a list of numbers.
type list []byte

func (l list) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, b := range l {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%d", b)
	}
	return append(out, ']'), nil
}

// newEvidence renders evidence for a broker. The utility VM's endorsement has no
// place in it: which measurements are good is the broker's own to know.
func newEvidence(e *snp.Evidence) (evidence, error) {
	parsed, err := snp.ParseReport(e.Report)
	if err != nil {
		return evidence{}, err
	}
	out := evidence{Report: newReport(e.Report, parsed.Version, parsed.Line == snp.Turin)}
	for i, cert := range e.HostCerts.Chain {
		kind := []string{"VCEK", "ASK", "ARK"}[min(i, 2)] // leaf to root
		if i == 0 && parsed.VLEK {
			kind = "VLEK"
		}
		out.Chain = append(out.Chain, certificate{kind, cert.Raw})
	}
	return out, nil
}

// newReport reads a well-formed raw report by the offsets of the same table.
func newReport(b []byte, layout uint32, turin bool) report {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	tcbAt := func(at int) tcb { return newTCB(b[at:at+8], turin) }
	r := report{
		Version: u32(b), GuestSVN: u32(b[0x4:]), Policy: u64(b[0x8:]), FamilyID: b[0x10:0x20], ImageID: b[0x20:0x30],
		VMPL: u32(b[0x30:]), SigAlgo: u32(b[0x34:]), CurrentTCB: tcbAt(0x38), PlatInfo: u64(b[0x40:]), KeyInfo: u32(b[0x48:]),
		ReportData: b[0x50:0x90], Measurement: b[0x90:0xc0], HostData: b[0xc0:0xe0], IDKeyDigest: b[0xe0:0x110],
		AuthorKeyDigest: b[0x110:0x140], ReportID: b[0x140:0x160], ReportIDMA: b[0x160:0x180], ReportedTCB: tcbAt(0x180),
		ChipID: b[0x1a0:0x1e0], CommittedTCB: tcbAt(0x1e0), Current: newVersion(b[0x1e8:]), Committed: newVersion(b[0x1ec:]),
		LaunchTCB: tcbAt(0x1f0), Signature: signature{b[0x2a0:0x2e8], b[0x2e8:0x330]},
	}
	if layout >= 3 {
		r.Family, r.Model, r.Stepping = &b[0x188], &b[0x189], &b[0x18a]
	}
	if layout >= 5 {
		launch, current := u64(b[0x1f8:]), u64(b[0x200:])
		r.LaunchMit, r.CurrentMit = &launch, &current
	}
	return r
}

func newTCB(b []byte, turin bool) tcb {
	if turin {
		return tcb{FMC: &b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return tcb{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}

func newVersion(b []byte) version { return version{Major: b[2], Minor: b[1], Build: b[0]} }
