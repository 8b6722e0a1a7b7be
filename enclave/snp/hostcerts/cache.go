package hostcerts

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cloister/enclave/snp"
)

// maxCached bounds a file of the cache in bytes; a VCEK has 1.3 KiB.
const maxCached = 16 << 10

// path names the certificate of one chip at one TCB.
func (s Source) path(r *snp.Report) string {
	return filepath.Join(s.Cache, fmt.Sprintf("vcek-%s-%016x.der", hex.EncodeToString(r.ChipID[:]), r.ReportedVersion()))
}

func (s Source) fromCache(_ context.Context, r *snp.Report, _ snp.HostCerts) (snp.HostCerts, error) {
	if s.Cache == "" {
		return snp.HostCerts{}, errors.New("there is none")
	}
	info, err := os.Stat(s.path(r))
	if err != nil {
		return snp.HostCerts{}, err
	}
	if info.Size() > maxCached {
		return snp.HostCerts{}, fmt.Errorf("%s has more than the %d bytes allowed", s.path(r), maxCached)
	}
	der, err := os.ReadFile(s.path(r))
	if err != nil {
		return snp.HostCerts{}, err
	}
	return chainOf(der)
}

// keep writes a certificate for the next start. A cache that cannot be written
// costs that start a request and nothing else, so it is no error.
func (s Source) keep(r *snp.Report, der []byte) {
	if s.Cache == "" || os.MkdirAll(s.Cache, 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(s.Cache, ".vcek-*")
	if err != nil {
		return
	}
	_, err = f.Write(der)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), s.path(r)) != nil {
		os.Remove(f.Name()) //nolint:errcheck // nothing more can be done
	}
}
