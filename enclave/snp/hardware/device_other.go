//go:build !linux

package hardware

import (
	"context"

	"cloister/internal/fault"
)

// GuestReport fails: the guest driver is Linux's.
func (Platform) GuestReport(context.Context, [64]byte) ([]byte, error) {
	return nil, fault.Errorf(fault.Unavailable, "run in an AMD SEV-SNP guest under Linux", "this system has no SEV-SNP guest device")
}
