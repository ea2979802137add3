# make demo   build, and run one agent with everything embedded
# make check  build, vet, lint and short tests, in less than two minutes
# make test   install what the tests need, check the code, run all tests
# make bench  measure, and print a table of ratios, in Markdown; BENCH_FLAGS=-short takes three minutes
# make chaos  break a cluster at random for DURATION, and say whether it stayed consistent
# make help   all targets

SHELL := /bin/bash
.DEFAULT_GOAL := build

BIN       := bin/holdfast
VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Commands that the tests run, each with the Debian package that has it.
TEST_TOOLS := python3=python3 node=nodejs curl=curl sqlite3=sqlite3 gcc=gcc,libc6-dev git=git openssl=openssl flock=util-linux ip=iproute2 \
	zsh=zsh php=php-cli ruby=ruby nginx=nginx-light mosquitto=mosquitto mosquitto_sub=mosquitto-clients chromium=chromium systemd-nspawn=systemd-container promtool=prometheus
# Debian packages that they need and that have no command.
TEST_PACKAGES := systemd-sysv dbus python3-pydantic python3-paho-mqtt python3-cryptography node-mqtt php-vlucas-phpdotenv ruby-dotenv

GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Packages whose tests start clusters or take long; make check leaves them out.
CHECK_SKIP := /(agent|replication|replication/backup|replication/raftguard)$$|/testenv(/|$$)
# The rules of the tree and of the pages, which are fast.
CHECK_RULES := TestLayers|TestEveryPackageHasDoc|TestSizeAndManners|TestSizes|TestTopLevel|TestPages|TestDesignPagesNameWhatExists|TestPackageTable|TestDocBlocks|TestWords

# The race detector needs a C compiler; the product itself needs none.
RACE       = $(shell command -v gcc >/dev/null && echo -race)
TEST_FLAGS ?= -timeout 30m

# missing is what to do about something that is not there: under CI it fails,
# for a person it is said aloud.
missing = { if [ "$$CI" = true ]; then echo "FAIL: $(1)" >&2; exit 1; else echo "SKIPPED: $(1)" >&2; fi; }

.PHONY: help demo build check check-tests test test-tools test-go test-short lint vuln bench screenshots pairs chaos image image-dirs release fmt clean

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: build ## run one agent with the sample services, data in ./holdfast-data
	./$(BIN) dev

build: ## build bin/holdfast, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/holdfast

check: ## build, vet, gofumpt, staticcheck, short tests without a cluster; under 2 minutes
	go build ./...
	@$(MAKE) --no-print-directory -j2 --output-sync lint check-tests # the tests wait more than they compute

check-tests:
	go test -short -vet=off $$(go list ./... | grep -Ev '$(CHECK_SKIP)')
	go test -vet=off -run '^($(CHECK_RULES))$$' ./testenv

test: test-tools lint vuln test-go ## everything that has to hold

test-tools: ## install what the tests need
	@packages=; PATH=$$PATH:/usr/sbin; \
	for tool in $(TEST_TOOLS); do \
		command -v "$${tool%%=*}" >/dev/null || packages="$$packages $${tool#*=}"; \
	done; \
	for package in $(TEST_PACKAGES); do \
		dpkg -s "$$package" 2>/dev/null | grep -q '^Status: .* installed$$' || packages="$$packages $$package"; \
	done; packages=$${packages//,/ }; \
	if [ -z "$$packages" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$packages"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; } && exit 0; \
	fi; \
	$(call missing,not installed and needed by tests:$$packages)

lint: ## go vet, gofumpt, staticcheck
	go vet ./...
	@if ! go run $(GOFUMPT) -version >/dev/null 2>&1; then $(call missing,gofumpt cannot be fetched); \
	else bad=$$(go run $(GOFUMPT) -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not formatted (make fmt):"; echo "$$bad"; exit 1; }; fi
	@if ! go run $(STATICCHECK) -version >/dev/null 2>&1; then $(call missing,staticcheck cannot be fetched); \
	else echo staticcheck ./...; go run $(STATICCHECK) ./...; fi

vuln: ## known vulnerabilities of what is linked; needs the database on the network
	@out=$$(timeout 120 go run $(GOVULNCHECK) ./... 2>&1); rc=$$?; \
	if [ $$rc = 0 ]; then echo "govulncheck: no known vulnerability is reached"; \
	elif grep -q '^Vulnerability #' <<<"$$out"; then \
		echo "$$out"; echo "WARNING: govulncheck found the above; it does not fail the tests, since it may be known only since today" >&2; \
	else echo "SKIPPED: govulncheck: its database cannot be reached from here" >&2; fi

test-go:
	go test $(RACE) $(TEST_FLAGS) ./testenv ./... # the longest first, so that the others run beside it
	go test -run 'TestSimulation' $(TEST_FLAGS) ./replication
	HOLDFAST_TEST_RAFT_LOG=boltdb go test -short -run 'Flip|SmallVolume|Damage|KillLoop|FullDisk|Unwritable' $(TEST_FLAGS) ./testenv

test-short: ## the tests with shorter loops, without the race detector
	go test -short $(TEST_FLAGS) ./...

bench: build ## measure, and print a table in Markdown; needs an idle machine (BENCH_FLAGS=-short: 3 minutes)
	go run ./testenv/bench -agent ./$(BIN) $(BENCH_FLAGS)

screenshots: ## make the pictures of the documentation, docs/images/*.png, and say how long the page takes
	@mkdir -p docs/images
	HOLDFAST_PICTURES=$(CURDIR)/docs/images go test -trimpath ./testenv/cogtest -run '^TestPictures$$' -count=1 -v
	go test -trimpath ./testenv/servicetest ./testenv/pagetest -run '^(TestLargeServices|TestManyServices)$$' -count=1 -v | grep -E ' ms$$|^(ok|FAIL)'

DESIGN ?= ../shared/ui
PAIRS  ?= /tmp/holdfast-pairs
pairs: ## put each state of the page beside that of its design: DESIGN=directory PAIRS=directory
	HOLDFAST_DESIGN=$(abspath $(DESIGN)) HOLDFAST_PAIRS=$(abspath $(PAIRS)) go test -trimpath ./testenv/cogtest -run '^TestPairs$$' -count=1 -v

DURATION ?= 10m
SEED     ?= 0
chaos: ## break a cluster at random (DURATION=10m SEED=7), and say whether it stayed consistent
	go test ./testenv/chaos -run TestChaos -count=1 -v -timeout 0 -args -duration=$(DURATION) -seed=$(SEED) $(CHAOS_FLAGS)
	go test ./testenv/upgrade -count=1 -v -timeout 30m -args -all
	go test ./testenv/rendertest -run TestKills -count=1 -v -timeout 30m -args -all

# Services whose sidecars get a join token of their own from docker-compose.yml.
SERVICES ?= $(basename $(notdir $(wildcard testenv/schemas/*.json)))
image-dirs: # what volumes are mounted at, in the image: it gives them their owner
	rm -rf bin/image && mkdir -p -m 0755 bin/image
	mkdir -m 0700 -p bin/image/data bin/image/backups bin/image/tokens/server bin/image/tokens/sidecar $(SERVICES:%=bin/image/tokens/sidecar/%)

image: build image-dirs ## a container image with nothing but the binary
	docker build -t holdfast .

release: ## binaries, .deb and .rpm packages, checksums and contents, into dist/
	docs/deploy/package/release.sh dist

fmt: ## format the code
	go run $(GOFUMPT) -w $$(git ls-files '*.go')

clean: ## remove what was built; holdfast-data stays
	rm -rf bin dist
