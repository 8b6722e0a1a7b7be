package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cloister/enclave/attest"
	enclaveazure "cloister/enclave/azure"
	"cloister/enclave/kbs"
	"cloister/enclave/vault"
	"cloister/governance"
	witnesses "cloister/governance/cosign"
	"cloister/governance/remote"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	urfave "github.com/urfave/cli/v2"
)

// doctorCommand is "cloister doctor": an owner's view of what a specification
// depends on. `cloisterd doctor` is the room's.
func doctorCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "doctor",
		Usage:     "try everything that a specification depends on, in order, and say what to change",
		ArgsUsage: "[VOLUME...]",
		Description: "Tried are the stores, your sign-in, the vaults, the attestation service and the\n" +
			"ledger, of the specification's volumes or of the ones named. No key is fetched\n" +
			"and nothing is written. The exit code is that of the first failure.",
		Flags:  append(readerFlags(), specificationFlag()),
		Action: action(runDoctor, "--specification", "--ledger", "[VOLUME...]"),
	}
}

func runDoctor(c *urfave.Context, names []string) error {
	check := cli.NewCheckup(c.App.Writer)
	try := func(name string, do func(context.Context) (string, error)) bool {
		return check.Try(c.Context, name, do)
	}
	var s spec.Specification
	// Without this there is nothing to ask the others about.
	if !try("the specification "+c.String("specification"), func(context.Context) (found string, err error) {
		s, err = loadSpec(c.String("specification"))
		return fmt.Sprintf("%s, of kind %s", s.Name, s.Kind), err
	}) {
		return check.Err()
	}
	volumes, err := volumesNamed(s, names)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		try("the store of "+v.Name, func(ctx context.Context) (string, error) { return tryStore(ctx, c, s, v) })
	}
	atVault := slices.ContainsFunc(volumes, func(v spec.Source) bool { return v.Key.Broker == nil })
	signedIn := false
	if atVault {
		signedIn = try("your sign-in", func(ctx context.Context) (string, error) { return trySignIn(ctx, s) })
	}
	transport := enclaveazure.NewTransport(nil)
	for _, v := range volumes {
		if b := v.Key.Broker; b != nil {
			try("the key broker "+b.URL+" of "+v.Name, func(ctx context.Context) (string, error) { return tryBroker(ctx, *b) })
			continue
		}
		secrets, _, _ := strings.Cut(v.Key.Secret, "/secrets/")
		probe := func(address string) bool {
			return try("the vault "+address+" of "+v.Name, func(ctx context.Context) (string, error) { return vault.Probe(ctx, transport, address) })
		}
		reached := probe(secrets)
		probe(v.Key.Vault)
		if reached && signedIn {
			try("the wrapped DEK of "+v.Name, func(ctx context.Context) (string, error) { return tryWrappedDEK(ctx, s, v) })
		}
	}
	if atVault {
		try("the attestation service "+s.Attestation.Authority, func(ctx context.Context) (string, error) { return tryAttestation(ctx, s) })
	}
	try("the ledger "+c.String("ledger"), func(ctx context.Context) (string, error) {
		log, _, done, err := findLog(c)
		defer done()
		if err != nil {
			return "", err
		}
		view, err := newWatched(c, s.Governance.LedgerKey, governance.Witnesses{Keys: s.Governance.Witnesses, Threshold: s.Governance.Threshold})
		if err != nil {
			return "", err
		}
		return remote.Probe(ctx, log, view.View)
	})
	if log, _, done, err := findLog(c); err == nil {
		defer done()
		for _, w := range witnesses.Ask(s.Governance.Witnesses, s.Governance.WitnessAddresses, log) {
			try("the witness "+w.Name, w.Ask)
		}
	}
	return check.Err()
}

func tryAttestation(ctx context.Context, s spec.Specification) (string, error) {
	service, err := attest.New(attest.Options{Authority: s.Attestation.Authority, Client: azpolicy.ClientOptions{Retry: oneTry}})
	if err != nil {
		return "", err
	}
	return service.Probe(ctx)
}

// tryBroker wants a challenge: only a clean room can answer it.
func tryBroker(ctx context.Context, b spec.Broker) (string, error) {
	roots, err := b.Roots()
	if err != nil {
		return "", err
	}
	client, err := kbs.New(kbs.Options{URL: b.URL, Roots: roots, Retry: oneTry})
	if err != nil {
		return "", err
	}
	return client.Probe(ctx)
}

// oneTry is what a doctor wants: to say what is, not to wait until it is better.
var oneTry = azpolicy.RetryOptions{MaxRetries: -1}

// volumesNamed are all of the specification where none is named.
func volumesNamed(s spec.Specification, names []string) ([]spec.Source, error) {
	if len(names) == 0 {
		for _, v := range s.Code {
			names = append(names, v.Name)
		}
		for _, v := range s.DataSources {
			names = append(names, v.Name)
		}
		for _, v := range s.Sinks() {
			names = append(names, v.Name)
		}
	}
	var list []spec.Source
	for _, name := range eachReplica(s, names) {
		v, ok := volumeOf(s, name)
		if !ok {
			return nil, fault.Errorf(fault.NotFound, "see cloister spec show", "the specification has no volume %q", name)
		}
		list = append(list, v)
	}
	return list, nil
}

// eachReplica puts the sinks of all replicas in the place of a sink that has them.
func eachReplica(s spec.Specification, names []string) (all []string) {
	for _, name := range names {
		one := s
		one.DataSinks = slices.DeleteFunc(slices.Clone(s.DataSinks), func(v spec.Sink) bool { return v.Name != name })
		if len(one.DataSinks) == 0 {
			all = append(all, name)
		}
		for _, v := range one.Sinks() {
			all = append(all, v.Name)
		}
	}
	return all
}

// tryStore wants objects in a volume that is read. A sink has none before the
// first run, nor need its directory be there.
func tryStore(ctx context.Context, c *urfave.Context, s spec.Specification, v spec.Source) (string, error) {
	sink := false
	for _, d := range s.Sinks() {
		sink = sink || d.Name == v.Name
	}
	store, err := openStoreIn(ctx, c, v.Store, false)
	if sink && fault.KindOf(err) == fault.NotFound {
		return "not there yet, which the first run changes", nil
	}
	if err != nil {
		return "", err
	}
	defer store.Close()
	for _, err := range store.List(ctx, "") {
		if err != nil {
			return "", err
		}
		return store.String() + " answers, and holds objects", nil
	}
	if sink {
		return store.String() + " answers, and is empty", nil
	}
	return "", fault.Errorf(fault.NotFound, "upload the volume with cloister prep encrypt, or correct the address in the specification", "%s is empty", store)
}

// trySignIn gets tokens for the vaults, and throws them away.
func trySignIn(ctx context.Context, s spec.Specification) (string, error) {
	cred, err := signIn(s)
	if err != nil {
		return "", err
	}
	where, err := enclaveazure.CloudOf(s)
	if err != nil {
		return "", err
	}
	ctx, cancel := enclaveazure.Bound(ctx, 0)
	defer cancel()
	token, err := cred.GetToken(ctx, azpolicy.TokenRequestOptions{Scopes: []string{where.VaultScope()}})
	if err != nil {
		return "", fault.Errorf(fault.Denied, "sign in with `az login`, or see the SDK's environment variables", "%w", err)
	}
	return "a token until " + token.ExpiresOn.UTC().Format("15:04:05"), nil
}

// tryWrappedDEK finds nothing wrong with a volume that is not provisioned yet.
func tryWrappedDEK(ctx context.Context, s spec.Specification, v spec.Source) (string, error) {
	cred, err := signIn(s)
	if err != nil {
		return "", err
	}
	client := vault.New(vault.Options{Credential: cred, Client: azpolicy.ClientOptions{Retry: oneTry}, PrivateCloud: s.Kind == spec.Simulated})
	found, err := client.Find(ctx, v.Key.Secret)
	if fault.KindOf(err) == fault.NotFound {
		return "not there yet, which cloister provision apply changes", nil
	}
	return found, err
}

// signIn is as the Azure SDKs do it, at the specification's cloud.
func signIn(s spec.Specification) (azcore.TokenCredential, error) {
	where, err := enclaveazure.CloudOf(s)
	if err != nil {
		return nil, err
	}
	cred, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{Cloud: where.Configuration()}, DisableInstanceDiscovery: s.Kind == spec.Simulated,
	})
	if err != nil {
		return nil, fault.Errorf(fault.Denied, "sign in with `az login`, or see the SDK's environment variables", "signing in: %w", err)
	}
	return cred, nil
}
