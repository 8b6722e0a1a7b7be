package cce

import (
	"cmp"
	"strconv"
)

// Infrastructure is the platform's part of a policy: containers and a fragment
// of its vendor's. The zero value stands for what is known here.
type Infrastructure struct {
	// PauseLayers are the root hashes of the platform's pause image, lowest first.
	PauseLayers []string
	// FragmentSVN is the lowest security version of the vendor's fragment that is
	// accepted.
	FragmentSVN uint32
}

// The fragment that lists the platform's own containers, signed by its vendor.
const (
	fragmentFeed   = "mcr.microsoft.com/aci/aci-cc-infra-fragment"
	fragmentIssuer = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3"
	fragmentSVN    = 4 // what the platform's own tool asks for
)

// pauseLayer is the root hash of the one layer of the platform's pause image.
const pauseLayer = "16b514057a06ad665f92c02863aca074fd5976c755d26bff16365299169e8415"

func (i Infrastructure) fragment() Fragment {
	svn := cmp.Or(i.FragmentSVN, fragmentSVN)
	return Fragment{Feed: fragmentFeed, Includes: []string{"containers", "fragments"}, Issuer: fragmentIssuer, MinimumSVN: strconv.FormatUint(uint64(svn), 10)}
}

func (i Infrastructure) pauseContainer() Container {
	layers := i.PauseLayers
	if layers == nil {
		layers = []string{pauseLayer}
	}
	some := defaultCapabilities[:]
	return container(Container{
		Capabilities: &Capabilities{Ambient: []string{}, Bounding: some, Effective: some, Inheritable: []string{}, Permitted: some},
		Command:      []string{"/pause"},
		EnvRules: []EnvRule{
			{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", true, MatchText},
			{"TERM=xterm", false, MatchText},
		},
		ID: "pause", Layers: layers, Name: "pause-container",
		User: User{Groups: anyone, Umask: umask, User: IDName{Strategy: matchAny}},
	})
}

// defaultCapabilities are those of an unprivileged container in containerd.
var defaultCapabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}
