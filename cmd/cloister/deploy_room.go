package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/policy/template"
	"cloister/prep/deploy"
	"cloister/prep/provision"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// placeFlags say where a room is deployed.
func placeFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "subscription", EnvVars: []string{"AZURE_SUBSCRIPTION_ID"}, Usage: "kind aci: the `ID` of the subscription"},
		text("resource-group", "kind aci: the resource `GROUP` that the container groups are in, which exists"),
		text("location", "kind aci: the Azure `REGION` (default: the resource group's)"),
		&urfave.StringFlag{Name: "kubeconfig", EnvVars: []string{"KUBECONFIG"}, Usage: "kind aks: the `FILE` that says where the cluster is and who asks (default: ~/.kube/config)"},
		text("context", "kind aks: the kubeconfig's `CONTEXT` (default: its current one)"),
		text("namespace", "kind aks: the `NAMESPACE` (default: the context's)"),
		&urfave.DurationFlag{Name: "timeout", Usage: "how long to wait", Value: 10 * time.Minute},
	}
}

// placeHelp is of every command that reaches the platform.
const placeHelp = "DIR is what `cloister deploy template` wrote. Sign in as for the Azure SDKs\n" +
	"(azidentity), for kind aks by a kubeconfig with a token or a client certificate. What the platform says of a room proves nothing: what runs is what the\n" +
	"ledger and its attestation say.\n"

// templateFile reads what is in a folder for a specification.
func templateFile(dir string, s spec.Specification) (template.Template, error) {
	t := template.Template{Name: template.ARM}
	if s.Kind == spec.AKS {
		t.Name = template.Kubernetes
	}
	if s.Kind == spec.CVM {
		return t, fault.Errorf(fault.Usage, "start the VM with its own tools, or set kind aci or aks", "kind cvm has no deployment here")
	}
	file := filepath.Join(dir, t.Name)
	var err error
	if t.Text, err = os.ReadFile(file); err != nil {
		return t, tree.Explain("reading", file, err)
	}
	return t, nil
}

// roomOf is where a template is deployed.
func roomOf(c *urfave.Context, s spec.Specification, t template.Template) (*deploy.Room, error) {
	if s.Kind == spec.AKS {
		file, err := kubeconfigFile(c)
		if err != nil {
			return nil, err
		}
		cluster, err := deploy.OpenCluster(file, c.String("context"), c.String("namespace"))
		if err != nil {
			return nil, err
		}
		return deploy.InKubernetes(cluster, t)
	}
	if err := cli.Required(c, "subscription", "resource-group"); err != nil {
		return nil, err
	}
	cred, err := signIn(s)
	if err != nil {
		return nil, err
	}
	client := provision.New(provision.Options{Credential: cred, PrivateCloud: s.Kind == spec.Simulated, Manager: manager(s.Kind, s.Cloud, c.String("subscription"))})
	return deploy.InAzure(c.Context, client, c.String("resource-group"), c.String("location"), t)
}

// kubeconfigFile is kubectl's own file. Of several that are to be joined none is taken.
func kubeconfigFile(c *urfave.Context) (string, error) {
	file := c.String("kubeconfig")
	if file == "" {
		home, err := os.UserHomeDir()
		return filepath.Join(home, ".kube", "config"), err
	}
	if strings.ContainsRune(file, filepath.ListSeparator) {
		return "", fault.Errorf(fault.Usage, "give one with --kubeconfig", "there are several kubeconfigs in %s", file)
	}
	return file, nil
}

// deployed is the room of a folder and a specification, as they are.
func deployed(c *urfave.Context, args []string) (spec.Specification, *deploy.Room, error) {
	s, err := loadSpec(args[1])
	if err != nil {
		return s, nil, err
	}
	t, err := templateFile(args[0], s)
	if err != nil {
		return s, nil, err
	}
	room, err := roomOf(c, s, t)
	return s, room, err
}

// withTimeout makes an action of run, which --timeout bounds.
func withTimeout(run func(ctx context.Context, c *urfave.Context, args []string) error) func(*urfave.Context, []string) error {
	return func(c *urfave.Context, args []string) error {
		ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
		defer cancel()
		err := run(ctx, c, args)
		if errors.Is(err, context.DeadlineExceeded) && fault.KindOf(err) == fault.Internal {
			return fault.Errorf(fault.Unavailable, "give the command again, which goes on where this one stopped, or wait longer with --timeout", "%s is not done after %s: %w", c.Command.HelpName, c.Duration("timeout"), err)
		}
		return err
	}
}

// printUnits prints a line each, and one for each container.
func printUnits(w io.Writer, units []deploy.Unit, say func(deploy.Unit) string) {
	for _, u := range units {
		fmt.Fprintf(w, "%-10s %s %s%s\n", say(u), u.Kind, cli.Printable(u.Name), detail(u.Detail))
		for _, k := range u.Containers {
			state := k.State
			if k.Exit != nil {
				state += fmt.Sprintf(", exit code %d", *k.Exit)
			}
			if k.Restarts > 0 {
				state += ", started again " + count(k.Restarts, "time")
			}
			fmt.Fprintf(w, "%-10s container %s: %s%s\n", "", cli.Printable(k.Name), cli.Printable(state), detail(k.Detail))
		}
	}
}

func detail(text string) string {
	if text == "" {
		return ""
	}
	return ": " + strings.ReplaceAll(cli.Printable(text), "\n", " ")
}

func stateOf(u deploy.Unit) string { return u.State }
