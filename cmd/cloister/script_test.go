package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cloister/internal/cli"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this test binary also be the program "cloister", which the
// scripts run as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"cloister": func() { os.Exit(cli.Main(newApp(), os.Args)) },
	})
}

// TestScripts runs every script of testdata/script. Beside testscript's own
// commands they have:
//
//	exits CODE PROGRAM [ARG...]   run it and demand this exit code; its output
//	                              is what stdout and stderr look at next, and
//	                              must show no secret
//	secret WORD...                words that are secrets from here on
//	secrets FILE...               every line of these files but comments and PEM's
//	                              headers is one
//	serve NAME PROGRAM [ARG...]   start it, and go on when it says "ready ..."
//	begin NAME PROGRAM [ARG...]   start it, and go on at once
//	await NAME REGEXP             go on when it has said a line with the regexp
//	end NAME SIGNAL CODE          signal it, and demand this exit code; what it
//	                              said is in NAME.out and NAME.err
//	capture VAR FILE REGEXP       put what the regexp's group matches in $VAR
//	loadenv FILE                  set the variables in lines VAR=VALUE
//	noise FILE BYTES              make a file of random bytes
//	flip FILE BYTE                change one bit of the byte, from its end if < 0
//	azurite                       put a new volume's URL at a proxy before Azurite
//	                              in $URL, and a SAS for its container in $SAS;
//	                              in the environment is a connection string
//	registry CAFILE               serve an empty image registry over TLS at $REGISTRY
//	image DIR PATH...             make an OCI layout of an image of one layer that
//	                              holds these empty files, and directories ("etc/")
//	receiver KEYFILE STATUS...    serve a webhook over TLS at $RECEIVER, with the
//	                              certificate in receiver.pem, that answers so, and
//	                              then 200; what it takes, whose signature must be the
//	                              key's, is in received.1 and so on
//	cse FILE KEYFILE SEALED BLOCK seal a file in Azure clean room's CSE layout, under a
//	                              new key, in a block of BLOCK bytes
//	runtime DIR                   make a layout that stands for the runtime's images
//	port VAR                      put a port on which nothing listens in $VAR
//	taken N                       go on when the receiver has taken N messages
//	strike METHOD NAME TIMES DO   what the proxy does to requests for blobs whose
//	                              path contains NAME, see proxy_test.go
func TestScripts(t *testing.T) {
	const dir = "testdata/script"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s (%v): the test looked at nothing", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		// A script may ask whether it runs as root.
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		Setup: setUp(t),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "secret": secret, "secrets": secrets, "serve": startServed, "begin": beginServed, "await": awaitServed, "end": endServed, "capture": capture,
			"loadenv": loadenv, "noise": noise, "flip": flip, "azurite": startAzurite, "strike": strikeProxy,
			"registry": startRegistry, "image": makeImage, "receiver": startReceiver, "taken": awaitTaken, "cse": makeCSE, "runtime": makeRuntime, "port": findPort,
		},
	})
}

// setUp gives a script what these commands need.
func setUp(t *testing.T) func(*testscript.Env) error {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-o", bin+"/", "cloister/cmd/cloister-ledger", "cloister/cmd/cloisterd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building cloister-ledger and cloisterd: %v\n%s", err, out)
	}
	return func(e *testscript.Env) error {
		e.Setenv("CLOISTERD", filepath.Join(bin, "cloisterd"))
		e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, ".config")) // where heads are remembered
		e.Setenv("PATH", e.Getenv("PATH")+string(filepath.ListSeparator)+bin)
		e.Values[scriptKey{}] = &script{t: t, served: map[string]*served{}}
		return nil
	}
}

// script is what a running script has of these commands.
type script struct {
	t       *testing.T
	secrets []string
	loaded  []string // names of variables
	served  map[string]*served
	proxy   *proxy

	receiver *receiver // nil without one
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

// usage ends the script unless a command has the arguments it needs.
func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "exits CODE PROGRAM [ARG...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	for _, s := range of(ts).secrets {
		if strings.Contains(ts.ReadFile("stdout")+ts.ReadFile("stderr"), s) {
			ts.Fatalf("%s shows a secret", args[1])
		}
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", args[1], got, want)
	}
}

func secret(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0, "secret WORD...")
	for _, word := range args {
		if len(word) < 8 {
			ts.Fatalf("%q is too short to be looked for", word)
		}
	}
	of(ts).secrets = append(of(ts).secrets, args...)
}

func secrets(ts *testscript.TestScript, neg bool, files []string) {
	for _, file := range files {
		var party struct{ PrivateKey, RecipientKey string }
		if json.Unmarshal([]byte(ts.ReadFile(file)), &party) == nil {
			secret(ts, neg, slices.DeleteFunc([]string{party.PrivateKey, party.RecipientKey}, func(s string) bool { return s == "" }))
			continue
		}
		for line := range strings.Lines(ts.ReadFile(file)) {
			line = strings.TrimSpace(line)
			if comment := line == "" || line[0] == '#' || strings.HasPrefix(line, "-----") || strings.Contains(line, ": "); !comment {
				secret(ts, neg, []string{line})
			}
		}
	}
}
