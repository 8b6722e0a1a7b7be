package kbs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify/testdata"

	"cloister/enclave/snp"
)

// fields are the protocol's, as sev 7.1.0 writes and reads them.
var fields = []string{
	"author_key_digest", "chip_id", "committed", "committed_tcb", "cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "current",
	"current_mit_vector", "current_tcb", "family_id", "guest_svn", "host_data", "id_key_digest", "image_id", "key_info",
	"launch_mit_vector", "launch_tcb", "measurement", "plat_info", "policy", "report_data", "report_id", "report_id_ma",
	"reported_tcb", "sig_algo", "signature", "version", "vmpl",
}

// A real report, field for field as go-sev-guest reads it.
func TestEvidenceOfARealReport(t *testing.T) {
	raw := testdata.AttestationBytes[:abi.ReportSize]
	e, err := newEvidence(&snp.Evidence{Report: raw})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Report map[string]json.RawMessage `json:"attestation_report"`
		Chain  []any                      `json:"cert_chain"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range got.Report {
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Equal(names, fields) {
		t.Errorf("fields %q, want %q", names, fields)
	}
	want, err := abi.ReportToProto(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"version": want.Version, "guest_svn": want.GuestSvn, "policy": want.Policy, "vmpl": want.Vmpl, "sig_algo": want.SignatureAlgo,
		"plat_info": want.PlatformInfo, "key_info": want.SignerInfo, "family_id": ints(want.FamilyId), "image_id": ints(want.ImageId),
		"report_data": ints(want.ReportData), "measurement": ints(want.Measurement), "host_data": ints(want.HostData),
		"id_key_digest": ints(want.IdKeyDigest), "author_key_digest": ints(want.AuthorKeyDigest), "report_id": ints(want.ReportId),
		"report_id_ma": ints(want.ReportIdMa), "chip_id": ints(want.ChipId),
		"current_tcb": tcbOf(want.CurrentTcb), "reported_tcb": tcbOf(want.ReportedTcb), "committed_tcb": tcbOf(want.CommittedTcb), "launch_tcb": tcbOf(want.LaunchTcb),
		"current":      map[string]any{"major": want.CurrentMajor, "minor": want.CurrentMinor, "build": want.CurrentBuild},
		"committed":    map[string]any{"major": want.CommittedMajor, "minor": want.CommittedMinor, "build": want.CommittedBuild},
		"signature":    map[string]any{"r": ints(want.Signature[:72]), "s": ints(want.Signature[72:144])},
		"cpuid_fam_id": nil, "cpuid_mod_id": nil, "cpuid_step": nil, "launch_mit_vector": nil, "current_mit_vector": nil, // version 2
	} {
		wanted, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !sameJSON(t, got.Report[name], wanted) {
			t.Errorf("%s is %s, want %s", name, got.Report[name], wanted)
		}
	}
}

func ints(b []byte) []int {
	out := make([]int, len(b))
	for i, v := range b {
		out[i] = int(v)
	}
	return out
}

// tcbOf is a TCB of before Turin, in the protocol's form.
func tcbOf(v uint64) map[string]any {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return map[string]any{"fmc": nil, "bootloader": b[0], "tee": b[1], "snp": b[6], "microcode": b[7]}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	other, err := json.Marshal(y)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(again, other)
}

// Later layouts say more; Turin's TCB is laid out anew.
func TestLaterReports(t *testing.T) {
	raw := slices.Clone(testdata.AttestationBytes[:abi.ReportSize])
	copy(raw[0x180:], []byte{1, 2, 3, 4, 0, 0, 0, 7, 0x1a, 0x02, 0x01})
	binary.LittleEndian.PutUint64(raw[0x1f8:], 1<<40)
	r := newReport(raw, 5, true)
	if *r.ReportedTCB.FMC != 1 || r.ReportedTCB.Bootloader != 2 || r.ReportedTCB.TEE != 3 || r.ReportedTCB.SNP != 4 || r.ReportedTCB.Microcode != 7 {
		t.Errorf("the TCB is %+v", r.ReportedTCB)
	}
	if *r.Family != 0x1a || *r.Model != 2 || *r.Stepping != 1 || *r.LaunchMit != 1<<40 || *r.CurrentMit != 0 {
		t.Errorf("the report is %+v", r)
	}
	if r := newReport(raw, 3, false); r.Family == nil || r.LaunchMit != nil || r.ReportedTCB.FMC != nil || r.ReportedTCB.SNP != 0 {
		t.Errorf("of version 3: %+v", r)
	}
}
