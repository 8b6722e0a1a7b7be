package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/prep/tree"

	urfave "github.com/urfave/cli/v2"
)

// callCommand is "cloister call": one request to a clean room's endpoint.
func callCommand() *urfave.Command {
	return &urfave.Command{
		Name: "call", Usage: "send a request to a clean room, once it has proven to be the agreed one", ArgsUsage: "URL",
		Description: "Nothing is sent before the room's evidence, contract and connection are verified\n" +
			"(attested/PROTOCOL.md). The response's body goes to standard output. A status of\n" +
			"400 and more gives an exit code other than 0: 4 for 401 and 403, 3 for 404, 7 for\n" +
			"429 and 500 and more, otherwise 2; a room that is refused gives 5, and its reasons.",
		Flags: append(roomFlags(),
			&urfave.StringFlag{Name: "method", Aliases: []string{"X"}, Usage: "the request's `METHOD`", DefaultText: "GET, or POST with --data"},
			&urfave.StringFlag{Name: "data", Usage: "send this `FILE` as the body; - is standard input"},
			&urfave.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "send `'NAME: VALUE'` too; not for secrets, which other users of the machine would see"},
			&urfave.StringFlag{Name: "headers", Usage: "send the headers in `FILE` too, one a line; - is standard input"},
			&urfave.StringFlag{Name: "out", Usage: "write the response's body to this new `FILE`"},
			&urfave.BoolFlag{Name: "include", Aliases: []string{"i"}, Usage: "print the response's status and headers on standard error"},
			&urfave.BoolFlag{Name: "http2", Usage: "speak HTTP/2"}),
		Action: action(runCall, "URL"),
	}
}

func runCall(c *urfave.Context, args []string) error {
	request, err := requestOf(c, args[0])
	if err != nil {
		return err
	}
	if request.Body != nil {
		defer request.Body.Close()
	}
	client, err := roomClient(c)
	if err != nil {
		return err
	}
	transport := client.Transport(c.Bool("http2"))
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if c.Bool("include") {
		printHead(c.App.ErrWriter, resp)
	}
	if err := keepBody(c, resp.Body); err != nil {
		return err
	}
	return statusError(resp.StatusCode)
}

func requestOf(c *urfave.Context, url string) (*http.Request, error) {
	if c.String("data") == "-" && c.String("headers") == "-" {
		return nil, fault.Errorf(fault.Usage, "give one of them a file", "body and headers cannot both be standard input")
	}
	body, size, err := bodyOf(c)
	if err != nil {
		return nil, err
	}
	method := c.String("method")
	if method == "" && body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(c.Context, method, url, body)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give the address of an endpoint, https://HOST:PORT/…", "%w", err)
	}
	if size >= 0 {
		r.ContentLength = size
	}
	return r, addHeaders(c, r)
}

// bodyOf returns --data, and its size where that is known, else -1.
func bodyOf(c *urfave.Context) (io.Reader, int64, error) {
	switch path := c.String("data"); path {
	case "":
		return nil, 0, nil
	case "-":
		return c.App.Reader, -1, nil
	default:
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, fault.Errorf(fault.NotFound, "", "--data: %w", err)
		}
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return f, -1, err
		}
		return f, info.Size(), nil
	}
}

func addHeaders(c *urfave.Context, r *http.Request) error {
	lines := c.StringSlice("header")
	if path := c.String("headers"); path != "" {
		more, err := headerLines(c, path)
		if err != nil {
			return err
		}
		lines = append(lines, more...)
	}
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return fault.Errorf(fault.Usage, "write 'NAME: VALUE'", "header %d is not one", i+1) // it may be a secret
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return nil
}

func headerLines(c *urfave.Context, path string) (lines []string, err error) {
	var in io.Reader = c.App.Reader
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fault.Errorf(fault.NotFound, "", "--headers: %w", err)
		}
		defer f.Close()
		in = f
	}
	scan := bufio.NewScanner(in)
	for scan.Scan() {
		if line := strings.TrimSpace(scan.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, scan.Err()
}

func printHead(w io.Writer, resp *http.Response) {
	fmt.Fprintf(w, "%s %s\n", resp.Proto, cli.Printable(resp.Status))
	for name, values := range resp.Header {
		for _, v := range values {
			fmt.Fprintf(w, "%s: %s\n", cli.Printable(name), cli.Printable(v))
		}
	}
}

// keepBody writes a response whole, or to a file not at all.
func keepBody(c *urfave.Context, body io.Reader) error {
	path := c.String("out")
	if path == "" {
		if _, err := io.Copy(c.App.Writer, body); err != nil {
			return fault.Errorf(fault.Incomplete, "call again", "the response ended early: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fault.Errorf(fault.Conflict, "choose another name, or remove it first", "%s is already there", path)
	}
	if err != nil {
		return tree.Explain("writing", path, err)
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fault.Errorf(fault.Incomplete, "call again", "the response ended early, or could not be written to %s: %w", path, err)
	}
	return nil
}

// statusError is the exit code of a response's status.
func statusError(status int) error {
	kind := fault.Usage
	switch {
	case status < 400:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind = fault.Denied
	case status == http.StatusNotFound:
		kind = fault.NotFound
	case status == http.StatusTooManyRequests || status >= 500:
		kind = fault.Unavailable
	}
	return fault.Errorf(kind, "", "the clean room answered %d %s", status, http.StatusText(status))
}
