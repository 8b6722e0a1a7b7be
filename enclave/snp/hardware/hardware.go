// Package hardware is the real platform: the processor behind /dev/sev-guest
// and the security context directory of Azure's container platform.
//
// Life of a report: snp.Collect calls GuestReport, which opens the device, has
// the processor sign and closes it, and then Certificates, which package
// hostcerts answers.
package hardware

import (
	"context"
	"os"
	"path/filepath"

	"cloister/enclave/snp"
	"cloister/enclave/snp/hostcerts"
	"cloister/internal/fault"
)

// Platform is an AMD SEV-SNP guest on Azure Container Instances.
type Platform struct{}

// Anchors returns the anchors that evidence of this platform is judged by.
func (Platform) Anchors() (snp.Anchors, error) { return snp.AMD() }

// SecurityContext reads $UVM_SECURITY_CONTEXT_DIR, or the one directory
// /security-context-*.
func (Platform) SecurityContext() (snp.SecurityContext, error) {
	dir, err := contextDir("/")
	if err != nil {
		return snp.SecurityContext{}, err
	}
	return snp.ReadSecurityContext(dir)
}

// certCache keeps what AMD's service gave across restarts of a container whose
// platform mounts something durable there.
const certCache = "/var/cache/cloister/certificates"

// Certificates returns those of the security context where they fit the report,
// and otherwise fetches some that do.
func (Platform) Certificates(ctx context.Context, r *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	return hostcerts.Source{Cache: certCache}.For(ctx, r, given)
}

func contextDir(root string) (string, error) {
	if dir := os.Getenv("UVM_SECURITY_CONTEXT_DIR"); dir != "" {
		return dir, nil
	}
	dirs, err := filepath.Glob(filepath.Join(root, "security-context-*"))
	if err != nil {
		return "", err
	}
	switch len(dirs) {
	case 1:
		return dirs[0], nil
	case 0:
		return "", fault.Errorf(fault.NotFound, "run in a confidential container group (sku Confidential)",
			"there is no security context: UVM_SECURITY_CONTEXT_DIR is not set and %s/security-context-* is not there", root)
	default:
		return "", fault.Errorf(fault.Usage, "set UVM_SECURITY_CONTEXT_DIR", "there are %d security contexts, and one is needed", len(dirs))
	}
}
