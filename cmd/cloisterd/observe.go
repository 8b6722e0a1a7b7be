package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"

	"cloister/governance/statement"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

func metricsFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "metrics", Usage: "serve metrics at `ADDRESS`, of this machine alone, where all parties consent to telemetry"}
}

func tracesFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "traces", Usage: "send a trace of the run's steps to `URL`, over OTLP, where all parties consent to telemetry"}
}

func logLevelFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "log-level", Usage: "log what is of `LEVEL` debug, info, warn or error and above", Value: "info"}
}

func logFormatFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "log-format", Usage: "log as `FORMAT` text or json", Value: "text"}
}

// newLog is the runtime's log, on standard error: the host reads it. Whoever logs
// names volumes, objects and segments, and no file (mount.Options.Names stays off).
func newLog(c *urfave.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, fault.Errorf(fault.Usage, "give debug, info, warn or error", "--log-level %q", c.String("log-level"))
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.String("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.App.ErrWriter, opts)), nil
	}
	return nil, fault.Errorf(fault.Usage, "give text or json", "--log-format %q", c.String("log-format"))
}

// observed is what others see of a run while it goes on.
type observed struct {
	metrics string   // address, or ""
	traces  *url.URL // nil: none
	status  io.Closer

	mu      sync.Mutex   // guards below
	serving net.Listener // of metrics; nil while that is not allowed
	allowed bool         // telemetry is
}

// observe sets up what was asked for on the command line. Telemetry begins when it
// is known to be consented to.
func (r *room) observe(c *urfave.Context) (err error) {
	r.monitor, r.says = newMonitor(), &says{log: r.log}
	r.monitor.reached("specification read")
	o := &r.observed
	if o.metrics = c.String("metrics"); o.metrics != "" {
		if err := checkLocal(o.metrics); err != nil {
			return err
		}
	}
	if to := c.String("traces"); to != "" {
		if o.traces, err = url.Parse(to); err != nil || o.traces.Host == "" || o.traces.Scheme != "http" && o.traces.Scheme != "https" {
			return fault.Errorf(fault.Usage, "give the collector's address, such as http://127.0.0.1:4318/v1/traces", "--traces %q is no URL", to)
		}
	}
	l, err := r.monitor.serveStatus(c.String("status"), r.log)
	switch {
	case err == nil:
		o.status = l
	case c.IsSet("status") || fault.KindOf(err) == fault.Usage:
		return err
	default:
		r.log.Info("the status is not told", "because", err)
	}
	return nil
}

// tellTelemetry asks for consent where telemetry was asked for, and begins or ends
// it.
func (r *room) tellTelemetry(ctx context.Context) {
	o := &r.observed
	if o.metrics == "" && o.traces == nil {
		return
	}
	allowed := r.allows(ctx, statement.ScopeTelemetry, "telling how "+r.spec.Application.Name+" does")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.allowed = allowed
	switch {
	case !allowed:
		o.stop()
	case o.serving == nil && o.metrics != "":
		l, err := r.monitor.serveMetrics(o.metrics)
		if err != nil {
			r.log.Warn("metrics are not served", "error", err)
			return
		}
		o.serving = l
		r.log.Info("metrics are served", "address", l.Addr().String())
	}
}

// telemetryGoesOn asks again, as long as it was allowed.
func (r *room) telemetryGoesOn(ctx context.Context) {
	r.observed.mu.Lock()
	allowed := r.observed.allowed
	r.observed.mu.Unlock()
	if allowed {
		r.tellTelemetry(ctx)
	}
}

// stop ends the serving of metrics. mu is held.
func (o *observed) stop() {
	if o.serving != nil {
		_ = o.serving.Close()
		o.serving = nil
	}
}

func (o *observed) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop()
	if o.status != nil {
		if err := o.status.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			slog.Debug("closing the status", "error", err)
		}
	}
}
