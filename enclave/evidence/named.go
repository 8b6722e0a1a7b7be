//go:build !production

package evidence

import (
	"strings"

	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/internal/fault"
)

// Named returns the judge of a platform: "amd", confidential containers on AMD's
// processors, or "simulated:DIR", what `cloister local` plays, which says so in
// DIR, of a guest or of the cloud.
func Named(platform string, minUVMSVN uint64) (Judge, error) {
	j := Judge{Platform: "sev-snp", MinUVMSVN: minUVMSVN}
	var err error
	if dir, played := strings.CutPrefix(platform, simulated.Name+":"); played {
		j.Platform = simulated.Name + "-" + j.Platform
		j.Anchors, err = simulated.New(dir).Anchors()
	} else if platform == "amd" {
		j.Anchors, err = snp.AMD()
	} else {
		err = fault.Errorf(fault.Usage, "--platform amd, or simulated:DIR", "there is no platform %.80q", platform)
	}
	return j, err
}
