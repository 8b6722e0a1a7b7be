package spec

import (
	"fmt"
	"regexp"
)

// plainText is what checks.text admits, in the part of regular expressions that
// every validator shares.
const plainText = "^[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ufffd]*$"

const (
	loopback   = `http://(localhost|127\.[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?`
	anyURL     = `^(https://[^/?#@\s]+|` + loopback + `)(/[^?#\s]*)?$`
	hostURL    = `^(https://[^/?#@\s]+|` + loopback + `)/*$`
	httpsURL   = `^https://[^/?#@\s]+(/[^?#\s]*)?$`
	secretURL  = `^(https://[^/?#@\s]+|` + loopback + `)/secrets/[0-9A-Za-z-]{1,127}$`
	cleanPath  = `^(/|(/[^/]+)+)$`
	base64Key  = `^[A-Za-z0-9+/]+={0,2}$`
	logKeyText = `^[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}$`
)

func pattern(p any) object       { return object{"pattern": fmt.Sprint(p)} }
func is(r *regexp.Regexp) object { return pattern(r) }

func between(low, high int) object { return object{"minimum": low, "maximum": high} }

func oneOfThese(values ...string) object {
	var list []any
	for _, v := range values {
		list = append(list, v)
	}
	return object{"enum": list}
}

func with(rules ...object) object {
	all := object{}
	for _, r := range rules {
		for k, v := range r {
			all[k] = v
		}
	}
	return all
}

var (
	freeText = object{"pattern": plainText, "maxLength": maxText}
	mount    = object{"pattern": cleanPath, "not": pattern(`(^|/)\.\.?(/|$)`)}
	port     = between(1, 65535)
	name     = is(namePattern)
	atLeast1 = object{"minItems": 1}
	notEmpty = object{"minLength": 1}
)

// fieldRules say what a field holds beyond its type; of a list, its entries.
var fieldRules = map[string]object{
	"Specification.APIVersion":     oneOfThese(APIVersion),
	"Specification.Name":           name,
	"Specification.Kind":           oneOfThese(string(ACI), string(AKS), string(CVM), string(Simulated)),
	"Specification.Cloud":          oneOfThese(string(PublicCloud), string(USGovernmentCloud), string(ChinaCloud)),
	"Specification.Model":          oneOfThese(Monolithic, Distributed),
	"Specification.AcceptedRisk":   freeText,
	"Specification.Parties":        atLeast1,
	"Party.Name":                   name,
	"Party.SigningKey":             pattern(base64Key),
	"Party.RecipientKey":           pattern(base64Key),
	"Identity.Name":                name,
	"Identity.ClientID":            is(uuidPattern),
	"Identity.TenantID":            is(uuidPattern),
	"Identity.ResourceID":          is(identityResource),
	"Runtime.Binary":               is(digestPattern),
	"Application.Name":             name,
	"Application.Command":          with(freeText, atLeast1),
	"Application.Environment":      {"propertyNames": object{"pattern": variablePattern.String(), "not": pattern("^CLOISTER_")}},
	"Application.WorkingDir":       mount,
	"Application.Ports":            with(port, object{"uniqueItems": true}),
	"Application.GovernanceAPI":    port,
	"Application.Start":            oneOfThese(StartAuto, StartManual),
	"Application.Restart":          oneOfThese(RestartNever, RestartOnFailure, RestartAlways),
	"Image.Reference":              is(imagePattern),
	"Image.Layers":                 pattern("^[0-9a-f]{64}$"),
	"User.UID":                     {"minimum": 1},
	"User.GID":                     {"minimum": 1},
	"Resources.MilliCPU":           between(minMilliCPU, maxMilliCPU),
	"Resources.MemoryMiB":          between(minMemoryMiB, maxMemoryMiB),
	"Source.Name":                  name,
	"Source.Party":                 name,
	"Source.Volume":                pattern("^[0-9a-f]{32}$"),
	"Source.Store":                 pattern(anyURL + "|" + cleanPath),
	"Source.Mount":                 mount,
	"Source.Identity":              name,
	"Source.Fetch":                 oneOfThese(FetchOnDemand, FetchWhole),
	"Sink.Name":                    name,
	"Sink.Party":                   name,
	"Sink.Volume":                  pattern("^[0-9a-f]{32}$"),
	"Sink.Store":                   pattern(anyURL + "|" + cleanPath),
	"Sink.Mount":                   mount,
	"Sink.Identity":                name,
	"Sink.Recipients":              with(name, object{"uniqueItems": true}),
	"Sink.Publish":                 oneOfThese(PublishAsWritten, PublishAtEndPadded),
	"Key.KEK":                      is(vaultName),
	"Key.Vault":                    pattern(hostURL),
	"Key.Secret":                   pattern(secretURL),
	"Broker.URL":                   pattern(`^https://[^/?#@\s]+/*$`),
	"Broker.Resource":              is(resourcePattern),
	"Broker.KEK":                   is(resourcePattern),
	"Broker.CA":                    pattern(base64Key),
	"Network.Egress":               oneOfThese(EgressClosed, EgressList, EgressPolicy, EgressUnguarded),
	"Network.Proxy":                oneOfThese(ProxySecure, ProxyOpen),
	"Network.Allow":                {"uniqueItems": true},
	"Destination.Port":             port,
	"Destination.Host":             {"minLength": 1, "maxLength": 253, "pattern": `^[a-z0-9.:-]+$`},
	"PolicyFile.File":              is(filePattern),
	"PolicyFile.Digest":            is(digestPattern),
	"Endpoint.Name":                name,
	"Endpoint.Port":                port,
	"Endpoint.ApplicationPort":     port,
	"Endpoint.Protocol":            oneOfThese(ProtocolHTTP, ProtocolGRPC, ProtocolWebSocket, ProtocolTCP),
	"Jobs.Start":                   with(name, object{"uniqueItems": true}),
	"Jobs.Results":                 with(name, object{"uniqueItems": true}),
	"Jobs.MaxResult":               between(0, MaxResults),
	"Jobs.Consent":                 oneOfThese(ConsentRun, ConsentJob),
	"Jobs.Count":                   between(0, MaxJobs),
	"Jobs.AtOnce":                  between(0, MaxJobsAtOnce),
	"Governance.Refused":           oneOfThese(RefusedKept),
	"Governance.Ledger":            pattern(anyURL),
	"Governance.LedgerCA":          pattern(base64Key),
	"Governance.LedgerKey":         pattern(logKeyText),
	"Governance.Witnesses":         with(pattern(logKeyText), object{"uniqueItems": true}),
	"Governance.Threshold":         {"maximum": maxItems},
	"Attestation.Authority":        pattern(httpsURL),
	"Attestation.MinSVN":           between(1, maxMinimum),
	"Attestation.TransparencyKeys": with(pattern(base64Key), object{"uniqueItems": true}),
	"Deployment.Replicas":          {"maximum": MaxReplicas},
	"Deployment.Subnet":            is(subnetResource),
	"Registry.Server":              {"minLength": 1},
	"Registry.Identity":            name,
	"Registry.Secret":              is(labelPattern),
}

// when is a rule for documents in which a field has a value.
func when(field, value string, then, otherwise object) object {
	rule := object{"if": object{"properties": object{field: object{"const": value}}, "required": []string{field}}, "then": then}
	if otherwise != nil {
		rule["else"] = otherwise
	}
	return rule
}

func has(field string, rule object) object {
	return object{"required": []string{field}, "properties": object{field: rule}}
}

func hasNot(field string) object {
	return object{"properties": object{field: object{"enum": []any{nil, "", 0, []any{}}}}}
}

// typeRules are what fields of one mapping demand of each other.
var typeRules = map[string]object{
	"Specification": {"allOf": []any{
		when("kind", string(Simulated),
			object{"required": []string{"runtime"}, "properties": object{"runtime": has("binary", pattern("^sha256:")), "application": hasNot("image"), "cloud": object{"enum": []any{nil, ""}}}},
			when("kind", string(CVM),
				object{"properties": object{"application": hasNot("image")}},
				object{"properties": object{"application": has("image", object{"type": "object"})}})),
		when("kind", string(CVM), object{"properties": object{"attestation": hasNot("minSVN")}},
			object{"properties": object{"attestation": has("minSVN", object{"minimum": 1})}}),
		when("model", Distributed, has("acceptedRisk", pattern(fmt.Sprintf(`^\s*(\S+\s+){%d,}\S`, minRiskWords-1))), hasNot("acceptedRisk")),
	}},
	"Key": {
		"if":   has("broker", object{"type": "object"}),
		"then": object{"allOf": []any{hasNot("kek"), hasNot("vault"), hasNot("secret")}},
		"else": object{"allOf": []any{has("kek", notEmpty), has("vault", notEmpty), has("secret", notEmpty)}},
	},
	"Network": {"allOf": []any{
		when("egress", EgressList, has("allow", object{"type": "array", "minItems": 1}), hasNot("allow")),
		when("egress", EgressPolicy, has("policy", object{"type": "object"}), hasNot("policy")),
	}},
	"Endpoint": {"allOf": []any{when("protocol", ProtocolTCP, hasNot("policy"), nil)}},
}
