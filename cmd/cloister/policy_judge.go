package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/framework"
	"cloister/policy/release"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// readPolicyFile returns a container policy's text, as it is or out of base64.
func readPolicyFile(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, tree.Explain("reading", path, err)
	}
	if text, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw))); err == nil && bytes.Contains(text, []byte("package ")) {
		return text, nil
	}
	return raw, nil
}

// judged is a policy file of either kind.
type judged struct {
	release   *release.Policy
	mutable   *bool
	container cce.Policy
}

// readJudged tells the two kinds apart: JSON is a release policy, or a key of a
// vault with one.
func readJudged(c *urfave.Context, path string) (j judged, err error) {
	text, err := readPolicyFile(path)
	if err != nil {
		return j, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		j.container, err = framework.Read(c.Context, text)
		return j, explainPath(path, err)
	}
	if text, j.mutable, err = ofKey(text); err != nil {
		return j, explainPath(path, err)
	}
	p, err := release.Parse(text)
	j.release = &p
	return j, explainPath(path, err)
}

func explainPath(path string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ofKey takes the release policy out of a key as a vault's API, or the az
// program, shows it. Other JSON is returned as it is.
func ofKey(text []byte) ([]byte, *bool, error) {
	type held struct {
		Data          string `json:"data"`
		EncodedPolicy string `json:"encodedPolicy"`
		Immutable     bool   `json:"immutable"`
	}
	var key struct {
		API *held `json:"release_policy"`
		AZ  *held `json:"releasePolicy"`
	}
	if err := json.Unmarshal(text, &key); err != nil || key.API == nil && key.AZ == nil {
		return text, nil, nil // Parse says what is wrong with it
	}
	h := key.API
	if h == nil {
		h = key.AZ
	}
	encoded := strings.TrimRight(h.Data+h.EncodedPolicy, "=")
	raw, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
	if err != nil {
		return nil, nil, fault.Errorf(fault.Usage, "show the key again", "its release policy is not base64: %w", err)
	}
	mutable := !h.Immutable
	return raw, &mutable, nil
}
