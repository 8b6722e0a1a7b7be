package cce

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// PoliciesVariable is the variable in which the host hands the runtime the Rego
// files that the specification pins: in base64 a JSON object, of each file's text
// by its path. Of nothing in it is use made before it has the digest that the
// specification pins.
const PoliciesVariable = "CLOISTER_POLICIES"

// maxPolicies bounds the variable's value in bytes: 48 KiB of texts, in base64.
// Linux takes 128 KiB for one variable (MAX_ARG_STRLEN, execve(2)). Kubernetes
// takes 256 KiB for all annotations of an object (TotalAnnotationSizeLimitB), among
// which kubectl apply writes the whole manifest, and so the container policy twice.
// Azure's Resource Manager takes 1 MB for a resource, and 4 MB for a template with
// all its copies.
const maxPolicies = 64 << 10

// PoliciesValue returns the variable's value, the same for the same files: "" where
// the specification pins none. Files are by their paths in the specification; one
// that is missing or has another digest is refused.
func PoliciesValue(s spec.Specification, files map[string][]byte) (string, error) {
	texts := map[string]string{}
	for _, pinned := range s.Policies() {
		text, ok := files[pinned.File]
		if !ok {
			return "", fault.Errorf(fault.NotFound, "get the file that the parties agreed on", "policy %s is not there", pinned.File)
		}
		if err := pinned.Check(text); err != nil {
			return "", err
		}
		if !utf8.Valid(text) {
			return "", fault.Errorf(fault.Refused, "agree on a file of Rego", "policy %s is no text in UTF-8", pinned.File)
		}
		texts[pinned.File] = string(text)
	}
	if len(texts) == 0 {
		return "", nil
	}
	value := base64.StdEncoding.EncodeToString(encode(texts))
	if len(value) > maxPolicies {
		return "", fault.Errorf(fault.Refused, "agree on shorter ones; their comments count too",
			"the policies that the specification pins have %d bytes in base64, more than the %d that a deployment carries", len(value), maxPolicies)
	}
	return value, nil
}

// ReadPolicies returns the texts in a variable's value, by file. They are the
// host's word.
func ReadPolicies(value string) (map[string]string, error) {
	raw, err := base64.StdEncoding.DecodeString(value)
	var texts map[string]string
	if err == nil {
		err = json.Unmarshal(raw, &texts)
	}
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "deploy what `cloister deploy template` writes", "%s is not base64 of a JSON object of texts: %w", PoliciesVariable, err)
	}
	return texts, nil
}
