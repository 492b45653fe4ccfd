# The same targets on a laptop and in CI. Building and testing needs Go and git; only "generate" and
# "check-generated" need clang, and the module proxy for controller-gen.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

export CGO_ENABLED ?= 0

# Without a readable repository (a tarball, another user's clone) go build could not stamp the commit.
BUILDVCS    := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
# Tests build without -trimpath, too: with it, every library would be compiled once more.
GO_BUILD    := go build -buildvcs=$(BUILDVCS) -ldflags '-X main.version=$(VERSION) -X main.Version=$(VERSION)'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The committed objects come from this clang; another release gives other bytes.
CLANG_VERSION := 14
export BPF2GO_CC    ?= clang-$(CLANG_VERSION)
export BPF2GO_STRIP ?= llvm-strip-$(CLANG_VERSION)

BENCHSTAT    := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
CONTROL_PKGS := ./core/labels ./core/lb ./core/policy ./core/flow ./core/matrix ./adapters/filestore ./adapters/runtime

GENERATED := 'bpf/*_bpf*.go' 'bpf/*.o'
GENERATED_CRDS := 'adapters/kubernetes/crds/cilium.io_*.yaml' 'adapters/kubernetes/apis/*/zz_generated.*'

FUZZTIME ?= 10s
PKGS     ?= ./...

# Extra flags of the conformance run, as in CONFORMANCE="-keep -procs 2".
CONFORMANCE ?=
FOCUS       ?=

SEED    ?= 1
SEEDS   ?= 20
PACKETS ?= 50000

BENCHTIME ?= 1000000x

K8S_REQUIRE ?= kube,kube-nodes

# Tests that start weir's programs find them in $PATH; a later test must not be answered from the
# cache of a run on another kernel or as another user.
TEST := PATH="$(CURDIR)/bin:$$PATH" go run ./test/cmd/testreport -count=1

.DEFAULT_GOAL := help
.PHONY: help demo build image generate generate-crds check-generated check-generated-crds fmt lint test race test-bpf k8s-api test-k8s conformance soak test-netns test-kernels fuzz mutants bench bench-bpf bench-control bench-core check clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: build ## build, then watch a small cluster work (KEEP=1 leaves it up)
	@bin/weir demo

build: ## build the binaries into bin/
	@mkdir -p bin
	$(GO_BUILD) -o bin/ ./cmd/...

IMAGE     ?= docker.io/weirnet/weir:$(VERSION)
IMAGE_TAR ?= bin/image.tar

image: ## the image for clusters as a docker-archive, without a registry (IMAGE, IMAGE_TAR)
	@mkdir -p bin/image
	$(GO_BUILD) -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.Version=$(VERSION)' -o bin/image/ \
		$$(awk '$$1 == "program" { print "./cmd/" $$2 }' deploy/image/content)
	@BIN=bin/image deploy/image/build.sh $(IMAGE_TAR) $(IMAGE)

generate: generate-crds ## compile the eBPF programs and their Go bindings (installs clang if missing), write the definitions of the cilium.io kinds
	@CLANG_VERSION=$(CLANG_VERSION) .ci/clang
	go generate ./bpf/...

generate-crds:
	go generate ./adapters/kubernetes/crds

check-generated: check-generated-crds ## what is committed as generated is what the sources give
	@if reason=$$(CLANG_VERSION=$(CLANG_VERSION) .ci/clang); then \
		go generate ./bpf/... && \
		git diff --exit-code --stat HEAD -- $(GENERATED) && \
		new=$$(git ls-files --others --exclude-standard -- $(GENERATED)) && [ -z "$$new" ] || \
		{ echo "check-generated: what is committed under bpf/ does not come from the sources: run make generate and commit:"; \
		  git status --short -- $(GENERATED); exit 1; }; \
	else \
		echo "check-generated: SKIPPED: $$reason"; \
	fi

check-generated-crds: generate-crds
	@git diff --exit-code --stat HEAD -- $(GENERATED_CRDS) && \
		new=$$(git ls-files --others --exclude-standard -- $(GENERATED_CRDS)) && [ -z "$$new" ] || \
		{ echo "check-generated: the definitions under adapters/kubernetes do not come from the types: run make generate and commit:"; \
		  git status --short -- $(GENERATED_CRDS); exit 1; }

fmt: ## format the Go files
	gofmt -w $$(git ls-files '*.go')

lint: ## gofmt, go vet, staticcheck
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		[ -z "$$bad" ] || { echo "not formatted (make fmt):"; echo "$$bad"; exit 1; }
	go vet $(PKGS)
	go run $(STATICCHECK) $(PKGS)

test: build k8s-api ## run every test this machine can run, list what it skipped and why
	@$(TEST) $(PKGS)

race: build k8s-api ## the same with the race detector (needs a C compiler)
	@CGO_ENABLED=1 $(TEST) -race $(PKGS)

test-bpf: build ## the eBPF programs, as root; nothing may be skipped
	@REQUIRE=root,bpf $(TEST) ./bpf/... ./adapters/ebpf/... ./test/differential/...

# Tests against the Kubernetes API want its server, which is built once and kept in the user's cache;
# without it they say what is missing.
k8s-api:
	@test/k8s/build.sh apiserver >/dev/null || echo "test: no kube-apiserver: what needs it is skipped"

test-k8s: build ## as root: a Kubernetes of three nodes, built from source on first use (K8S_REQUIRE= skips what cannot be)
	@test/k8s/build.sh cluster >/dev/null || [ -z "$(K8S_REQUIRE)" ]
	@figures=$$(mktemp); trap "rm -f $$figures" EXIT; \
		WEIR_K8S_NODES=1 WEIR_K8S_REPORT=$$figures WEIR_BIN=$(CURDIR)/bin REQUIRE=$(K8S_REQUIRE) $(TEST) -p 1 -timeout 40m ./test/k8s/...; \
		status=$$?; cat $$figures; exit $$status

conformance: build ## as root: Kubernetes' own network tests against weir, a quarter of an hour or more (FOCUS=regexp for some of them)
	@WEIR_BIN=$(CURDIR)/bin go run ./test/k8s/cmd/conformance -focus '$(FOCUS)' $(CONFORMANCE)

soak: ## SEEDS simulated clusters from SEED on; then, as root, as many runs of PACKETS packets and socket calls: programs against the fake kernel
	@go test -v -count=1 -timeout 0 -run 'Sim$$' ./test/sim -soak -first $(SEED) -seeds $(SEEDS)
	@REQUIRE=root,bpf go test -v -count=1 -timeout 0 -run '^(TestRandom|TestSockets)$$' ./test/differential \
		-seed $(SEED) -seeds $(SEEDS) -packets $(PACKETS) -calls $(PACKETS)

test-netns: build ## what needs network namespaces, as root; nothing may be skipped
	@REQUIRE=root $(TEST) ./adapters/... ./cmd/... ./test/...

test-kernels: ## programs, adapters and a lab on Debian's 6.1 and 6.12 under QEMU (KERNELS="6.1")
	@go run ./test/kernels $(KERNELS)

fuzz: ## each fuzz target for FUZZTIME (10s); what it finds stays in the package's testdata/fuzz
	@ran=0; bad=; for dir in $$(go list -f '{{.Dir}}' $(PKGS)); do \
		for target in $$(grep -hos '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
			ran=$$((ran+1)); echo "== $${dir#$(CURDIR)/} $$target, $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$dir || bad="$$bad $$target"; \
		done; \
	done; \
	echo "fuzz: $$ran targets, $(FUZZTIME) each; found faults with: $${bad:-none}"; [ -z "$$bad" ]

mutants: k8s-api ## change one decision at a time and see that a test notices (MUTANTS=regexp for some of them)
	@go run ./test/mutants -run '$(MUTANTS)'

bench: build ## as root: weir against the kernel's own forwarding, side by side (BENCH="--case . --store run.json")
	@bin/weir lab bench $(BENCH)

bench-core: ## the benchmarks of core
	go test -run '^$$' -bench . -benchmem ./core/...

bench-control: build ## as root: the control plane as a whole (CONTROL=-check), then its parts against the stored baseline
	@go run ./test/bench/control $(CONTROL)
	@new=$$(mktemp); trap "rm -f $$new" EXIT; \
		go test -p 1 -run '^$$' -bench . -benchmem -benchtime 200ms -count 6 $(CONTROL_PKGS) >$$new || { cat $$new; exit 1; }; \
		go run $(BENCHSTAT) test/bench/baseline/control.txt $$new || cat $$new

bench-bpf: ## per-packet cost of each program's paths, and the instructions the verifier walked, as root
	@REQUIRE=bpf go test -count=1 -v -run ProgramsLoadWithinTheirBudget -bench "Packet|Connect" -benchtime $(BENCHTIME) ./adapters/ebpf

check: lint test ## what has to pass before a commit

clean: ## remove what make built
	rm -rf bin
