package spec

import (
	"regexp"
	"strings"
)

// secretForms are what credentials look like, wherever they stand. Their
// remedies never repeat them: a specification is printed, logged and sent
// around.
var secretForms = [...]struct {
	what string
	form *regexp.Regexp
}{
	{"a private key", regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY|AGE-SECRET-KEY-1`)},
	{"a shared access signature", regexp.MustCompile(`(?i)(^|[?&;\s"'])(sig|sharedaccesssignature)=[A-Za-z0-9%+/_ =-]{16,}|SharedAccessSignature sr=`)},
	{"a connection string with its key", regexp.MustCompile(`(?i)(account|sharedaccess|access)key=[A-Za-z0-9+/=]{16,}`)},
	{"a password in a URL", regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^/@\s"']*:[^/@\s"']+@`)},
	{"a password in a connection string", regexp.MustCompile(`(?i)(^|[;\s])(password|pwd)=[^;\s]+`)},
	{"a signed token", regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)},
	{"a service's access token", regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}|\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}`)},
	// 32 and 64 bytes in base64 and nothing else: a symmetric key, or the key of
	// a storage account. Public keys have other lengths.
	{"a key", regexp.MustCompile(`^([A-Za-z0-9+/_-]{43}=|[A-Za-z0-9+/_-]{86}==)$`)},
}

// secretIn says what kind of credential a text looks like, or "".
func secretIn(s string) string {
	_, value, _ := strings.Cut(s, "=") // --flag=VALUE
	for _, f := range secretForms {
		if f.form.MatchString(s) || f.form.MatchString(value) {
			return f.what
		}
	}
	return ""
}

// publicText is text for a field in which people put what they should not.
func (c *checks) publicText(at, s string) {
	c.text(at, s)
	if what := secretIn(s); what != "" {
		c.add(at, "looks like "+what, "take it out and replace it at its issuer: everybody may read a specification; put it in a code volume")
	}
}

// secretName are variables that hold credentials by their name. The name of a
// file or address is none.
var (
	secretName  = regexp.MustCompile(`(?i)(^|_)(password|passwd|passphrase|pwd|secret|token|credentials?|api_?key|(access|private|secret|account|encryption|shared)_?key)$`)
	secretPlace = regexp.MustCompile(`^(/|[a-z][a-z0-9+.-]*://)`)
)

func (c *checks) publicVariable(at, name, value string) {
	if value != "" && secretName.MatchString(name) && !secretPlace.MatchString(value) && secretIn(value) == "" {
		c.add(at, "looks like a credential by its name", "put it into a file of a code volume and give the file's path here")
	}
}
