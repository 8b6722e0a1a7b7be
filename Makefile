# make demo   the main job, end to end, on this machine
# make test   sets up what the tests need, then runs them
SHELL := /bin/bash
export CGO_ENABLED := 0
export GOFLAGS := -trimpath

BIN := bin
BINARIES := cloister cloisterd cloister-rego cloister-ledger

.PHONY: all build frameworks pkcs11 demo test test-enforcer test-kubernetes test-all test-setup bench man lint fuzz cross clean image image-root image-twice

all: build

# The platform's enforcement frameworks, which `cloister policy test` embeds.
frameworks:
	@go run ./policy/framework/fetch

build: frameworks
	@mkdir -p $(BIN)
	go build -tags urfave_cli_no_docs -o $(BIN)/ $(addprefix ./cmd/,$(BINARIES))

# The helper for hardware keys: the one program of ours that links C.
pkcs11: export CGO_ENABLED = 1
pkcs11:
	@./internal/setup/install gcc libc6-dev:gcc
	@mkdir -p $(BIN)
	go build -o $(BIN)/ ./cmd/cloister-pkcs11

# The container images of the runtime and of the shim, for production, without a
# container engine: an OCI layout, with an SBOM attached to each, and beside it the
# entries for the signed index of runtime images. What is built here is the
# source's alone: the toolchain is the one that go.mod names, nothing of this
# machine, its clock or its checkout goes in.
IMAGE := $(BIN)/image
REPOSITORY ?= cloister.example
image: image-root
	@rm -rf $(IMAGE)/layout
	@go run ./internal/image/build -bin $(IMAGE)/root -out $(IMAGE)/layout -entries $(IMAGE)/entries.json -repository $(REPOSITORY)

image-root: export GOTOOLCHAIN = go$(shell sed -n 's/^go //p' go.mod)
image-root: export GOOS = linux
image-root: export GOARCH = amd64
image-root: export GOAMD64 = v1
image-root:
	@rm -rf $(IMAGE)/root && mkdir -p $(IMAGE)/root
	go build -buildvcs=false -ldflags='-s -w -buildid=' -tags production,urfave_cli_no_docs -o $(IMAGE)/root/ ./cmd/cloisterd ./cmd/cloister-rego ./cmd/cloister-shim

# Two clean builds, in two places, with a build cache each, give the same images.
image-twice:
	@./internal/image/twice

# The manual page, bin/cloister.1, out of the commands themselves.
man:
	@mkdir -p $(BIN)
	go run ./cmd/cloister man > $(BIN)/cloister.1

demo: build
	go run ./demo -bin $(BIN)

# What the tests need beyond Go: fuse3 for mounts without root; git, sqlite3,
# ripgrep, python3, curl, tar, rsync and DuckDB as programs to run on a mount; veritysetup as
# a second opinion on layers' hashes; swtpm as the TPM of a confidential VM; SoftHSM as
# a token for keys, and a C compiler for the helper that speaks to it; strace to kill a
# program at a system call; Chromium to look at the ledger's page; Azurite as the
# blob store; podman and runc to run the images, busybox as what is in an application's;
# Linux in user mode as a kernel whose control groups are all of version 2.
test-setup:
	@./internal/setup/install fuse3 git sqlite3 ripgrep:rg python3 curl tar rsync nodejs:node npm swtpm cryptsetup-bin:veritysetup strace chromium user-mode-linux:linux.uml
	@./internal/setup/install softhsm2:softhsm2-util gcc libc6-dev:gcc
	@./internal/setup/fuse
	@./internal/setup/npm azurite azurite
	@./internal/setup/npm duckdb @duckdb/node-api
	@./internal/setup/npm chromium playwright-core
	@./internal/setup/install podman runc conmon catatonit busybox-static:busybox

test: test-setup build cross lint test-enforcer
	go test -timeout 18m ./...

# The platform vendor's own enforcer, in a module of its own, at two of its
# versions, on what we generate.
test-enforcer: frameworks
	cd policy/enforcer && go test -tags rego . && go test -tags rego -modfile=earlier.mod .

# The generated manifests, read strictly with Kubernetes' types and dry-run by a real
# API server, in a module of its own. The server is built once from the module that
# go.mod there pins (some ten minutes on two cores); etcd is Debian's.
test-kubernetes: .cache/kube-apiserver
	@./internal/setup/install etcd-server:etcd
	cd policy/template/kubernetes && go test .

.cache/kube-apiserver: policy/template/kubernetes/go.mod
	@mkdir -p .cache
	cd policy/template/kubernetes && go build -ldflags=-s -o ../../../.cache/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver

# Slower: the race detector (needs a C compiler), every fuzz target for a
# minute, readers of every kind on a failing store for two, random operations on an
# output mount for as long, the images built twice, manifests at a real API server.
test-all: test fuzz image-twice test-kubernetes
	CLOISTER_SOAK=2m go test -count=1 -run '^(TestSoak|TestOutputRandom)$$' -v ./fs/mount
	CGO_ENABLED=1 go test -race -timeout 60m ./...

FUZZTIME ?= 60s
fuzz:
	@set -e; for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg; \
	  done; done

# Side by side with its peers: the whole table takes under an hour, a row a
# minute or less: make bench ONLY='random 4 KiB' (go run ./internal/bench -list
# names the rows).
ONLY ?= .
bench: build
	@./internal/setup/install fuse3 git sqlite3 nodejs:node npm e2fsprogs:mkfs.ext4 gocryptfs rclone restic wrk
	@./internal/setup/npm azurite azurite
	go run ./internal/bench -bin $(BIN) -only '$(ONLY)' $(BENCHFLAGS)

# The owner's tool also runs where there is no FUSE.
cross:
	@for target in windows/amd64 darwin/arm64 linux/arm64; do \
	  echo "build $$target"; GOOS=$${target%/*} GOARCH=$${target#*/} go build -o /dev/null ./cmd/cloister || exit 1; done

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet ./...

clean:
	rm -rf $(BIN) .cache
