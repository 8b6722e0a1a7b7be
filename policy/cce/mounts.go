package cce

import (
	"path"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// Where the utility VM keeps what it mounts into containers.
const (
	resolvConfSource = "sandbox:///tmp/atlas/resolvconf/.+"
	emptyDirSource   = "sandbox:///tmp/atlas/emptydir/.+"
)

// platformMounts are those that ACI, or the virtual node's agent, makes in every
// container. Of what a pod is given beside them, the account token is
// Kubernetes' and the federated token that of workload identity.
func platformMounts(kind spec.Kind) []Mount {
	if kind != spec.AKS {
		return []Mount{bind("/etc/resolv.conf", resolvConfSource, "rw")}
	}
	return []Mount{
		emptyDir("/etc/resolv.conf", "rw"), emptyDir("/etc/hosts", "rw"), emptyDir("/etc/hostname", "rw"),
		emptyDir("/dev/termination-log", "rw"),
		emptyDir("/var/run/secrets/kubernetes.io/serviceaccount", "ro"), emptyDir(tokenDir, "ro"),
	}
}

func emptyDir(at, mode string) Mount { return bind(at, emptyDirSource, mode) }

// bind has the options that the platform gives every mount; the propagation that
// a template asks for does not change them.
func bind(at, source, mode string) Mount {
	return Mount{Destination: at, Options: []string{"rbind", "rshared", mode}, Source: source, Type: "bind"}
}

// Share returns the directory that runtime and application share in the
// distributed model: the longest above all of the volumes' mount points.
func Share(s spec.Specification) (string, error) {
	share := ""
	for _, mount := range mountPoints(s) {
		dir := path.Dir(mount)
		if share == "" {
			share = dir
		}
		for share != "/" && dir != share && !strings.HasPrefix(dir, share+"/") {
			share = path.Dir(share)
		}
	}
	if share == "" || share == "/" {
		return "", fault.Errorf(fault.Usage, "mount them all below one directory, for example /mnt",
			"model %s shares one directory between runtime and application, and the volumes have none in common", s.Model)
	}
	return share, nil
}

func mountPoints(s spec.Specification) (list []string) {
	for _, v := range s.Code {
		list = append(list, v.Mount)
	}
	for _, v := range s.DataSources {
		list = append(list, v.Mount)
	}
	for _, v := range s.DataSinks {
		list = append(list, v.Mount)
	}
	return list
}
