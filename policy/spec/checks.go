package spec

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checks collects problems.
type checks struct{ problems Problems }

func (c *checks) add(at, reason, remedy string) {
	c.problems = append(c.problems, Problem{Path: at, Reason: reason, Remedy: remedy})
}

func (c *checks) missing(at, reason, remedy string) {
	c.problems = append(c.problems, Problem{Path: at, Reason: reason, Remedy: remedy, Missing: true})
}

func (c *checks) count(at string, n int) {
	if n > maxItems {
		c.add(at, fmt.Sprintf("has %d entries", n), fmt.Sprintf("at most %d are allowed", maxItems))
	}
}

// unique returns a check that each non-empty text comes once.
func (c *checks) unique(what string) func(at, s string) {
	seen := map[string]string{}
	return func(at, s string) {
		first, twice := seen[s]
		switch {
		case s == "":
		case twice:
			c.add(at, fmt.Sprintf("%.80q: there is already %s (%s)", s, what, first), "change or take out one of them")
		default:
			seen[s] = at
		}
	}
}

func (c *checks) oneOf(at, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		c.add(at, fmt.Sprintf("%.80q is not known", s), "use "+strings.Join(allowed, ", "))
	}
}

// optional is oneOf for a field that may be empty.
func (c *checks) optional(at, s string, allowed ...string) {
	if s != "" {
		c.oneOf(at, s, allowed...)
	}
}

func (c *checks) port(at string, port uint32) {
	if port < 1 || port > 65535 {
		c.add(at, fmt.Sprintf("%d is not a port", port), "use 1 to 65535")
	}
}

var (
	namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	// A vault's own rule for names of keys and secrets.
	vaultName       = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	uuidPattern     = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	digestPattern   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	hexPattern      = regexp.MustCompile(`^[0-9a-f]*$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	// A DNS label (RFC 1123): what Kubernetes and ACI call a container or a group.
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// A host's name; its last label begins with a letter, as all do, so that no
	// resolver takes it for an address in another spelling (2130706433, 0x7f.1).
	hostPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// Resources of Azure, as its portal and tools write their ids.
	identityResource = regexp.MustCompile(`^/subscriptions/[0-9a-f-]{36}/resourceGroups/[0-9A-Za-z_().-]{1,90}/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[0-9A-Za-z_-]{3,128}$`)
	subnetResource   = regexp.MustCompile(`^/subscriptions/[0-9a-f-]{36}/resourceGroups/[0-9A-Za-z_().-]{1,90}/providers/Microsoft\.Network/virtualNetworks/[0-9A-Za-z_.-]{2,64}/subnets/[0-9A-Za-z_.-]{1,80}$`)
	filePattern      = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]*(/[0-9A-Za-z_][0-9A-Za-z_.-]*)*$`)
	// Registry, path, digest: the form of the OCI distribution specification
	// with a digest; a tag beside it is only decoration and is refused.
	imagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}$`)
)

func (c *checks) name(at, s string) {
	if !namePattern.MatchString(s) {
		c.add(at, fmt.Sprintf("%.80q is not a name", s), "use 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit")
	}
}

func (c *checks) keyName(at, s string) {
	if !vaultName.MatchString(s) {
		c.add(at, fmt.Sprintf("%.80q is not a key's name", s), "use 1 to 127 letters, digits and hyphens, without the vault's address")
	}
}

func (c *checks) uuid(at, s string) {
	if !uuidPattern.MatchString(s) {
		c.add(at, fmt.Sprintf("%.80q is not a UUID", s), "write it in lower case with hyphens")
	}
}

func (c *checks) digest(at, s string) {
	if !digestPattern.MatchString(s) {
		c.add(at, fmt.Sprintf("%.80q is not a digest", s), "write sha256: and 64 hexadecimal digits in lower case")
	}
}

func (c *checks) hex(at, s string, bytes int, what string) {
	if len(s) != 2*bytes || !hexPattern.MatchString(s) {
		c.add(at, fmt.Sprintf("%.80q is not %s", s, what), fmt.Sprintf("write %d hexadecimal digits in lower case", 2*bytes))
	}
}

func (c *checks) imageReference(at, s string) {
	if !imagePattern.MatchString(s) {
		c.add(at, fmt.Sprintf("%.200q does not name an image by digest", s), "write REGISTRY/REPOSITORY@sha256:…, without a tag")
	}
}

// text holds a string to what has one JSON encoding everywhere and cannot act
// on a terminal: UTF-8 without control characters and line separators.
func (c *checks) text(at, s string) {
	bad := func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
	}
	if len(s) > maxText || strings.ContainsFunc(s, bad) {
		c.add(at, "is too long or has control characters", fmt.Sprintf("use at most %d bytes of plain text", maxText))
	}
}

func (c *checks) environment(at string, env map[string]string) {
	c.count(at, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		at := at + "." + name
		if !variablePattern.MatchString(name) {
			c.add(at, fmt.Sprintf("%.80q is not a variable's name", name), "use letters, digits and _")
		}
		if strings.HasPrefix(name, "CLOISTER_") {
			c.add(at, "variables that begin with CLOISTER_ are the runtime's", "use another name")
		}
		c.publicText(at, env[name])
		c.publicVariable(at, name, env[name])
	}
}

func (c *checks) resource(at, s string, form *regexp.Regexp, what string) {
	if !form.MatchString(s) {
		c.add(at, fmt.Sprintf("%.200q is not the resource id of %s", s, what), "copy the id as Azure shows it, beginning with /subscriptions/")
	}
}

func (c *checks) policyFile(at string, p PolicyFile) {
	if !filePattern.MatchString(p.File) || len(p.File) > maxText {
		c.add(at+".file", fmt.Sprintf("%.80q is not a file beside the specification", p.File), "write its path from the specification's directory, without . or ..")
	}
	c.digest(at+".digest", p.Digest)
}

// absolute reports whether s is an absolute path in its shortest form.
func (c *checks) absolute(at, s string) bool {
	c.text(at, s)
	if !path.IsAbs(s) || path.Clean(s) != s {
		c.add(at, fmt.Sprintf("%.200q is not an absolute path in its shortest form", s), "write it like /mnt/data, without . or .. or a last slash")
		return false
	}
	return true
}

// What of a URL is allowed, beside https with a host.
const (
	anyPath = iota // a path; http on loopback
	noPath         // http on loopback
	noHTTP         // neither
)

// url returns the parsed address when it is one that may be named here. A query
// is never allowed: that is where signatures and other secrets are put.
func (c *checks) url(at, s string, form int) *url.URL {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		c.add(at, "is not an https address", "write https://HOST/…")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		c.add(at, "has a user, query or fragment", "leave credentials and signatures out: the specification is not secret")
	case u.Scheme == "http" && (form == noHTTP || !isLoopback(u)):
		c.add(at, fmt.Sprintf("%.200q is not https", s), "use https; http is for a store or vault on loopback")
	case form != anyPath && strings.Trim(u.Path, "/") != "":
		c.add(at, fmt.Sprintf("%.200q has a path", s), "give scheme and host only")
	case len(s) > maxText:
		c.add(at, "is too long", "")
	default:
		c.text(at, s)
		return u
	}
	return nil
}

func (c *checks) secretURL(at, s string) {
	u := c.url(at, s, anyPath)
	if u == nil {
		return
	}
	name, ok := strings.CutPrefix(u.Path, "/secrets/")
	if !ok || !vaultName.MatchString(name) {
		c.add(at, fmt.Sprintf("%.200q does not name a secret", s), "write https://VAULT/secrets/NAME, without a version")
	}
}

func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
