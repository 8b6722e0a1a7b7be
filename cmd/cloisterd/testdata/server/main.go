// Command server is an application that is called: it says what was asked, and echoes
// a WebSocket's messages; as `server grpc PORT` it is a service of gRPC. It listens at
// the port that is its last argument.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/coder/websocket"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/say", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q", r.Method, r.URL, r.Header.Get("X-Test"), body)
	})
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, os.Getenv("IN")+"/private/secret.txt")
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(4 << 20)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	fmt.Fprintln(os.Stderr, serve(mux))
	os.Exit(1)
}

func serve(mux http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[len(os.Args)-1])
	if err != nil {
		return err
	}
	if os.Args[1] == "grpc" {
		return newService().Serve(l)
	}
	return http.Serve(l, mux)
}
