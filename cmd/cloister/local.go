package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/localcloud"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"

	urfave "github.com/urfave/cli/v2"
)

const localBanner = `SIMULATED: this is not a cloud and not a confidential processor. Its keys are
files of this machine, its attestation proves nothing, and nothing it releases
is protected. It is for development and tests.
`

// localCommand is "cloister local": the cloud's services, emulated.
func localCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "local",
		Usage: "a SIMULATED cloud on this machine, for development",
		Subcommands: []*urfave.Command{
			localUpCommand(), localGuestCommand(), localAdmitCommand(), localEnvCommand(), localFaultCommand(),
		},
	}
}

func localDir() *urfave.StringFlag {
	return &urfave.StringFlag{Name: "dir", Usage: "the simulated cloud's state `DIR`", Required: true}
}

func localUpCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "up",
		Usage: "run the services in the foreground; prints \"ready DIR\" when they answer",
		Description: "With --roles the services check role assignments, as Azure's do: the identity\n" +
			"\"owner\" (local env --identity owner) has every role, and gives others theirs.\n\n" +
			"Each --tenant is a directory of its own, with a subscription, a vault, an HSM and,\n" +
			"with --azurite, a storage account, which refuse what another tenant's directory\n" +
			"issued; its owner is local env --tenant NAME --identity owner. There is always the\n" +
			"tenant without a name, too. Tenants of a run before are there without being named.",
		Flags: []urfave.Flag{
			localDir(),
			&urfave.BoolFlag{Name: "roles", Usage: "check role assignments; without, every identity may do everything"},
			&urfave.StringSliceFlag{Name: "tenant", Usage: "play the tenant `NAME` too; repeated"},
			&urfave.StringFlag{Name: "azurite", Usage: "also serve blobs, kept by the Azurite that runs at `URL` (http://127.0.0.1:PORT)"},
			&urfave.StringFlag{Name: "runtime", Usage: "run container groups of kind simulated with this cloisterd, `BIN`; without, they are kept and nothing runs"},
		},
		Action: func(c *urfave.Context) error {
			if _, err := cli.Args(c); err != nil {
				return err
			}
			fmt.Fprint(errWriter(c), localBanner)
			cloud, err := localcloud.Start(c.Context, localcloud.Config{Dir: c.String("dir"), Roles: c.Bool("roles"), Tenants: c.StringSlice("tenant"), Azurite: c.String("azurite"), Runtime: c.String("runtime")})
			if err != nil {
				return err
			}
			sayEndpoints(errWriter(c), cloud.Endpoints(), c.String("azurite") != "")
			fmt.Fprintf(c.App.Writer, "ready %s\n", c.String("dir"))
			<-c.Context.Done()
			return cloud.Close()
		},
	}
}

// sayEndpoints names the services, and at a tenant's own the tenant.
func sayEndpoints(w io.Writer, e localcloud.Endpoints, blobs bool) {
	fmt.Fprintf(w, "simulated attestation  %s\nsimulated authority    %s\nsimulated broker       %s\nsimulated manager      %s\n",
		e.Attestation, e.Authority, e.Broker, e.Manager)
	for _, name := range append([]string{""}, slices.Sorted(maps.Keys(e.Tenants))...) {
		at, of := e.In(name), ""
		if name != "" {
			of = "  of " + name
		}
		fmt.Fprintf(w, "simulated vault        %s%s\nsimulated HSM          %s%s\n", at.Vault, of, at.HSM, of)
		if blobs {
			fmt.Fprintf(w, "simulated blobs        %s%s\n", at.Blob, of)
		}
	}
}

func localGuestCommand() *urfave.Command {
	bad := func(name, usage string) *urfave.BoolFlag { return &urfave.BoolFlag{Name: name, Usage: usage} }
	return &urfave.Command{
		Name:      "guest",
		Usage:     "launch a SIMULATED confidential container in GUESTDIR, or a bad one; prints \"ready GUESTDIR\"",
		ArgsUsage: "GUESTDIR",
		Description: "The guest's report socket and security context are in GUESTDIR and live as\n" +
			"long as \"cloister local up\" does, or until --remove.",
		Flags: []urfave.Flag{
			localDir(),
			&urfave.StringFlag{Name: "policy", Usage: "the container policy's text, `FILE`"},
			bad("remove", "end the guest in GUESTDIR"),
			bad("debug", "bad guest: the host may read its memory"),
			bad("migration", "bad guest: may be migrated"),
			&urfave.UintFlag{Name: "vmpl", Usage: "bad guest: report at privilege level `N` other than 0"},
			bad("wrong-host-data", "bad guest: launched under another policy than it shows"),
			bad("wrong-measurement", "bad guest: a utility VM that nobody endorsed"),
			bad("old-tcb", "bad guest: old firmware"),
			bad("stale-certificates", "bad guest: certificates of an older firmware than the report's"),
			bad("low-svn", "bad guest: a utility VM endorsed long ago"),
			bad("replay", "bad guest: every report is the same"),
			bad("revoked", "bad guest: the processor's chain is revoked"),
			&urfave.BoolFlag{Name: "vm", Usage: "a confidential VM's processor: host data is zero; the TPM beside it is yours to run"},
			&urfave.UintFlag{Name: "report-version", Usage: "the report's layout `VERSION`, 2 to 5", Value: 3},
		},
		Action: launchGuest,
	}
}

func launchGuest(c *urfave.Context) error {
	args, err := cli.Args(c, "GUESTDIR")
	if err != nil {
		return err
	}
	admin := localcloud.Dial(c.String("dir"))
	if c.Bool("remove") {
		return admin.RemoveGuest(c.Context, args[0])
	}
	if c.String("policy") == "" {
		return fault.Errorf(fault.Usage, "see --help", "launching a simulated guest needs --policy FILE")
	}
	policy, err := readPolicy(c.String("policy"))
	if err != nil {
		return err
	}
	err = admin.LaunchGuest(c.Context, args[0], guestConfig(c, policy))
	if err != nil {
		return fmt.Errorf("launching a simulated guest in %s: %w", args[0], err)
	}
	fmt.Fprintf(errWriter(c), "SIMULATED guest: what it attests is worth nothing\n")
	fmt.Fprintf(c.App.Writer, "ready %s\n", args[0])
	return nil
}

func guestConfig(c *urfave.Context, policy []byte) platform.GuestConfig {
	return platform.GuestConfig{
		Policy:            policy,
		Debug:             c.Bool("debug"),
		Migration:         c.Bool("migration"),
		VMPL:              uint32(c.Uint("vmpl")),
		WrongHostData:     c.Bool("wrong-host-data"),
		WrongMeasurement:  c.Bool("wrong-measurement"),
		OldTCB:            c.Bool("old-tcb"),
		StaleCertificates: c.Bool("stale-certificates"),
		LowSVN:            c.Bool("low-svn"),
		Replay:            c.Bool("replay"),
		Revoked:           c.Bool("revoked"),
		VM:                c.Bool("vm"),
		ReportVersion:     uint32(c.Uint("report-version")),
	}
}

func localAdmitCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "admit",
		Usage:     "let the guests of a container policy have RESOURCEs of the SIMULATED key broker",
		ArgsUsage: "RESOURCE...",
		Description: "A real broker's operator says this in the broker's resource policy (Rego).\n" +
			"RESOURCE is REPOSITORY/TYPE/TAG. Nobody is admitted to anything at first.",
		Flags: []urfave.Flag{localDir(), &urfave.StringFlag{Name: "policy", Usage: "the container policy's text, `FILE`", Required: true}},
		Action: func(c *urfave.Context) error {
			resources, err := cli.Args(c, "RESOURCE...")
			if err != nil {
				return err
			}
			policy, err := readPolicy(c.String("policy"))
			if err != nil {
				return err
			}
			return localcloud.Dial(c.String("dir")).Admit(c.Context, policy, resources)
		},
	}
}

func readPolicy(path string) ([]byte, error) {
	policy, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, fault.Errorf(fault.NotFound, "", "reading the container policy: %w", err)
	}
	return policy, err
}

func localEnvCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "env",
		Usage: "print the environment with which a program finds the SIMULATED services",
		Description: "The lines hold a secret of the state directory, IDENTITY_HEADER: they are for\n" +
			"an environment file or the shell, not for a log.",
		Flags: []urfave.Flag{
			localDir(),
			&urfave.StringFlag{Name: "identity", Usage: "act as the identity `NAME`, made if there is none (default: the clean room's)"},
			&urfave.StringFlag{Name: "tenant", Usage: "of the tenant `NAME`; one that `local up` did not name has a directory and no resources (default: the tenant that is always there)"},
			&urfave.StringFlag{Name: "federated-token", Usage: "write the identity's workload token to `FILE` and name it"},
		},
		Action: func(c *urfave.Context) error {
			if _, err := cli.Args(c); err != nil {
				return err
			}
			e, err := localcloud.ReadEndpoints(c.String("dir"))
			if err != nil {
				return err
			}
			lines, err := localEnvironment(c, e)
			for _, line := range lines {
				fmt.Fprintln(c.App.Writer, line)
			}
			return err
		},
	}
}

func localEnvironment(c *urfave.Context, e localcloud.Endpoints) ([]string, error) {
	name, file := c.String("identity"), c.String("federated-token")
	if c.String("tenant") != "" && name == "" {
		return nil, fault.Errorf(fault.Usage, "see --help", "--tenant needs --identity")
	}
	if name == "" && file == "" {
		return e.Environment(""), nil
	}
	if name == "" {
		name = identity.CleanRoom
	}
	admin := localcloud.Dial(c.String("dir"))
	i, err := admin.AddIdentityIn(c.Context, c.String("tenant"), name)
	if err != nil {
		return nil, err
	}
	lines := e.In(c.String("tenant")).Environment(i.ClientID)
	if file == "" {
		return lines, nil
	}
	token, err := admin.FederatedTokenIn(c.Context, c.String("tenant"), name)
	if err != nil {
		return nil, err
	}
	return append(lines, "AZURE_FEDERATED_TOKEN_FILE="+file), wire.WriteFile(file, []byte(token))
}

func localFaultCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "fault",
		Usage:     "make a SIMULATED service misbehave; without flags, behave again",
		ArgsUsage: "SERVICE",
		Flags: []urfave.Flag{
			localDir(),
			&urfave.DurationFlag{Name: "latency", Usage: "wait `TIME` before every answer"},
			&urfave.IntFlag{Name: "status", Usage: "answer 429 or 5xx, `STATUS`, to the next --times requests"},
			&urfave.IntFlag{Name: "times", Usage: "for `N` requests", Value: 1},
			&urfave.IntFlag{Name: "retry-after", Usage: "with Retry-After: `SECONDS`"},
			&urfave.DurationFlag{Name: "clock-skew", Usage: "move the service's clock by `TIME`"},
			&urfave.BoolFlag{Name: "expired-keys", Usage: "vault and hsm: every key is past its expiry"},
		},
		Action: func(c *urfave.Context) error {
			args, err := cli.Args(c, "SERVICE")
			if err != nil {
				return err
			}
			f := wire.Fault{
				Latency: c.Duration("latency"), Status: c.Int("status"), Times: c.Int("times"),
				RetryAfter: c.Int("retry-after"), ClockSkew: c.Duration("clock-skew"),
				ExpiredKeys: c.Bool("expired-keys"),
			}
			if f.Status == 0 {
				f.Times = 0
			}
			return localcloud.Dial(c.String("dir")).SetFault(c.Context, args[0], f)
		},
	}
}

func errWriter(c *urfave.Context) io.Writer { return c.App.ErrWriter }
