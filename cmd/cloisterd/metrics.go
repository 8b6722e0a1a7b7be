package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"cloister/fs"
	"cloister/internal/fault"
)

// Metrics are in the text format of Prometheus, version 0.0.4, written by hand:
// they are lines. Of 188 packages and 18.7 MiB that the production runtime links,
// client_golang 1.25.0 would have made 205 and 19.5, and OpenTelemetry's SDK 1.47.0
// with its OTLP exporter over HTTP 323 and 22.0, in the trusted computing base.

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// writeMetrics writes all there is to say at the moment.
func (m *monitor) writeMetrics(w io.Writer) {
	s := m.read()
	family := func(name, kind, help string) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	each := func(name, help string, value func(volumeStatus) uint64) {
		family(name, "counter", help)
		for _, v := range s.Volumes {
			fmt.Fprintf(w, "%s{volume=%q} %d\n", name, v.Name, value(v))
		}
	}
	each("cloister_reads_total", "Reads of the application that the kernel passed on.", func(v volumeStatus) uint64 { return v.Reads })
	each("cloister_read_bytes_total", "Bytes of those.", func(v volumeStatus) uint64 { return v.ReadBytes })
	each("cloister_cache_hits_total", "Ranges that were in memory, or on their way.", func(v volumeStatus) uint64 { return v.Hits })
	each("cloister_cache_misses_total", "Ranges that were fetched for a read.", func(v volumeStatus) uint64 { return v.Misses })
	each("cloister_written_bytes_total", "Bytes that the application wrote.", func(v volumeStatus) uint64 { return v.Written })
	family("cloister_read_seconds", "histogram", "How long those reads took, of inputs.")
	reads := m.readLatencies()
	for _, name := range sorted(reads) {
		writeHistogram(w, reads[name], "cloister_read_seconds", fmt.Sprintf("volume=%q", name))
	}
	family("cloister_application_starts_total", "counter", "Starts of the application.")
	fmt.Fprintf(w, "cloister_application_starts_total %d\n", s.Starts)
	m.mu.Lock()
	stores := maps.Clone(m.stores)
	m.mu.Unlock()
	family("cloister_store_errors_total", "counter", "Requests to stores that failed.")
	for _, name := range sorted(stores) {
		fmt.Fprintf(w, "cloister_store_errors_total{volume=%q} %d\n", name, stores[name].errors.Load())
	}
	family("cloister_store_request_seconds", "histogram", "How long requests to stores took.")
	for _, name := range sorted(stores) {
		writeHistogram(w, &stores[name].latency, "cloister_store_request_seconds", fmt.Sprintf("volume=%q", name))
	}
	family("cloister_ledger_request_seconds", "histogram", "How long the ledger took for consent and audit.")
	writeHistogram(w, &m.consent.latency, "cloister_ledger_request_seconds", `kind="consent"`)
	writeHistogram(w, &m.audit.latency, "cloister_ledger_request_seconds", `kind="audit"`)
	family("cloister_ledger_append_seconds", "histogram", "How long the ledger took to append, whatever was said.")
	writeHistogram(w, &m.appends.latency, "cloister_ledger_append_seconds", fmt.Sprintf("run=%q", s.Run))
	family("cloister_ledger_errors_total", "counter", "Consent that was not given or not answered, and records that were not accepted.")
	fmt.Fprintf(w, "cloister_ledger_errors_total{kind=\"consent\"} %d\ncloister_ledger_errors_total{kind=\"audit\"} %d\n", m.consent.errors.Load(), m.audit.errors.Load())
}

func writeHistogram(w io.Writer, l *fs.Latency, name, labels string) {
	count, sum := l.Each(func(end time.Duration, atMost uint64) {
		fmt.Fprintf(w, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels, end.Seconds(), atMost)
	})
	fmt.Fprintf(w, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %g\n%s_count{%s} %d\n",
		name, labels, count, name, labels, sum.Seconds(), name, labels, count)
}

// readLatencies are of the inputs, by name.
func (m *monitor) readLatencies() map[string]*fs.Latency {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]*fs.Latency{}
	for name, v := range m.volume {
		if v.input != nil {
			all[name] = v.input.ReadLatency()
		}
	}
	return all
}

// checkLocal refuses an address that others could reach: who reads metrics sees
// how the application reads.
func checkLocal(address string) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fault.Errorf(fault.Usage, "give a loopback address, such as 127.0.0.1:9464", "--metrics %s is not on this machine alone", address)
	}
	return nil
}

// serveMetrics serves them until the listener is closed.
func (m *monitor) serveMetrics(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.Errorf(fault.Conflict, "give another port", "serving metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		m.writeMetrics(w)
	})
	go func() { _ = (&http.Server{Handler: mux, ReadHeaderTimeout: answerTime}).Serve(l) }()
	return l, nil
}
