package snp

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// SMT says whether a guest may run with a sibling thread beside it. It must be
// stated.
type SMT int

const (
	SMTUnstated SMT = iota // refuses every report
	SMTAllowed             // Azure's containers
	SMTForbidden
)

func (s SMT) String() string {
	switch s {
	case SMTAllowed:
		return "allowed"
	case SMTForbidden:
		return "forbidden"
	default:
		return "unstated"
	}
}

// Expectations are what a report must meet. Every field but Now is required:
// what is not stated is refused. VMPL 0, no debugging and no migration are not
// for choosing.
type Expectations struct {
	Anchors    Anchors
	HostData   []byte // 32 bytes: the digest of the policy this container must run under; zeros on a VM
	ReportData []byte // 64 bytes: from a Statement
	SMT        SMT
	MinTCB     Floors // of the reported TCB; see BaseFloors
	MinUVMSVN  uint64 // floor of the utility VM's version; 0 refuses. Production is 100 and up
	// VM is what a confidential VM must be, in place of MinUVMSVN; nil refuses a
	// VM, and set refuses what shows no quote. A container is never taken for a VM
	// nor a VM for a container: HOST_DATA pins the one, PCRs the other.
	VM  *VMExpectations
	Now time.Time
}

// Result is what was found out; it means nothing when Verify returned an error.
type Result struct {
	Platform string // the anchors' name
	Report   Report
	UVMSVN   uint64
	Checks   Checks
}

// Verify judges evidence: signature and chain, the report's fields, and the
// utility VM's endorsement, in one call because each alone is worth nothing.
// The result holds every check also when there is an error; the error names all
// that failed. Only of a report that cannot be parsed no further check is made.
func Verify(e *Evidence, want Expectations) (*Result, error) {
	res := &Result{Platform: want.Anchors.Name}
	r, err := ParseReport(e.Report)
	if err != nil {
		res.Checks.AddIf("report format", "an attestation report of version 2 to 5", err.Error(), false)
		return res, res.Checks.Err(subject)
	}
	res.Report = *r
	res.Checks.AddIf("report format", "an attestation report of version 2 to 5", fmt.Sprintf("version %d", r.Version), true)
	now := want.Now
	if now.IsZero() {
		now = time.Now()
	}
	res.checkProcessor(r, e.HostCerts, want, now)
	switch {
	case want.VM == nil && e.Quote == nil:
		res.checkFields(r, want)
		res.checkUVM(r, e.UVM, want)
	case want.VM != nil && e.Quote != nil:
		// The report is about the paravisor's claims; the quote is about us.
		claims, fields := RuntimeReportData(e.Quote.Claims), want
		fields.ReportData = claims[:]
		res.checkFields(r, fields)
		res.checkVM(r, e.Quote, want)
	default:
		res.checkFields(r, want)
		res.Checks.Add("kind of guest", guestKind(want.VM != nil), guestKind(e.Quote != nil))
	}
	return res, res.Checks.Err(subject)
}

const subject = "the attestation evidence"

// checkProcessor: who signed, and with which firmware.
func (res *Result) checkProcessor(r *Report, certs HostCerts, want Expectations, now time.Time) {
	c := &res.Checks
	actual := "valid"
	err := checkSignature(r, certs, want.Anchors, now)
	if err != nil {
		actual = err.Error()
	}
	c.AddIf("signature", "a chain to "+orUnstated(want.Anchors.Name), actual, err == nil)

	found, good := checkRevocation(certs, want.Anchors, now)
	c.AddIf("revocation", "no certificate on a current list", found, good)

	line := lineOfCerts(certs)
	c.AddIf("processor", orUnstated(string(line)), orNone(string(r.Line)), line != "" && (r.Line == line || r.Version < 3))
	key := readEndorsement(r, certs)
	if r.VLEK {
		c.AddIf("chip id", "not bound by a VLEK", "a VLEK", true)
	} else {
		masked := r.ChipID == [64]byte{}
		c.AddIf("chip id", orUnstated(hex.EncodeToString(key.chipID)), hex.EncodeToString(r.ChipID[:]),
			len(key.chipID) > 0 && (masked || string(key.chipID) == string(r.ChipID[:])))
	}
	c.AddIf("certificate's TCB", fmt.Sprintf("%016x", r.ReportedVersion()), fmt.Sprintf("%016x", key.tcb),
		key.hasTCB && key.tcb == r.ReportedVersion())
	c.AddIf("committed TCB", "at most the current: "+r.Current.String(), r.Committed.String(), r.Current.AtLeast(r.Committed))
	floor := want.MinTCB[line]
	c.AddIf("reported TCB", "at least "+floor.String(), r.Reported.String(),
		floor != TCB{} && r.Reported.AtLeast(floor) && r.Current.AtLeast(r.Reported))
}

// checkFields: what the guest is, and what the report is about.
func (res *Result) checkFields(r *Report, want Expectations) {
	c := &res.Checks
	c.Add("VMPL", "0", strconv.FormatUint(uint64(r.VMPL), 10))
	c.Add("debugging", "false", strconv.FormatBool(r.Debug))
	c.Add("migration", "false", strconv.FormatBool(r.MigrationOK))
	smt := SMTForbidden
	if r.SMT {
		smt = SMTAllowed
	}
	c.Add("SMT", want.SMT.String(), smt.String())
	c.Add("host data", orUnstated(hex.EncodeToString(want.HostData)), hex.EncodeToString(r.HostData[:]))
	c.Add("report data", orUnstated(hex.EncodeToString(want.ReportData)), hex.EncodeToString(r.ReportData[:]))
}

func guestKind(vm bool) string {
	if vm {
		return "a confidential VM, with a quote"
	}
	return "a container, with no quote"
}

// checkUVM: which utility VM was measured at launch, and who says it is good.
func (res *Result) checkUVM(r *Report, raw []byte, want Expectations) {
	c := &res.Checks
	uvm, err := verifyUVM(raw, want.Anchors.UVMLedgers)
	if err != nil {
		uvm = &uvmEndorsement{}
		c.AddIf("UVM endorsement", "signed by the issuer it names", err.Error(), false)
	} else {
		c.AddIf("UVM endorsement", "signed by the issuer it names", "valid", true)
	}
	res.UVMSVN = uvm.svn
	c.Add("UVM issuer", orUnstated(want.Anchors.UVMIssuer), orNone(uvm.issuer))
	c.Add("UVM feed", orUnstated(want.Anchors.UVMFeed), orNone(uvm.feed))
	c.AddIf("UVM SVN", fmt.Sprintf("at least %d", want.MinUVMSVN), strconv.FormatUint(uvm.svn, 10),
		want.MinUVMSVN > 0 && uvm.svn >= want.MinUVMSVN)
	c.AddIf("launch measurement", hex.EncodeToString(uvm.measurement[:]), hex.EncodeToString(r.Measurement[:]),
		err == nil && uvm.measurement == r.Measurement)
}

// orUnstated keeps an empty expectation from ever equalling an empty finding.
func orUnstated(s string) string {
	if s == "" {
		return "(not stated)"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
