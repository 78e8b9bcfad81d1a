# "make help" lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO ?= go
# The race detector needs a C compiler; RACE= leaves it out.
RACE ?= $(shell command -v cc >/dev/null && echo -race)
FUZZTIME ?= 5s
BENCH ?= -o $(shell date +%F)
PKG ?= ./...
LINTER := bin/golangci-lint
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# A run under CI does not skip tests; see internal/testenv.
ifeq ($(CI),true)
export ZOSFS_NEED ?= root,fuse,overlay,erofs,memory,tools
endif

.PHONY: build test race check fuzz bench e2e demo docs lint fmt clean help deps

build: ## build bin/zosfs, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w -X main.version=$(VERSION)" -o bin/zosfs ./cmd/zosfs

test: deps ## vet and run all tests, with the race detector where there is a C compiler
	$(GO) vet $(PKG)
	$(GO) test $(RACE) -timeout 20m $(PKG)
ifneq ($(and $(RACE),$(filter ./...,$(PKG))),) # limits of memory are exact without the detector alone
	$(GO) test -run '^TestMemory$$' ./image ./pack
endif

race: deps ## run all tests with the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $(PKG)

check: lint race ## all that a change must pass: formatting, lint, tests, race, layers, docs and vectors unchanged
	$(GO) vet ./...
	$(GO) test ./internal/layers
	$(MAKE) --no-print-directory docs
	git diff --exit-code -- docs testdata

fuzz: ## run each fuzz target for FUZZTIME (5s)
	@for pkg in $$($(GO) list $(PKG)); do \
		for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$pkg"; \
		done; \
	done

bench: build ## measure against ext4 and others; BENCH has its flags, results go to bench/results
	$(GO) run ./bench $(BENCH)

e2e: deps build ## run every script of test/e2e against bin/zosfs
	@for script in test/e2e/*.sh; do echo "== $$script"; "$$script"; done

demo: build ## pack a real tree to a hub, mount it elsewhere, run a program out of it
	.ci/deps demo
	test/e2e/demo.sh

docs: ## regenerate what is generated in docs
	$(GO) generate ./...

lint: $(LINTER) ## run the linters, formatting included
	$(LINTER) run ./...

fmt: $(LINTER) ## format all code
	$(LINTER) fmt ./...

clean: ## remove what was built
	rm -rf bin

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-6s  %s\n", $$1, $$2 }'

deps:
	@.ci/deps test

# The version is pinned in tools/go.mod.
$(LINTER): tools/go.mod tools/go.sum
	cd tools && GOFLAGS=-mod=readonly $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
