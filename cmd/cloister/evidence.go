package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"cloister/enclave/evidence"
	"cloister/enclave/snp"
	"cloister/internal/cli"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// evidenceCommand is "cloister evidence": judging what an enclave shows.
func evidenceCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "evidence",
		Usage:       "judge an enclave's attestation evidence",
		Subcommands: []*urfave.Command{evidenceVerifyCommand()},
	}
}

// minimumUVMSVN is the lowest version of the utility VM that counts as one of
// production; the specification's check has the same floor.
const minimumUVMSVN = 100

func evidenceVerifyCommand() *urfave.Command {
	file := func(name, usage string) *urfave.StringFlag { return &urfave.StringFlag{Name: name, Usage: usage} }
	return &urfave.Command{
		Name:  "verify",
		Usage: "check evidence offline, from files, and print every check",
		Description: "Nothing is fetched. Evidence that is not given makes its checks fail, so all of\n" +
			"it is needed for exit code 0; anything that does not hold gives code 5.\n\n" +
			"JSON: platform, accepted, checks (each: name, expected, actual, ok).",
		Flags: []urfave.Flag{
			file("report", "the attestation report, `FILE` of 1184 bytes"),
			file("hcl", "of a confidential VM, in place of --report: the HCL report, `FILE` as it is in NV index 0x01400001"),
			file("quote", "with --hcl: the TPM's quote, `FILE` (JSON: message, signature, pcrs); the runtime data is what it is about"),
			file("machine-policy", "with --hcl: the measurements and PCRs that are good enough, `FILE` (JSON: measurements, pcrs)"),
			file("host-certs", "the processor's certificates, `FILE`: THIM's JSON, plain or in base64, or a PEM chain"),
			file("uvm", "the utility VM's endorsement, `FILE` (COSE)"),
			file("policy", "the container policy's text, `FILE`: HOST_DATA must be its SHA-256"),
			file("runtime-data", "what the report is about, `FILE`: REPORT_DATA must be its SHA-256"),
			&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of the utility VM that is good enough", Value: minimumUVMSVN},
			file("uvm-ledger", "the key of the transparency service that holds the endorsement, `FILE` (PEM); for hash envelopes"),
			file("platform", "whose evidence it is: `amd`, or simulated:GUESTDIR for a guest of cloister local"),
			jsonFlag(),
		},
		Action: action(runEvidenceVerify),
	}
}

// judgement is what verify reports.
type judgement struct {
	Platform string     `json:"platform"`
	Accepted bool       `json:"accepted"`
	Checks   snp.Checks `json:"checks"`
}

func runEvidenceVerify(c *urfave.Context, _ []string) error {
	shown, want, err := readEvidence(c)
	if err != nil {
		return err
	}
	res, err := snp.Verify(&shown, want)
	j := judgement{Platform: res.Platform, Accepted: err == nil, Checks: res.Checks}
	if perr := printResult(c, j, func(stdout, _ io.Writer) { printChecks(stdout, res.Checks) }); perr != nil {
		return perr
	}
	return err
}

func printChecks(w io.Writer, checks snp.Checks) {
	for _, check := range checks {
		mark := "ok  "
		if !check.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(w, "%s %s: expected %s, got %s\n", mark, check.Name, cli.Printable(check.Expected), cli.Printable(check.Actual))
	}
}

// readEvidence reads what the flags name. A flag that is not given leaves its
// expectation unstated, which refuses.
func readEvidence(c *urfave.Context) (e snp.Evidence, want snp.Expectations, err error) {
	read := func(flag string) (data []byte, given bool) {
		if err == nil && c.String(flag) != "" {
			data, err = readEvidenceFile(flag, c.String(flag))
			given = err == nil
		}
		return data, given
	}
	want = snp.Expectations{SMT: snp.SMTAllowed, MinTCB: snp.BaseFloors(), MinUVMSVN: c.Uint64("min-svn")}
	e.Report, _ = read("report")
	e.UVM, _ = read("uvm")
	if hcl, given := read("hcl"); given {
		err = readVM(hcl, read, &e, &want)
	}
	if policy, given := read("policy"); given {
		e.Policy = policy
		host := e.SecurityContext.HostData()
		want.HostData = host[:]
	}
	if data, given := read("runtime-data"); given {
		about := snp.RuntimeReportData(data)
		want.ReportData = about[:]
	}
	if certs, given := read("host-certs"); given {
		if e.HostCerts, err = snp.ParseHostCerts(certs); err != nil {
			err = fmt.Errorf("reading %s: %w", c.String("host-certs"), err)
		}
	}
	if err == nil {
		want.Anchors, err = anchorsOf(c.String("platform"))
	}
	if key, given := read("uvm-ledger"); given {
		want.Anchors.UVMLedgers, err = ledgerKeys(key)
	}
	return e, want, err
}

// readVM adds what a confidential VM shows. Its HOST_DATA must be zero; a quote
// or a machine policy that is not given leaves checks that fail.
func readVM(raw []byte, read func(flag string) ([]byte, bool), e *snp.Evidence, want *snp.Expectations) error {
	hcl, err := snp.ParseHCL(raw)
	if err != nil {
		return err
	}
	e.Report, e.Quote, want.VM, want.HostData = hcl.Report, &snp.Quote{}, &snp.VMExpectations{}, make([]byte, 32)
	if quote, given := read("quote"); given {
		if e.Quote, err = snp.ParseQuote(quote); err != nil {
			return err
		}
	}
	e.Quote.Claims = hcl.Claims
	if policy, given := read("machine-policy"); given {
		want.VM, err = snp.ParseVMPolicy(policy)
	}
	return err
}

func ledgerKeys(text []byte) ([]*ecdsa.PublicKey, error) {
	bad := fault.Errorf(fault.Usage, "give its public key, ECDSA on P-384, in PEM", "--uvm-ledger does not hold a transparency service's key")
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, bad
	}
	if key, ok := key.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P384() {
		return []*ecdsa.PublicKey{key}, nil
	}
	return nil, bad
}

// anchorsOf says who is believed: AMD, or by name the simulated platform.
func anchorsOf(platform string) (snp.Anchors, error) {
	if platform == "" {
		platform = "amd"
	}
	judge, err := evidence.Named(platform, minimumUVMSVN)
	return judge.Anchors, err
}

// maxEvidenceFile bounds a file in bytes: a container policy may be the
// longest, and the platform refuses one of more than some hundred KiB.
const maxEvidenceFile = 8 << 20

func readEvidenceFile(flag, path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "", "reading --%s: %w", flag, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading --%s: %w", flag, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEvidenceFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading --%s: %w", flag, err)
	}
	if len(data) > maxEvidenceFile {
		return nil, fault.Errorf(fault.Refused, "", "--%s %s has more than the %d bytes allowed", flag, path, maxEvidenceFile)
	}
	return data, nil
}
