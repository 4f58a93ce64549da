# One target directory for all checkouts of a machine: RocksDB's C++ (15-20 minutes) compiles once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/dynkv/target

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN := $(CARGO_TARGET_DIR)/release/dynkv

# Tests that need neither RocksDB nor processes run in the dev profile, and only there.
CORE_TESTS := tests/tidy.rs tests/node.rs tests/simulation.rs
RELEASE_TESTS := --lib --bins $(patsubst tests/%.rs,--test %,$(filter-out $(CORE_TESTS),$(wildcard tests/*.rs)))

# Type-checks the RocksDB code without its C++. The variable is an input of librocksdb-sys' build script,
# so these runs keep a directory of their own: in the common one they would throw the real build away.
LINT_ROCKS := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/lint ROCKSDB_LIB_DIR=/nonexistent $(CARGO)

.PHONY: help deps build demo dev test fmt-check lint tidy test-core test-release bench audit

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

deps: ## Install what is missing to build: a C++ compiler and libclang (Debian, Ubuntu); checks for cargo
	@deploy/deps.sh

build: deps ## Build the daemon and the client (the first time on a machine compiles RocksDB: 15-20 minutes)
	$(CARGO) build --release

demo: build ## Five real nodes keep every record while one is killed
	$(CARGO) run --release --example demo

dev: build ## Run a local cluster until Ctrl-C
	$(BIN) dev

test: lint tidy test-core test-release ## Lints and all tests

fmt-check:
	$(CARGO) fmt --check

lint: fmt-check ## Formatting, and clippy on both feature sets
	$(CARGO) clippy --no-default-features --all-targets -- -D warnings
	$(LINT_ROCKS) clippy --all-targets -- -D warnings

tidy: ## Module edges, file sizes, forbidden markers
	$(CARGO) test --no-default-features --test tidy

test-core: ## All that needs neither RocksDB nor processes (dev profile)
	$(CARGO) test --no-default-features

test-release: ## What needs RocksDB or real processes (release profile)
	$(CARGO) test --release $(RELEASE_TESTS)

bench: deps ## The floor and the cluster, measured in one run
	$(CARGO) bench --bench cluster

audit: ## Licences, banned crates and sources of all dependencies (cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny check --hide-inclusion-graph bans licenses sources
