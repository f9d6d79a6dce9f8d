# out_kinesis_agg: `make` lists the targets, `./run TARGET` also installs what a
# target needs.

PLUGIN  := build/out_kinesis_agg.so
HOST    := build/abihost
KPLCAT  := build/kplcat
PLAN    := build/kinesis-agg-plan
READERS := test/kit/readers/node_modules/.package-lock.json
INTEROP := build/interop

CC      ?= cc

# The version in the plugin and in kplcat: from the git tag, unless it is set.
VERSION_SH := internal/version/version.sh
# It is found once, when it is first used.
STAMP = $(eval STAMP := $(or $(shell VERSION='$(VERSION)' $(VERSION_SH)),$(error no version, see above)))$(STAMP)

MODULE := $(shell sed -n 's/^module //p' go.mod)

# STRIP=1 leaves out symbols and debug information.
LDFLAGS = $(if $(STRIP),-s -w )-X $(MODULE)/internal/version.stamped=$(STAMP)

# For `make docker`.
FLUENT_BIT_IMAGE   ?= fluent/fluent-bit
FLUENT_BIT_VERSION ?= 5.1.1
IMAGE              ?= out_kinesis_agg:$(FLUENT_BIT_VERSION)

BUF         := github.com/bufbuild/buf/cmd/buf@v1.75.0
GREMLINS    := github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# For `make dist` and `make home release-check`.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
CYCLONEDX  := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
NFPM       := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
ZIG        ?= .tools/zig/zig
DIST       := build/dist
MAINTAINER ?= $(shell sed -n 's/^MAINTAINER=//p' packaging/home.env)
HOMEPAGE   ?= https://$(shell sed -n 's/^NAME=//p' packaging/home.env)

# Use the Go and the Node.js that ./run has installed for this project, if any.
export PATH := $(CURDIR)/.tools/go/bin:$(CURDIR)/.tools/node/bin:$(PATH)
ifneq ($(wildcard .tools/go/bin/go),)
unexport GOROOT
endif

# The plugin is the same, byte for byte, from every checkout: it contains no
# paths (-trimpath, below) and no version control information.
export CGO_ENABLED := 1
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# Without the C library's resolver and user database. Windows' resolver needs no C.
TAGS        = -tags netgo,osusergo

# The plugin and the commands are built with the same compiler flags, and share
# the compiled dependencies: a position-independent executable is compiled like a
# shared library.
GO_BUILD    = go build -trimpath $(TAGS) -ldflags '$(LDFLAGS)'
GO_COMMANDS = $(GO_BUILD) -buildmode=pie -o build/

# All packages except test/e2e. Its tests run the plugin in other processes,
# where neither the race detector nor coverage for fuzzing applies.
PACKAGES = $$(go list ./... | grep -v /test/e2e)

# $(call npm,FOLDER) installs the packages of FOLDER/package-lock.json.
npm = cd $(1) && { npm ci --ignore-scripts --no-audit --no-fund >"$(CURDIR)/build/npm.log" 2>&1 || \
	{ tail -n 5 "$(CURDIR)/build/npm.log"; echo "npm failed; all of its output is in $(CURDIR)/build/npm.log"; exit 1; }; }

# $(call long,FILE,MESSAGE) announces a long step unless FILE exists already.
comma := ,
long = @test -e $(1) || echo "$(2)"

.PHONY: help build $(PLUGIN) $(KPLCAT) $(PLAN) test demo bench bench-engine aws-check aws-check-test engine home check fuzz mutants soak docs proto docker interop deploy-check dist reproduce portable packages arm64 build/arm64/out_kinesis_agg.so windows build/out_kinesis_agg.dll release-check clean need

help: ## List the targets (default)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(PLUGIN) $(HOST) $(KPLCAT) $(PLAN) ## Build the plugin, kplcat, kinesis-agg-plan and the ABI host into build/ (STRIP=1: smaller, without symbols)

$(PLUGIN): need
	$(call long,$@,Building the plugin. The first build compiles all dependencies: 1 to 3 minutes.)
	@$(GO_BUILD) -buildmode=c-shared -o $@ .

$(KPLCAT): need
	@$(GO_COMMANDS) ./cmd/kplcat

$(PLAN): need
	@$(GO_COMMANDS) ./cmd/kinesis-agg-plan

$(HOST): test/cmd/abihost/abihost.c | need
	@mkdir -p $(@D)
	@$(CC) -std=c11 -Wall -Wextra -Werror -O1 -g -rdynamic -pthread -o $@ $< -ldl

# kinesis-local, and a reader of aggregated records.
$(READERS): test/kit/readers/package-lock.json | need
	@echo "Installing kinesis-local, a local Kinesis, and the Node.js reader with npm: about 5 seconds."
	@mkdir -p build
	@$(call npm,test/kit/readers)

test: $(PLUGIN) $(READERS) ## Run all tests; those that need Fluent Bit only if it is on PATH or in FLUENT_BIT
	@command -v "$${FLUENT_BIT:-fluent-bit}" >/dev/null || \
		echo "No Fluent Bit on PATH or in FLUENT_BIT: the tests that need it are skipped."
	@echo "Running all tests: 2 to 6 minutes."
	@OUT_KINESIS_AGG_SO=$(PLUGIN) go test -count=1 ./...
	@cd test/cmd/awscheck && OUT_KINESIS_AGG_SO=$(PLUGIN) go test -count=1 ./...

demo: build $(READERS) ## Ship a sample log into a local Kinesis and read it back (KEEP=1: keep it running until Ctrl-C)
	@$(GO_COMMANDS) ./test/cmd/demo
	@exec build/demo $(if $(filter-out 0,$(KEEP)),-keep)

setup-check: $(READERS) ## Run the demo on checkouts of another user, without git, and others (needs root; 5 minutes)
	@OUT_KINESIS_AGG_SETUP=1 go test -count=1 -v ./test/setup

# A module of its own: only this program needs clients of IAM and KMS.
aws-check: build ## Prove the promises in your own AWS account: creates streams, asks first, removes them (ARGS)
	@cd test/cmd/awscheck && $(GO_BUILD) -o ../../../build/aws-check .
	@exec build/aws-check $(ARGS)

aws-check-test: $(PLUGIN) $(READERS) ## Run aws-check against kinesis-local and moto, and interrupt it at each request (needs Python 3; 5 minutes)
	@test -x build/moto/bin/pip || python3 -m venv build/moto
	@build/moto/bin/python -m pip install --quiet --disable-pip-version-check -r test/cmd/awscheck/requirements.txt
	@cd test/cmd/awscheck && PATH="$(CURDIR)/build/moto/bin:$$PATH" OUT_KINESIS_AGG_SO=$(PLUGIN) go test -count=1 -v .

interop: $(READERS) | need ## Compare with KCL, the KPL, and AWS's modules for Node.js and Python (needs a JDK 17, Maven, Python 3)
	$(call long,$(INTEROP)/venv,Installing libraries with npm$(comma) pip and Maven. The first time: 2 to 5 minutes.)
	@mkdir -p build
	@test -x $(INTEROP)/venv/bin/pip || python3 -m venv $(INTEROP)/venv
	@$(INTEROP)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r test/interop/python/requirements.txt \
		-r examples/python/requirements.txt
	@cd test/interop/java && mvn --quiet --batch-mode compile
	@$(call npm,examples/node) && npx tsc -p .
	@cd examples/java && mvn --quiet --batch-mode compile
	@cd test/consumers && go test -count=1 -v ./...
	@OUT_KINESIS_AGG_INTEROP="$(CURDIR)/$(INTEROP)" go test -count=1 -v ./test/interop

# The tools that package registries have. promtool is in Debian's package
# prometheus; systemd-analyze, crun and Terraform come from their distributors.
DEPLOY       := $(CURDIR)/build/deploy
HELM         := helm.sh/helm/v3/cmd/helm@v3.18.6
COMPOSE_GO   := github.com/compose-spec/compose-go/v2/cmd@v2.9.0

deploy-check: $(PLUGIN) $(READERS) ## Check deploy/ and compose.yaml with the tools that users have (needs Python 3)
	$(call long,$(DEPLOY)/bin/pip,Installing Helm$(comma) cfn-lint and others into $(DEPLOY). The first time: 3 to 5 minutes.)
	@test -x $(DEPLOY)/bin/pip || python3 -m venv $(DEPLOY)
	@$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check -r test/deploy/requirements.txt
	@test -x $(DEPLOY)/bin/helm || GOBIN=$(DEPLOY)/bin go install $(HELM)
	@test -x $(DEPLOY)/bin/compose-go || { GOBIN=$(DEPLOY)/bin go install $(COMPOSE_GO) && \
		mv $(DEPLOY)/bin/cmd $(DEPLOY)/bin/compose-go; }
	@PATH="$(DEPLOY)/bin:$$PATH" OUT_KINESIS_AGG_SO=$(PLUGIN) go test -count=1 -v ./test/deploy

bench: need ## Run the benchmarks of the Go code
	@go test -run '^$$' -bench . -benchmem $(PACKAGES)

bench-engine: $(PLUGIN) ## Compare Fluent Bit with this plugin, null and kinesis_streams (needs Fluent Bit; ARGS)
	@$(GO_COMMANDS) ./test/cmd/bench
	@exec build/bench $(ARGS)

engine: $(PLUGIN) $(READERS) ## Run the tests that need Fluent Bit with one engine, and print its column for docs/engines.md (FLUENT_BIT)
	@OUT_KINESIS_AGG_SO=$(PLUGIN) go run ./test/cmd/engines

check: need ## Format, vet, staticcheck, race detector, benchmarks once, short fuzzing (FUZZTIME, default 5s a target)
	@echo "Checking: 3 to 10 minutes, and $(or $(FUZZTIME),5s) for each fuzz target."
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); test -z "$$unformatted" || \
		{ echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	cd test/cmd/awscheck && go vet ./... && go run $(STATICCHECK) ./...
	cd test/consumers && go vet ./...
	go run $(STATICCHECK) ./...
	go test -race -count=1 $(PACKAGES)
	go test -run '^$$' -bench . -benchtime 1x $(PACKAGES)
	@$(MAKE) --no-print-directory fuzz FUZZTIME=$(or $(FUZZTIME),5s)

# gremlins runs `go test` for each mutant and counts every failure, also that of the
# compiler, as a killed mutant. This go exits with 2, which means "not viable".
define MUTANTS_GO
#!/bin/sh
out=$$($(shell command -v go) "$$@" 2>&1); code=$$?
printf "%s\n" "$$out"
case $$out in *"[build failed]"*) exit 2; esac
exit $$code
endef

mutants: export MUTANTS_GO := $(MUTANTS_GO)
mutants: need ## Mutation testing of PACKAGE, such as ./kpl, at the lowest priority: 5 minutes to hours (ARGS: of gremlins)
	@test -n "$(PACKAGE)" || { echo "Set PACKAGE, such as: make mutants PACKAGE=./kpl"; exit 1; }
	@mkdir -p build/mutants && printf '%s\n' "$$MUTANTS_GO" >build/mutants/go && chmod +x build/mutants/go
	@test -x build/mutants/gremlins || GOBIN="$(CURDIR)/build/mutants" go install $(GREMLINS)
	@PATH="$(CURDIR)/build/mutants:$$PATH" GOFLAGS="-short -count=1 -vet=off $(GOFLAGS)" nice -n 19 gremlins unleash \
		--workers 1 --timeout-coefficient 3 --invert-logical --invert-loopctrl $(ARGS) $(PACKAGE)

# Each fuzz target uses one processor, and one runs per processor.
fuzz: need ## Fuzz every fuzz target (FUZZTIME, default 60s each)
	@mkdir -p build && rm -f build/fuzz-targets
	@for package in $(PACKAGES); do \
		targets=$$(go test -list '^Fuzz' $$package) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do echo $$package $$target; done; \
	done >build/fuzz-targets
	@xargs -a build/fuzz-targets -P $$(nproc) -I{} sh -c 'exec test/fuzz.sh {} $(or $(FUZZTIME),60s)'

soak: build ## Flush chunks for minutes against an endpoint that fails at random, and count what arrived
	@$(GO_COMMANDS) ./test/cmd/soak
	@exec build/soak $(ARGS)

docs: need ## Rewrite what is generated: options and examples of the planner in docs/, causes in the alert
	@go test -count=1 -run '^TestTable_MatchesDocs$$' ./internal/option -update
	@go test -count=1 -run '^TestDocs_ExamplesAreCurrent$$' ./cmd/kinesis-agg-plan -update
	@go test -count=1 -run '^TestRules_Misconfigured$$' ./test/deploy -update

proto: need ## Regenerate proto/*.pb.go
	cd proto && go run $(BUF) generate

docker: need ## Build an image with Fluent Bit and the plugin (FLUENT_BIT_IMAGE, FLUENT_BIT_VERSION, IMAGE)
	DOCKER_BUILDKIT=1 docker build --build-arg FLUENT_BIT_IMAGE=$(FLUENT_BIT_IMAGE) \
		--build-arg FLUENT_BIT_VERSION=$(FLUENT_BIT_VERSION) \
		--build-arg VERSION=$(STAMP) -t $(IMAGE) .

# The C compiler of releases, in a virtual environment of its own.
.tools/zig/zig: packaging/requirements.txt | need
	@echo "Installing zig with pip: 90 MB, 350 MB on disk."
	@python3 -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@$(@D)/bin/python -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))' \
		| xargs -I{} ln -sf {} $@
	@touch $@

# GOFLAGS of the user would change the bytes of this command only: it sets the
# environment of the compilers itself.
dist: $(ZIG) | need ## Build the files of a release into build/dist, for Linux on amd64 and arm64, and Windows (VERSION, MAINTAINER, HOMEPAGE)
	@go run ./packaging/dist -out $(DIST) -zig $(ZIG) -nfpm 'go run $(NFPM)' -cyclonedx 'go run $(CYCLONEDX)' \
		-maintainer '$(MAINTAINER)' -homepage '$(HOMEPAGE)'

reproduce: $(ZIG) | need ## Build the release again as another user in another folder and compare it with build/dist (needs root)
	@MAINTAINER='$(MAINTAINER)' HOMEPAGE='$(HOMEPAGE)' packaging/reproduce.sh $(DIST) $(ZIG)

portable: $(READERS) $(ZIG) | need ## Run the library and the package of build/dist in a Debian 11 root (needs root, debootstrap)
	@test/portable/run.sh $(DIST) $(ZIG) build/bullseye

packages: need ## Install and remove the packages of build/dist in Debian 11 to 13 and in an empty RPM root (needs root, debootstrap, rpm; ROOTS)
	@test/portable/packages.sh $(DIST) $(or $(ROOTS),build/roots)

# The arm64 library, with Debian's cross compiler. ARM64_SO names another, such as that
# of a release.
ARM64_SO ?= build/arm64/out_kinesis_agg.so

build/arm64/out_kinesis_agg.so: need
	@mkdir -p $(@D)
	@GOOS=linux GOARCH=arm64 CC=aarch64-linux-gnu-gcc $(GO_BUILD) -buildmode=c-shared -o $@ .
	@GOOS=linux GOARCH=arm64 CC=aarch64-linux-gnu-gcc $(GO_BUILD) -buildmode=pie -o $(@D)/kplcat ./cmd/kplcat

arm64: $(ARM64_SO) $(READERS) ## Run the tests of the library that need no Fluent Bit with its arm64 build under qemu (ARM64_SO, ARGS)
	@$(if $(ARGS),,$(GO_COMMANDS) ./test/cmd/demo)
	@test/portable/arm64.sh $(ARM64_SO) $(ARGS)

build/out_kinesis_agg.dll: TAGS =
build/out_kinesis_agg.dll: need
	$(call long,$@,Building the plugin for Windows. The first build compiles all dependencies: 2 to 5 minutes.)
	@GOOS=windows GOARCH=amd64 CC=x86_64-w64-mingw32-gcc $(GO_BUILD) -buildmode=c-shared -o $@ .

# WINDOWS_DLL names another library, such as that of a release.
WINDOWS_DLL ?= build/out_kinesis_agg.dll

windows: $(WINDOWS_DLL) $(READERS) ## Build the library for Windows and run tests of it that need no Fluent Bit under Wine 10 (WINDOWS_DLL, ARGS)
	@STATICCHECK=$(STATICCHECK) test/portable/windows.sh $< build/trixie $(ARGS)

home: need ## Write the names of packaging/home.env into the module path, Helm values and manifests
	@packaging/home.sh

release-check: need ## Check the workflows with actionlint
	go run $(ACTIONLINT) .github/workflows/*.yml

clean: ## Remove what the targets above made, but not the Go that ./run has installed
	@rm -rf --one-file-system build test/kit/readers/node_modules examples/node/node_modules examples/node/powertools.js

# Reports all missing tools of the targets in one message.
need:
	@./run --check $(MAKECMDGOALS)
