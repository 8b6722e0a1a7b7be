package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"cloister/internal/image"

	"github.com/rogpeppe/go-internal/testscript"
)

// makeCSE seals a file as Azure clean room's CSE layout has it, one block of it,
// under a new key; see TestScripts. What the layout is, package prep's CSE says.
func makeCSE(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 4, "cse FILE KEYFILE SEALED BLOCK")
	block, err := strconv.Atoi(args[3])
	ts.Check(err)
	key := bytes.Repeat([]byte{7}, 32)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), key, 0o600))
	b, err := aes.NewCipher(key)
	ts.Check(err)
	aead, err := cipher.NewGCM(b)
	ts.Check(err)
	content := []byte(ts.ReadFile(args[0]))
	usage(ts, len(content) <= block, "a file of no more than a block")
	padded := append(content, make([]byte, block-len(content))...)
	nonce := make([]byte, 12)
	sealed := binary.BigEndian.AppendUint64(aead.Seal(nonce, nonce, padded, nil), uint64(block-len(content)))
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[2])), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), sealed, 0o644))
}

// makeRuntime writes a layout that stands for the runtime's images; see TestScripts.
func makeRuntime(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "runtime DIR")
	var all []image.Named
	for name, user := range map[string]string{"cloisterd": image.Root, "cloister-shim": image.Nobody} {
		img, err := image.Scratch(user, image.File{Path: "/" + name, Data: []byte(name)})
		ts.Check(err)
		all = append(all, image.Named{Name: name, Image: img})
	}
	ts.Check(image.WriteLayout(ts.MkAbs(args[0]), all...))
}

// findPort sets a variable to a TCP port on which nothing listens now.
func findPort(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "port VAR")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}
