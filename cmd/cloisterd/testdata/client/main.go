// Command client is an application that calls: get URL asks the proxy that its
// environment names, whatever the host, and prints status and body; reach NETWORK
// ADDRESS and resolve NAME try without it, and exit with 9 where they fail.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// patience bounds what is tried; nothing is measured by it.
const patience = 10 * time.Second

func main() {
	var err error
	switch os.Args[1] {
	case "get":
		err = get(os.Args[2])
	case "reach":
		_, err = net.DialTimeout(os.Args[2], os.Args[3], patience)
	case "resolve":
		_, err = net.LookupHost(os.Args[2])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(9)
	}
}

func get(address string) error {
	proxy, err := url.Parse(os.Getenv("http_proxy"))
	if err != nil {
		return err
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	resp, err := client.Get(address)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body))
	return err
}
