package snp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"cloister/internal/fault"
)

// The files of a security context directory, as Azure's container platform
// names them.
const (
	policyFile    = "security-policy-base64"
	hostCertsFile = "host-amd-cert-base64"
	uvmFile       = "reference-info-base64"
)

// maxContextFile bounds each of them in bytes. A policy of hundreds of
// containers stays below one MiB.
const maxContextFile = 8 << 20

// ReadSecurityContext reads a security context directory. The certificates may
// be missing: a Platform can fetch them.
func ReadSecurityContext(dir string) (SecurityContext, error) {
	policy, err := readBase64(filepath.Join(dir, policyFile))
	if err != nil {
		return SecurityContext{}, err
	}
	certs, err := readBase64(filepath.Join(dir, hostCertsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return SecurityContext{}, err
	}
	uvm, err := readBase64(filepath.Join(dir, uvmFile))
	if err != nil {
		return SecurityContext{}, err
	}
	sc := SecurityContext{Policy: policy, UVM: uvm}
	if certs == nil {
		return sc, nil
	}
	if sc.HostCerts, err = ParseHostCerts(certs); err != nil {
		return SecurityContext{}, fmt.Errorf("reading %s: %w", hostCertsFile, err)
	}
	return sc, nil
}

func readBase64(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "the container platform provides it to confidential containers only",
			"reading the security context: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxContextFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(text) > maxContextFile {
		return nil, fault.Errorf(fault.Refused, "", "%s has more than the %d bytes allowed", path, maxContextFile)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "", "%s is not base64: %w", path, err)
	}
	return raw, nil
}
