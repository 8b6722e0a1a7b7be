package spec

import (
	"strings"
	"testing"
)

// TestRefusesSecrets holds: what looks like a credential is refused in every
// free text, and never repeated. The examples are made here, not issued.
func TestRefusesSecrets(t *testing.T) {
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	for what, secret := range map[string]string{
		"PEM":               "-----BEGIN " + "RSA PRIVATE KEY-----\\nMIIE" + many("x", 40),
		"age":               "AGE-SECRET-" + "KEY-1" + many("Q", 58),
		"SAS":               "https://a.blob.core.windows.net/c?sv=2024-01-01&sp=r&sig=" + many("aB3", 14) + "%3D",
		"SAS alone":         "sv=2024-01-01&sig=" + many("aB3", 14) + "%3D",
		"storage":           "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + many("aB3/", 21) + "ab==",
		"service bus":       "Endpoint=sb://x.example/;SharedAccessKeyName=n;SharedAccessKey=" + many("aB3/", 10) + "aB3=",
		"URL":               "postgres://reader:hunter2@db.example/records",
		"connection string": "Server=db.example;User Id=reader;Password=hunter2;",
		"JWT":               "eyJ" + many("a", 20) + ".eyJ" + many("b", 20) + "." + many("c", 20),
		"AWS":               "AKIA" + many("Q7", 8),
		"GitHub":            "ghp_" + many("a1", 18),
		"Hugging Face":      "hf_" + many("aB", 17),
		"key of 32 bytes":   many("aB3/", 10) + "aB3=",
		"key of 64 bytes":   many("aB3/", 21) + "ab==",
	} {
		for place, put := range map[string]func(*Specification){
			"application.environment.CONFIG": func(s *Specification) { s.Application.Environment["CONFIG"] = secret },
			"application.command[1]":         func(s *Specification) { s.Application.Command[1] = secret },
			"application.command[2]":         func(s *Specification) { s.Application.Command[2] = "--with=" + secret },
			"acceptedRisk":                   func(s *Specification) { distributed(s); s.AcceptedRisk += " " + secret },
		} {
			s := example(t)
			put(&s)
			problems := s.Problems()
			if whole := strings.HasPrefix(what, "key of"); whole && place == "acceptedRisk" {
				continue // nothing but the key is told from other text
			}
			if len(problems) != 1 || problems[0].Path != place || !strings.Contains(problems[0].Reason, "looks like") || problems[0].Remedy == "" {
				t.Errorf("%s in %s: %v", what, place, problems)
				continue
			}
			if strings.Contains(problems[0].String(), secret) || strings.Contains(problems[0].String(), "hunter2") {
				t.Errorf("%s in %s is repeated: %s", what, place, problems[0])
			}
		}
	}
}

func TestRefusesCredentialsByName(t *testing.T) {
	for _, name := range []string{"PASSWORD", "DB_PASSWORD", "api_key", "APIKEY", "AUTH_TOKEN", "Client_Secret", "AZURE_STORAGE_ACCOUNT_KEY", "CREDENTIALS", "PGPWD"} {
		s := example(t)
		s.Application.Environment[name] = "hunter2"
		problems := s.Problems()
		if name == "PGPWD" { // only whole words: this is no list of all programs' variables
			if len(problems) != 0 {
				t.Errorf("%s: %v", name, problems)
			}
			continue
		}
		if len(problems) != 1 || !strings.Contains(problems[0].Reason, "by its name") || strings.Contains(problems[0].String(), "hunter2") {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestRefusesCredentialsInFlags(t *testing.T) {
	s := example(t)
	s.Application.Command = append(s.Application.Command, "--db-password=hunter2")
	if problems := s.Problems(); len(problems) != 1 || problems[0].Path != "application.command[3]" || strings.Contains(problems[0].String(), "hunter2") {
		t.Error(problems)
	}
}

// TestOrdinaryTextIsNoSecret holds: what programs are really given goes through.
func TestOrdinaryTextIsNoSecret(t *testing.T) {
	s := example(t)
	s.Application.Command = append(s.Application.Command, "--key=id", "sig=", "SELECT a FROM b WHERE password = c", "sha256:"+strings.Repeat("ab", 32), strings.Repeat("ab", 32),
		"https://user@host.example/x", "https://host.example:8443/a@b", "s3://bucket/AKIA", "--design=one", signingKey(t, 1), verifierKey("x.example", 1))
	s.Application.Environment = map[string]string{"DB_PASSWORD_FILE": "secret.txt", "TOKEN": "/mnt/model/token", "API_KEY": "", "MAX_TOKENS": "100",
		"TOKENIZERS_PARALLELISM": "false", "SECRET": "https://v.vault.azure.net/secrets/x", "PATH": "/usr/bin:/bin", "PWD": "/mnt", "PUBLIC_KEY": signingKey(t, 1), "SORT_KEY": "age"}
	if problems := s.Problems(); len(problems) > 0 {
		t.Error(problems)
	}
}
