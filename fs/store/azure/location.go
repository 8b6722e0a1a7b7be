package azure

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// suffixes are the hosts of Azure's blob service: the public cloud, its DNS
// zone endpoints, and the sovereign clouds of the US government and of China.
// An identity's token is sent to these and to loopback, nowhere else.
var suffixes = []string{
	".blob.core.windows.net",
	".blob.storage.azure.net",
	".blob.core.usgovcloudapi.net",
	".blob.core.chinacloudapi.cn",
}

const form = "name a volume as https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX, or for Azurite http://127.0.0.1:PORT/ACCOUNT/CONTAINER/PREFIX"

// location is a volume's blob URL, taken apart.
type location struct {
	endpoint  string // https://account.host, or http://127.0.0.1:port/account
	host      string // without the port
	container string
	prefix    string // "" or an object's name
	sas       sasToken
	loopback  bool
}

// String returns the URL without its query.
func (l location) String() string {
	return strings.TrimSuffix(l.endpoint+"/"+l.container+"/"+l.prefix, "/")
}

// isAzure reports whether the host is Azure's own.
func (l location) isAzure() bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(l.host, s) })
}

// parseLocation takes a blob URL apart. Its errors never show the query, which
// may be a credential.
func parseLocation(raw string) (location, error) {
	shown, _, _ := strings.Cut(raw, "?")
	refuse := func(why string) (location, error) {
		return location{}, fault.Errorf(fault.Usage, form, "volume %s: %s", shown, why)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return refuse("it is not a URL")
	}
	if u.User != nil {
		shown = "URL"
		return refuse("it holds a user name or a password")
	}
	if u.Host == "" || u.Hostname() == "" {
		return refuse("it names no host")
	}
	if u.Fragment != "" || u.RawPath != "" || strings.Contains(u.Host, "%") {
		return refuse("it holds characters that no volume's name has")
	}
	l := location{host: strings.ToLower(u.Hostname()), loopback: isLoopback(u.Hostname())}
	if u.Scheme != "https" && !(u.Scheme == "http" && l.loopback) {
		return refuse("it must be https: http is for a loopback address only")
	}
	l.endpoint = u.Scheme + "://" + strings.ToLower(u.Host)
	if l.sas, err = parseSAS(u.RawQuery); err != nil {
		return refuse(err.Error())
	}
	return l.splitPath(u.Path, refuse)
}

// splitPath takes the container and the prefix from the path; on a loopback
// address the account comes first.
func (l location) splitPath(path string, refuse func(string) (location, error)) (location, error) {
	path = strings.Trim(path, "/")
	if l.loopback {
		account, rest, _ := strings.Cut(path, "/")
		if !object.Valid(account) {
			return refuse("it names no account")
		}
		l.endpoint, path = l.endpoint+"/"+account, rest
	}
	l.container, l.prefix, _ = strings.Cut(path, "/")
	if !validContainer(l.container) {
		return refuse("it names no container: 3 to 63 lower-case letters, digits and single dashes")
	}
	if l.prefix != "" && !object.Valid(l.prefix) {
		return refuse("the prefix must be of letters, digits, dots, dashes and underscores between slashes")
	}
	return l, nil
}

// validContainer follows
// https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
func validContainer(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Contains(name, "--") || strings.Trim(name, "-") != name {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
