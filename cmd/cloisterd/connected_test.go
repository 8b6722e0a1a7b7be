package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
)

// TestStartedByConnection: where no endpoint speaks HTTP, the first connection starts
// the application, before which nothing is asked of anybody; it and others are held
// until the application listens.
func TestStartedByConnection(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	r := newRoomWith(t, os.Getuid(), func(r *cleanroom.Room) {
		buildProgram(t, r, "server")
		r.Application = []string{"--start", "manual"}
		r.Ports = [][]string{{"--name", "bytes", "--port", port, "--application-port", "8080", "--protocol", "tcp"}}
	})
	run := r.launch()
	run.says("the run waits for a call")
	if strings.Contains(run.stderr.String(), "consent is asked") {
		t.Error("consent is asked before a connection")
	}
	plain, end := called{process: run}.proxy("127.0.0.1:" + port)
	var held []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", plain)
		must(t, err)
		defer conn.Close()
		fmt.Fprint(conn, "GET /read HTTP/1.1\r\nHost: room\r\n\r\n")
		held = append(held, conn)
	}
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("$IN/server 8080 &")
	for _, conn := range held {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("answered %d", resp.StatusCode)
		}
	}
	end()
	run.tell("exit 0")
	run.ends(0)
}
