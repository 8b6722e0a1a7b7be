package hardware

import (
	"context"
	"fmt"

	"github.com/google/go-sev-guest/client"

	"cloister/internal/fault"
)

// device is the guest driver's, since Linux 5.19.
const device = "/dev/sev-guest"

// GuestReport asks the processor for a report at VMPL 0. The ioctl cannot be
// interrupted; the context is looked at before it.
//
// Each report opens the device anew: the library's device value waits 2 s
// between its own commands, on top of the kernel's own rate limit.
func (Platform) GuestReport(ctx context.Context, reportData [64]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var d client.LinuxDevice
	if err := d.Open(device); err != nil {
		return nil, fault.Errorf(fault.Unavailable, "run in an AMD SEV-SNP guest and give the container "+device, "%w", err)
	}
	defer d.Close()
	raw, err := client.GetRawReport(&d, reportData)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", device, err)
	}
	return raw, nil
}
