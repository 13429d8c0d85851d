# make help lists what there is to make. Nothing here installs anything.

# Tools and their versions, fetched and run by go itself.
GO       ?= go
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# How long each fuzz target runs, and how many run at once with one worker each.
FUZZTIME ?= 30s
FUZZJOBS ?= 2
# The systems that the programs are built for. arm is ARMv7.
SYSTEMS  ?= linux/amd64 linux/arm64 linux/arm linux/riscv64 darwin/amd64 darwin/arm64 \
            windows/amd64 windows/arm64 freebsd/amd64 freebsd/arm64
# And the machines that there are Linux packages for.
MACHINES ?= amd64 arm64 arm riscv64

# A tag's version, else the one that stands in the source. Every file of a release is as
# old as its commit.
VERSION           ?= $(or $(patsubst v%,%,$(shell git describe --tags --exact-match --match 'v*' 2>/dev/null)),$(shell sed -n 's/^var Version = "\(.*\)"/\1/p' proxy/version.go))
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
RELEASE           := GO='$(GO)' VERSION='$(VERSION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' deploy/packages/build

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: build
build: ## both programs, static, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X github.com/sshka/sshka-proxy/proxy.Version=$(VERSION)' -o bin/ ./cmd/...

.PHONY: example
example: ## copy config.example.yaml's part of the proxy to where init embeds it
	sed '/^relay:/,$$d' config.example.yaml | sed '$${/^$$/d}' > cmd/sshka-proxy/init_config.yaml

.PHONY: golden
golden: ## write what init prints anew, to be read in the diff
	SSHKA_GOLDEN=write $(GO) test -run '^TestTheBlocksOfInit$$' ./cmd/sshka-proxy

.PHONY: demo
demo: ## a quarter of a minute: an ssh that dies in a forgetful router, and one that lives
	$(GO) run ./cmd/sshka-proxy demo

# The printed lines work from another terminal, against this machine's own sshd.
.PHONY: run
run: build ## the daemon with config.example.yaml and a relay in itself, to try
	@echo 'try, in another terminal (each logs in to the sshd of this machine):'
	@echo '  ssh -o ProxyCommand="$(CURDIR)/bin/sshka-proxy --relay embedded %h %p" localhost'
	@echo '  ssh -o ProxyCommand="nc -X 5 -x 127.0.0.1:1080 %h %p" localhost'
	@echo '  curl http://127.0.0.1:9470/metrics'
	bin/sshka-proxy serve --config config.example.yaml --relay embedded

# The race detector needs a C compiler. The end-to-end tests skip themselves.
.PHONY: test
test: ## the tests that need nothing but Go
	@race=-race; cc=$$($(GO) env CC); \
	if ! command -v "$${cc%% *}" >/dev/null; then race=; echo "no C compiler ($$cc): tests run without the race detector"; fi; \
	echo "end-to-end tests are skipped here: make e2e runs them"; \
	set -x; SSHKA_E2E= $(GO) test $$race -shuffle=on ./...

# Counters that wrap, sizes that become negative: there are relays on 32 bits, too.
.PHONY: test-32
test-32: ## the tests of protocol, sessions and links as a 32-bit program (x86)
	SSHKA_E2E= CGO_ENABLED=0 GOARCH=386 $(GO) test ./proxy/wire ./proxy/session ./proxy/link ./proxy

# Other seeds every time; a session that fails says how to run it alone.
SOAK ?= 20000

.PHONY: soak
soak: ## SOAK sessions of the model test, over random cuts: some minutes
	SSHKA_MODEL_SESSIONS=$(SOAK) SSHKA_MODEL_SEED=$${SSHKA_MODEL_SEED:-$$(date +%s)} \
		$(GO) test -count=1 -timeout=30m -v -run '^TestModel$$' ./proxy/session

.PHONY: mutants
mutants: ## each rule of a session switched off, which its test has to find: some minutes
	SSHKA_MUTANTS=run $(GO) test -count=1 -timeout=30m -v -run '^TestMutants' ./proxy/session

.PHONY: e2e
e2e: ## ssh, sshd and NATs in network namespaces (Linux, root)
	SSHKA_E2E=$${SSHKA_E2E:-run} $(GO) test -count=1 -timeout=10m -v ./test/

.PHONY: e2e-all
e2e-all: ## make e2e with its long tests: outages of half a minute, thousands of links and sessions
	SSHKA_E2E=$${SSHKA_E2E:-run} SSHKA_E2E_ALL=1 $(GO) test -count=1 -timeout=40m -v ./test/

# Taken by the test of the page, from a real daemon.
.PHONY: screenshot
screenshot: ## docs/status-page.png anew (Linux, root, chromium)
	SSHKA_E2E=require SSHKA_SCREENSHOT=$(CURDIR)/docs/status-page.png $(GO) test -count=1 -v -run '^TestTheStatusPage$$' ./test/

.PHONY: fuzz-list
fuzz-list: ## every fuzz target, as PACKAGE NAME
	@$(GO) list -f '{{$$p := .}}{{range .TestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}' ./... | \
	while read -r package file; do \
		if [ -n "$$file" ]; then sed -n "s|^func \(Fuzz[A-Za-z0-9_]*\)(.*|$$package \1|p" "$$file"; fi; \
	done

# Each target's output is shown when it is done, so that two at once stay readable. Go 1.26
# takes the end of FUZZTIME for a failure now and then, without an input that fails
# (https://go.dev/issue/75804, mended in 1.27): such a run is repeated.
.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME, FUZZJOBS at once
	@$(MAKE) fuzz-list | FUZZTIME=$(FUZZTIME) xargs -P $(FUZZJOBS) -L 1 bash -c ' \
		for try in 1 2 3; do \
			if out=$$($(GO) test -run "^$$" -fuzz "^$$1\$$" -fuzztime "$$FUZZTIME" -parallel 1 "$$0" 2>&1); \
			then echo "ok   $$0 $$1: $$(grep -o "execs: [0-9]*" <<<"$$out" | tail -1)"; exit 0; fi; \
			if ! grep -A1 -e "^--- FAIL" <<<"$$out" | grep -qx " *context deadline exceeded" || grep -q "Failing input" <<<"$$out"; then break; fi; \
			echo "     $$0 $$1: stopped late by Go, once more"; \
		done; \
		printf "FAIL %s %s\n%s\n" "$$0" "$$1" "$$out"; exit 1'

# What benchstat reads: make bench BENCH_COUNT=10 >old.txt, then new.txt, then benchstat old.txt new.txt.
BENCH_COUNT ?= 1

.PHONY: bench
bench: ## the benchmarks of wire, session, link and the whole path
	$(GO) test -run='^$$' -bench=. -benchmem -count=$(BENCH_COUNT) -p 1 ./...

# Ratios within one run, so that a busy machine does not fail it.
.PHONY: bench-guard
bench-guard: ## some seconds: complain if the whole path has become half as fast
	SSHKA_BENCH_GUARD=run $(GO) test -count=1 -timeout=5m -v -run='^TestGuard$$' ./proxy

# Peers that are not installed are left out; docs/performance.md tells more. SSHKA_COMPARE=short
# takes some minutes; SSHKA_COMPARE_ROUNDS, SSHKA_COMPARE_ONLY and SSHKA_COMPARE_OUT as they say there.
.PHONY: bench-compare
bench-compare: ## beside ssh, stunnel, socat and haproxy, into docs/performance.md: three hours (Linux, root)
	SSHKA_E2E=require SSHKA_COMPARE=$${SSHKA_COMPARE:-1} \
		$(GO) test -count=1 -timeout=6h -v -run='^TestCompare$$' ./test/

SCRIPTS := .ci/run $(wildcard cmd/sshka-proxy/remote/*.sh) deploy/packages/build $(wildcard deploy/packages/deb/* deploy/packages/rpm/* deploy/packages/apk/*)

.PHONY: lint
lint: ## golangci-lint with gofumpt, and shellcheck where it is installed
	$(GO) run $(GOLANGCI) run ./...
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(SCRIPTS); else echo "shellcheck is not installed: $(SCRIPTS) are not checked"; fi

.PHONY: format
format: ## rewrite every file as lint wants it
	$(GO) run $(GOLANGCI) fmt ./...

.PHONY: tidy
tidy: ## complain if go.mod or go.sum is not as it should be
	$(GO) mod verify
	$(GO) mod tidy -diff

# With the flags of a release, so that make dist finds all of it compiled.
.PHONY: cross
cross: ## vet everything and build the programs for every system
	@for system in $(SYSTEMS); do \
		echo "$$system"; \
		export CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} GOARM=7; \
		$(GO) vet -trimpath -buildvcs=false ./...; \
		$(GO) build -trimpath -buildvcs=false -o /dev/null ./cmd/...; \
	done

.PHONY: dist
dist: ## an archive for every system into dist/, with SHA256SUMS; the same bytes every time
	@rm -rf dist
	@$(RELEASE) archives $(SYSTEMS)
	@$(RELEASE) sums

.PHONY: packages
packages: ## deb, rpm and apk into dist/, beside what is there
	@rm -f dist/build/shared/done
	@$(RELEASE) packages $(MACHINES)
	@$(RELEASE) sums

.PHONY: images
images: ## what deploy/container's Containerfiles copy, into dist/container
	@rm -f dist/build/shared/done
	@$(RELEASE) images $(MACHINES)

.PHONY: ci
ci: ## everything, as the build server does
	.ci/run

.PHONY: clean
clean: ## remove what make built
	rm -rf bin dist
