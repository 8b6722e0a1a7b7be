package attestation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"

	"cloister/internal/localcloud/wire"

	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
)

// policy stands for the attestation policy whose hash the token carries: the
// service's own for this kind of evidence.
const policy = "version=1.0; authorizationrules {=> permit();}; issuancerules {}; // simulated"

// reportClaims are the claims that state what the verified evidence says, flat,
// with the names and JSON types that the service gives them for a container
// group. guestsvn is the report's own field, not the endorsement's.
func reportClaims(e *evidence) map[string]any {
	claims := hardwareClaims(e.report, "azure-compliant-uvm")
	maps.Copy(claims, commonClaims())
	if e.runtime != nil {
		claims["x-ms-runtime"] = e.runtime
	}
	if len(e.nonce) > 0 {
		claims["nonce"] = e.nonce
	}
	return claims
}

// commonClaims are in every token.
func commonClaims() map[string]any {
	policyHash := sha256.Sum256([]byte(policy))
	return map[string]any{
		wire.SimulatedClaim: "true",
		"x-ms-policy-hash":  base64.RawURLEncoding.EncodeToString(policyHash[:]),
		"x-ms-ver":          "1.0",
	}
}

// hardwareClaims are about the processor's report: flat for a container, nested
// for a confidential VM.
func hardwareClaims(r *spb.Report, compliance string) map[string]any {
	tcb := kds.DecomposeTCBVersion(kds.TCBVersion(r.ReportedTcb))
	return map[string]any{
		"x-ms-attestation-type":  "sevsnpvm",
		"x-ms-compliance-status": compliance,

		"x-ms-sevsnpvm-hostdata":          hex.EncodeToString(r.HostData),
		"x-ms-sevsnpvm-reportdata":        hex.EncodeToString(r.ReportData),
		"x-ms-sevsnpvm-launchmeasurement": hex.EncodeToString(r.Measurement),
		"x-ms-sevsnpvm-authorkeydigest":   hex.EncodeToString(r.AuthorKeyDigest),
		"x-ms-sevsnpvm-idkeydigest":       hex.EncodeToString(r.IdKeyDigest),
		"x-ms-sevsnpvm-familyId":          hex.EncodeToString(r.FamilyId),
		"x-ms-sevsnpvm-imageId":           hex.EncodeToString(r.ImageId),
		"x-ms-sevsnpvm-reportid":          hex.EncodeToString(r.ReportId),

		"x-ms-sevsnpvm-vmpl":           r.Vmpl,
		"x-ms-sevsnpvm-guestsvn":       r.GuestSvn,
		"x-ms-sevsnpvm-bootloader-svn": tcb.BlSpl,
		"x-ms-sevsnpvm-tee-svn":        tcb.TeeSpl,
		"x-ms-sevsnpvm-snpfw-svn":      tcb.SnpSpl,
		"x-ms-sevsnpvm-microcode-svn":  tcb.UcodeSpl,

		"x-ms-sevsnpvm-is-debuggable":     r.Policy&(1<<19) != 0,
		"x-ms-sevsnpvm-migration-allowed": r.Policy&(1<<18) != 0,
		"x-ms-sevsnpvm-smt-allowed":       r.Policy&(1<<16) != 0,
	}
}
