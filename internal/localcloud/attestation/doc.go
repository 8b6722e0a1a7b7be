// Package attestation emulates Microsoft Azure Attestation for SEV-SNP guests of
// the simulated platform, and for no others.
//
// Life of a request: POST /attest/SevSnpVm (or, of a confidential VM with a TPM,
// /attest/AzureGuest, guest.go) carries a report, its certificates
// and the utility VM's endorsement; evidence.go takes the layers of base64 and
// JSON apart; verify.go checks the signature and chain against the simulated
// root alone, the endorsement against the simulated issuer alone, and that
// REPORT_DATA binds the runtime data; claims.go states what the report says, bad
// or good, because judging is the release policy's part; the answer is an RS256
// token whose key GET /certs publishes.
//
// Where the service's public documentation is silent, as on the texts of its
// errors, the code says so.
package attestation
