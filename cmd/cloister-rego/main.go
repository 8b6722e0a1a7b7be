// Command cloister-rego evaluates policies written in Rego for the runtime, which
// starts it: package enclave/rego has the protocol. It opens nothing: its lanes
// are open when it starts, and before it reads from them it gives up everything
// but computing.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"

	"cloister/enclave/launch"
	"cloister/enclave/rego"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cloister-rego:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("the runtime starts this program, with the number of its lanes")
	}
	n, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		return fmt.Errorf("reading the number of lanes: %w", err)
	}
	lanes, err := openLanes(int(n))
	if err != nil {
		return err
	}
	if err := confine(); err != nil {
		return err
	}
	serve(lanes)
	return nil
}

const firstLane = 3 // its descriptor

func openLanes(n int) (lanes []net.Conn, err error) {
	for i := range n {
		f := os.NewFile(uintptr(firstLane+i), "lane")
		lane, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("opening lane %d: %w", i, err)
		}
		lanes = append(lanes, lane)
	}
	return lanes, nil
}

const (
	// softMemory bytes is where the garbage collector works harder, maxMemory where
	// the kernel gives no more and the process ends: a policy that keeps what it
	// makes must not take the runtime's.
	softMemory = 192 << 20
	maxMemory  = 448 << 20
)

func confine() error {
	debug.SetMemoryLimit(softMemory)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: maxMemory, Max: maxMemory}); err != nil {
		return fmt.Errorf("bounding memory: %w", err)
	}
	return launch.Seal()
}

// serve answers on each lane until the runtime closes it.
func serve(lanes []net.Conn) {
	policies := &policies{}
	var all sync.WaitGroup
	for _, lane := range lanes {
		all.Go(func() { answer(lane, policies) })
	}
	all.Wait()
}

func answer(lane net.Conn, p *policies) {
	defer lane.Close()
	r := bufio.NewReader(lane) // head and text with one call
	for {
		q, err := rego.ReadQuestion(r)
		if err != nil {
			return
		}
		if _, err := p.answer(q).WriteTo(lane); err != nil {
			return
		}
	}
}
