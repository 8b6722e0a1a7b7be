package main

import (
	"encoding/base64"
	"encoding/pem"
	"os"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep/tree"
)

// brokerOf reads URL[,resource=R][,kek=R][,ca=FILE].
func brokerOf(text string, of spec.Source) (*spec.Broker, error) {
	url, rest, more := strings.Cut(text, ",")
	b := &spec.Broker{URL: url, Resource: of.Party + "/wrapped-dek/" + of.Name, KEK: of.Party + "/kek/" + of.Name}
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(option, "=")
		var err error
		switch name {
		case "resource":
			b.Resource = value
		case "kek":
			b.KEK = value
		case "ca":
			b.CA, err = certificate("the broker", value)
		default:
			err = fault.Errorf(fault.Usage, "write --broker URL[,resource=R][,kek=R][,ca=FILE]", "--broker has no %.80q", option)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// certificate is the inside of a PEM file with one certificate.
func certificate(whose, path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", tree.Explain("reading the certificate of "+whose, path, err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return "", fault.Errorf(fault.Usage, "give the one certificate that that of "+whose+" ends at", "%s is not a PEM file with one CERTIFICATE", path)
	}
	return base64.StdEncoding.EncodeToString(block.Bytes), nil
}
