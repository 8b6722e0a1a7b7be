package spec

import (
	"fmt"
	"slices"
	"strings"
)

// reserved are the directories a volume cannot be mounted on, above or below:
// the system, the platform and the runtime have their own there.
var reserved = [...]string{
	"/bin", "/boot", "/cloister", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/security-context", "/sys", "/usr",
}

// checkMounts refuses a mount that hides another, or that hides or lies in
// what the platform and the runtime need.
func checkMounts(c *checks, volumes []placed) {
	for i, v := range volumes {
		at := v.at + ".mount"
		if !c.absolute(at, v.Mount) {
			continue
		}
		if slices.ContainsFunc(reserved[:], func(dir string) bool { return overlap(v.Mount, dir) }) {
			c.add(at, fmt.Sprintf("%q is a reserved path", v.Mount), "mount it elsewhere, for example under /mnt")
		}
		for _, other := range volumes[:i] {
			if overlap(v.Mount, other.Mount) {
				c.add(at, fmt.Sprintf("%q overlaps %s %q", v.Mount, other.at+".mount", other.Mount), "give each volume a directory of its own")
			}
		}
	}
}

// overlap reports whether one of two clean absolute paths is the other or
// lies in it.
func overlap(a, b string) bool {
	a, b = strings.TrimSuffix(a, "/")+"/", strings.TrimSuffix(b, "/")+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// placed is a volume with its path in the document.
type placed struct {
	at string
	Source
}

func (s Specification) volumes() []placed {
	var all []placed
	for i, v := range s.Code {
		all = append(all, placed{fmt.Sprintf("code[%d]", i), v})
	}
	for i, v := range s.DataSources {
		all = append(all, placed{fmt.Sprintf("datasources[%d]", i), v})
	}
	for i, v := range s.DataSinks {
		all = append(all, placed{fmt.Sprintf("datasinks[%d]", i), v.Source()})
	}
	return all
}

func (s Specification) checkVolumes(c *checks) {
	c.count("code", len(s.Code))
	c.count("datasources", len(s.DataSources))
	c.count("datasinks", len(s.DataSinks))
	all := s.volumes()
	names, ids := c.unique("a volume of this name"), c.unique("this volume")
	for _, v := range all {
		c.name(v.at+".name", v.Name)
		names(v.at+".name", v.Name)
		s.checkVolume(c, v)
		ids(v.at+".volume", v.Volume)
	}
	checkMounts(c, all)
	for i, sink := range s.DataSinks {
		at := fmt.Sprintf("datasinks[%d]", i)
		s.checkRecipients(c, at+".recipients", sink.Recipients)
		c.optional(at+".publish", sink.Publish, PublishAsWritten, PublishAtEndPadded)
	}
}

func (s Specification) checkVolume(c *checks, v placed) {
	if _, ok := s.Party(v.Party); !ok {
		c.add(v.at+".party", fmt.Sprintf("%q is not among the parties", v.Party), "add the party first, or correct the name")
	}
	c.hex(v.at+".volume", v.Volume, 16, "a volume id")
	if s.Kind == Simulated && strings.HasPrefix(v.Store, "/") {
		c.absolute(v.at+".store", v.Store)
	} else {
		c.url(v.at+".store", v.Store, anyPath)
	}
	c.keyName(v.at+".key.kek", v.Key.KEK)
	c.url(v.at+".key.vault", v.Key.Vault, noPath)
	c.secretURL(v.at+".key.secret", v.Key.Secret)
	switch {
	case v.Identity != "":
		s.checkIdentityName(c, v.at+".identity", v.Identity)
	case len(s.Identities) > 1:
		c.missing(v.at+".identity", fmt.Sprintf("there are %d identities to choose from", len(s.Identities)), "name the one to use")
	}
	c.optional(v.at+".fetch", v.Fetch, FetchOnDemand, FetchWhole)
}

func (s Specification) checkIdentityName(c *checks, at, name string) {
	if !slices.ContainsFunc(s.Identities, func(id Identity) bool { return id.Name == name }) {
		c.add(at, fmt.Sprintf("%q is not among the identities", name), "add the identity first, or correct the name")
	}
}

func (s Specification) checkRecipients(c *checks, at string, recipients []string) {
	c.count(at, len(recipients))
	twice := c.unique("this recipient")
	for i, name := range recipients {
		at := fmt.Sprintf("%s[%d]", at, i)
		twice(at, name)
		party, ok := s.Party(name)
		switch {
		case !ok:
			c.add(at, fmt.Sprintf("%q is not among the parties", name), "add the party first, or correct the name")
		case party.RecipientKey == "":
			c.add(at, fmt.Sprintf("party %q has no recipientKey", name), "add the key that results are sealed for to the party")
		}
	}
}
