package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"cloister/enclave/evidence"
	"cloister/governance/cosign"
	"cloister/governance/ledger"
	"cloister/governance/service"
	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
	"k8s.io/klog/v2"
)

// graceTime is how long requests that are being answered have after SIGTERM.
const graceTime = 30 * time.Second

func serveCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "serve",
		Usage:     "serve the logs in these directories, each below its directory's name",
		ArgsUsage: "DIR...",
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "listen", Usage: "listen on `ADDRESS`", Value: "127.0.0.1:8446"},
			&urfave.StringFlag{Name: "certificate", Usage: "serve with the certificates in `FILE` (PEM); without it, one is made in the first DIR, " + certificateFile},
			&urfave.StringFlag{Name: "key", Usage: "the certificate's private key, `FILE` (PEM)"},
			&urfave.StringSliceFlag{Name: "host", Usage: "a `NAME` or address that the certificate to be made is for, beside the one listened on"},
			&urfave.StringSliceFlag{Name: "witness", Usage: "have each checkpoint cosigned by the witness `KEY@URL`, as cloister witness serve prints it; may be repeated"},
			&urfave.IntFlag{Name: "threshold", Usage: "`HOW MANY` of the witnesses must; all when not given"},
			&urfave.StringFlag{Name: "platform", Usage: "let runs read before they have begun, by their evidence: of `amd`, or of simulated:DIR, as cloister local plays it", Value: "amd"},
			&urfave.Uint64Flag{Name: "min-svn", Usage: "the lowest version `N` of a run's utility VM that is good enough", Value: minimumUVMSVN},
			&urfave.BoolFlag{Name: "attest", Usage: "make the log in DIR, new, with keys that never leave this process, and show the platform's evidence that they are in this container; the log ends with the process"},
			&urfave.StringSliceFlag{Name: "party", Usage: "with --attest: one of the parties of `DOCUMENT` may propose the log's contract, as of init"},
			&urfave.BoolFlag{Name: "anyone-reads", Usage: "INSECURE: serve the record to whoever asks, not to parties and runs of the contract alone"},
			&urfave.BoolFlag{Name: "verify", Usage: "verify each log from its first entry, not from where its fold was last saved"},
			&urfave.IntFlag{Name: "rate", Usage: "answer at most `N` requests a second from one address", Value: 500},
		},
		Action: serve,
	}
}

// minimumUVMSVN is the lowest version of the utility VM that counts as one of
// production, as for cloister audit verify.
const minimumUVMSVN = 100

func serve(c *urfave.Context) error {
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	quietTessera(log)
	if c.NArg() == 0 || c.Int("rate") < 1 {
		return fault.Errorf(fault.Usage, "cloister-ledger serve DIR...", "serve takes a directory, and a rate of 1 or more")
	}
	judge, err := evidence.Named(c.String("platform"), c.Uint64("min-svn"))
	if err != nil {
		return err
	}
	var logs map[string]*ledger.Ledger
	if c.Bool("attest") {
		logs, err = createLog(c, judge)
	} else {
		logs, err = openLogs(c, judge)
	}
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range logs {
			l.Close()
		}
	}()
	recosign(c, logs, log)
	config, err := tlsConfig(c)
	if err != nil {
		return err
	}
	shown, err := attest(c, logs, config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return fault.Errorf(fault.Conflict, "name another --listen", "listening: %w", err)
	}
	log.Info("runs read by their evidence", "platform", judge.Anchors.Name)
	if c.Bool("anyone-reads") {
		log.Warn("INSECURE: whoever reaches this server reads the record")
	}
	for name := range logs {
		log.Info("serving", "url", fmt.Sprintf("https://%s/%s", listener.Addr(), name))
	}
	for name := range logs {
		fmt.Fprintf(c.App.Writer, "ready https://%s/%s\n", listener.Addr(), name)
	}
	server := service.Server(service.New(service.Options{Logs: logs, Log: log, Evidence: judge.Run, Attestations: shown, AnyoneReads: c.Bool("anyone-reads"), Rate: c.Int("rate")}), log)
	return run(c.Context, server, tls.NewListener(listener, config))
}

// run serves until the context ends.
func run(ctx context.Context, server *http.Server, listener net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
	defer cancel()
	if err := server.Shutdown(grace); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fault.Errorf(fault.Incomplete, "", "requests were cut off: %w", err)
	}
	return nil
}

func openLogs(c *urfave.Context, judge evidence.Judge) (map[string]*ledger.Ledger, error) {
	logs := map[string]*ledger.Ledger{}
	for _, dir := range c.Args().Slice() {
		path, name, err := logName(dir)
		if err != nil {
			return nil, err
		}
		if logs[name] != nil {
			return nil, fault.Errorf(fault.Usage, "rename one", "two directories are named %s", name)
		}
		options, err := witnessed(c)
		if err != nil {
			return nil, err
		}
		options = append(options, ledger.WithEvidence(judge.Run))
		if c.Bool("verify") {
			options = append(options, ledger.WithoutSnapshot())
		}
		if logs[name], err = ledger.Open(c.Context, path, options...); err != nil {
			return nil, err
		}
	}
	return logs, nil
}

// logName is what the log in a directory is called in its URL.
func logName(dir string) (path, name string, err error) {
	if path, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}
	name = filepath.Base(path)
	if err := statement.CheckName(name); err != nil {
		return "", "", fault.Errorf(fault.Usage, "rename the directory", "%s is to be part of a URL: %w", dir, err)
	}
	return path, name, nil
}

// witnessed is the option of a log that has witnesses: a group of its own, which
// remembers how far each has come.
func witnessed(c *urfave.Context) ([]ledger.Option, error) {
	if len(c.StringSlice("witness")) == 0 {
		return nil, nil
	}
	group, err := cosign.New(c.StringSlice("witness"), c.Int("threshold"))
	if err != nil {
		return nil, err
	}
	return []ledger.Option{ledger.WithCosign(group.Cosign)}, nil
}

// recosign has each log's checkpoint cosigned before anybody reads it. Witnesses that
// are down end nothing: an append asks them again.
func recosign(c *urfave.Context, logs map[string]*ledger.Ledger, log *slog.Logger) {
	if len(c.StringSlice("witness")) == 0 {
		return
	}
	for name, l := range logs {
		if err := l.Recosign(c.Context); err != nil {
			log.Warn("the newest checkpoint is not cosigned", "log", name, "error", err)
		}
	}
}

// quietTessera has what Tessera says come out like everything else, and only what
// goes wrong.
func quietTessera(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(writer{log}, &slog.HandlerOptions{Level: slog.LevelWarn})))
}

// writer makes lines of the log.
type writer struct{ log *slog.Logger }

func (w writer) Write(line []byte) (int, error) {
	w.log.Warn("tessera", "says", string(line))
	return len(line), nil
}
