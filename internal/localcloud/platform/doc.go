// Package platform is a software SEV-SNP processor with the container platform
// around it. It protects nothing: it exists so that code written for the real
// processor can run where there is none, after naming it.
//
// Life of a report: Launch fixes a guest's host data, the SHA-256 of the policy
// text it is started under, and writes the guest's security context directory;
// the guest posts 64 bytes of REPORT_DATA to the socket there; the platform
// fills a report with what the launch fixed, signs it with the VCEK for the
// guest's TCB, and answers 1184 bytes in the processor's own layout. The
// certificates, ARK → ASK → VCEK, imitate AMD's names, because the library that
// verifies them insists on those; the key differs, so AMD's roots refuse them,
// and the subjects' serial number says what they are.
//
// The utility VM's measurement is endorsed in the form the container platform
// uses, under this platform's own issuer.
package platform
