# out_kinesis_agg: `make` lists the targets.

PLUGIN  := build/out_kinesis_agg.so
HOST    := build/abihost
READERS := test/readers/node_modules/.package-lock.json
INTEROP := build/interop

CC      ?= cc
# STRIP=1 leaves out symbols and debug information.
LDFLAGS := $(if $(STRIP),-s -w)

# For `make docker`.
FLUENT_BIT_IMAGE   ?= fluent/fluent-bit
FLUENT_BIT_VERSION ?= 5.1.1
IMAGE              ?= out_kinesis_agg:$(FLUENT_BIT_VERSION)

BUF         := github.com/bufbuild/buf/cmd/buf@v1.75.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The library is the same, byte for byte, from every checkout: no paths
# (-trimpath, below) and no version control in it.
export CGO_ENABLED := 1
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# All but test/e2e, which starts servers and loads the library into processes
# of their own, so that the race detector and fuzzing have nothing to see there.
PACKAGES = $$(go list ./... | grep -v /test/e2e)

comma := ,
# $(call need,COMMAND,HOW TO GET IT)
need = @command -v $(1) >/dev/null || { echo "make: $(1) is missing: $(2)" >&2; exit 1; }

.PHONY: help build $(PLUGIN) test demo bench bench-engine check fuzz soak docs proto docker interop clean need-go need-cc need-node need-interop

help: ## List the targets (default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(PLUGIN) $(HOST) ## Build the plugin and the ABI host into build/ (STRIP=1: smaller, without symbols)

$(PLUGIN): need-go need-cc
	@go build -buildmode=c-shared -trimpath -tags netgo,osusergo -ldflags '$(LDFLAGS)' -o $@ .

$(HOST): test/abihost/abihost.c | need-cc
	@mkdir -p $(@D)
	@$(CC) -std=c11 -Wall -Wextra -Werror -O1 -g -rdynamic -pthread -o $@ $< -ldl

# A Kinesis look-alike and a reader of aggregated records.
$(READERS): test/readers/package-lock.json | need-node
	@cd test/readers && npm ci --ignore-scripts --no-audit --no-fund

test: $(PLUGIN) $(READERS) ## Run all tests; those that need Fluent Bit only if it is on PATH or in FLUENT_BIT
	@command -v "$${FLUENT_BIT:-fluent-bit}" >/dev/null || \
		echo "No Fluent Bit on PATH or in FLUENT_BIT: the tests that need it are skipped."
	@OUT_KINESIS_AGG_SO=$(PLUGIN) go test -count=1 ./...

demo: build $(READERS) ## Ship a sample log into a local Kinesis and read it back
	@go build -o build/ ./test/demo ./cmd/kplcat
	@exec build/demo

interop: $(READERS) need-go need-cc need-interop ## Compare with KCL, the KPL, and AWS's modules for Node.js and Python (needs a JDK 17, Maven, Python 3)
	@cd test/interop/node && npm ci --ignore-scripts --no-audit --no-fund
	@test -x $(INTEROP)/venv/bin/pip || python3 -m venv $(INTEROP)/venv
	@$(INTEROP)/venv/bin/pip install --quiet --disable-pip-version-check -r test/interop/python/requirements.txt \
		-r test/consumers/python/requirements.txt
	@cd test/interop/java && mvn --quiet --batch-mode compile
	@cd test/consumers/node && npm ci --ignore-scripts --no-audit --no-fund
	@cd test/consumers/java && mvn --quiet --batch-mode compile
	@OUT_KINESIS_AGG_INTEROP=$(CURDIR)/$(INTEROP) go test -count=1 -v ./test/interop

bench: need-go ## Run the benchmarks of the Go code
	@go test -run '^$$' -bench . -benchmem $(PACKAGES)

bench-engine: $(PLUGIN) ## Measure Fluent Bit with the plugin beside null and kinesis_streams (needs Fluent Bit; ARGS)
	@go build -o build/bench ./test/bench
	@exec build/bench $(ARGS)

check: need-go need-cc ## Format, vet, staticcheck, race detector, benchmarks once, short fuzzing (FUZZTIME, default 5s a target)
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); test -z "$$unformatted" || \
		{ echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go test -race -count=1 $(PACKAGES)
	go test -run '^$$' -bench . -benchtime 1x $(PACKAGES)
	@$(MAKE) --no-print-directory fuzz FUZZTIME=$(or $(FUZZTIME),5s)

# A target takes one processor, and as many run at a time as there are.
fuzz: need-go need-cc ## Fuzz every fuzz target (FUZZTIME, default 60s each)
	@mkdir -p build && rm -f build/fuzz-targets
	@for package in $(PACKAGES); do \
		targets=$$(go test -list '^Fuzz' $$package) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do echo $$package $$target; done; \
	done >build/fuzz-targets
	@xargs -a build/fuzz-targets -n 2 -P $$(nproc) sh -c 'echo "$$0 $$1" && \
		go test -run "^$$" -fuzz "^$$1$$" -parallel 1 -fuzzminimizetime 2s -fuzztime $(or $(FUZZTIME),60s) $$0'

soak: build ## Flush chunks for minutes against an endpoint that fails at random, and count what arrived
	@go build -o build/soak ./test/soak
	@exec build/soak $(ARGS)

docs: need-go ## Rewrite the option table in docs/options.md
	@go test -count=1 -run '^TestTable_MatchesDocs$$' ./internal/option -update

proto: need-go ## Regenerate proto/*.pb.go
	cd proto && go run $(BUF) generate

docker: ## Build an image with Fluent Bit and the plugin (FLUENT_BIT_IMAGE, FLUENT_BIT_VERSION, IMAGE)
	$(call need,docker,https://docs.docker.com/engine/install/)
	DOCKER_BUILDKIT=1 docker build --build-arg FLUENT_BIT_IMAGE=$(FLUENT_BIT_IMAGE) \
		--build-arg FLUENT_BIT_VERSION=$(FLUENT_BIT_VERSION) -t $(IMAGE) .

clean: ## Remove what the targets above made
	@rm -rf build test/readers/node_modules test/interop/node/node_modules test/consumers/node/node_modules

need-go:
	$(call need,go,install Go 1.26 from https://go.dev/dl)

need-cc:
	$(call need,$(CC),install a C compiler and the C library's headers$(comma) such as the packages gcc and libc6-dev)

need-node:
	$(call need,node,install Node.js 18 or later from https://nodejs.org)
	$(call need,npm,it comes with Node.js or as the package npm)

need-interop:
	$(call need,mvn,install a JDK 17 or later and Apache Maven 3.8 or later)
	$(call need,python3,install Python 3.10 or later with its module venv)
