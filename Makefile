# One target directory for all checkouts of a machine: RocksDB's C++ (15-20 minutes) compiles once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/dynkv/target

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN := $(CARGO_TARGET_DIR)/dist/dynkv

# What users run, and what `make bench` measures with its floor, is linked as a whole (profile `dist`), with the RocksDB that the tests link.
DIST := CARGO="$(CARGO)" deploy/dist.sh

# Tests that need neither RocksDB nor processes run in the dev profile, and only there.
CORE_TESTS := tests/tidy.rs tests/node.rs
RELEASE_TESTS := --lib --bin dynkv --bin dynkv-cli --bin dynkv-sim $(patsubst tests/%.rs,--test %,$(filter-out $(CORE_TESTS),$(wildcard tests/*.rs)))

# Type-checks the RocksDB code without its C++. The variable is an input of librocksdb-sys' build script,
# so these runs keep a directory of their own: in the common one they would throw the real build away.
LINT_ROCKS := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/lint ROCKSDB_LIB_DIR=/nonexistent $(CARGO)

.PHONY: help deps build demo dev test fmt-check lint tidy test-core test-sim test-release sim gossip mutants chaos bench bench-check audit

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

deps: ## Install what is missing to build: a C++ compiler and libclang (Debian, Ubuntu); checks for cargo
	@deploy/deps.sh

build: deps ## Build the daemon and the client (the first time about 25 minutes: RocksDB, then the link as a whole)
	$(DIST) build --bins

demo: build ## Five real nodes keep every record while one is killed
	$(DIST) run --example demo

dev: build ## Run a local cluster until Ctrl-C
	$(BIN) dev

test: lint test-core test-sim test-release bench-check ## Lints and all tests

fmt-check:
	$(CARGO) fmt --check

lint: fmt-check ## Formatting, and clippy on all feature sets
	$(CARGO) clippy --no-default-features --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --features mutants,chaos --all-targets -- -D warnings
	$(LINT_ROCKS) clippy --all-targets --features sim,chaos -- -D warnings

tidy: ## Module edges, file sizes, forbidden markers
	$(CARGO) test --no-default-features --test tidy

# With the seeded bugs compiled in, and none active but where a test wants it. The release tests run without them.
test-core: ## All that needs neither RocksDB nor processes (dev profile)
	$(CARGO) test --no-default-features --features mutants,chaos

# One program for the seeds and for the seeded bugs, of which none is active but where it is asked for.
test-sim: ## The simulation: regressions, 200 seeds of a minute, and every seeded bug
	$(MAKE) sim SEEDS=200 MINUTES=1 SIM_FEATURES=mutants
	$(MAKE) mutants

# With the simulation's program, whose tests with RocksDB are here; `bench-check` has the same features, and so the same library. That program
# runs as the tests have built it: `cargo run` would have it, and the library, without the features of what only tests depend on.
test-release: ## What needs RocksDB or real processes, and a few seeds on RocksDB (release profile)
	$(CARGO) test --release --features sim $(RELEASE_TESTS)
	$(MAKE) sim SEEDS=5 MINUTES=1 ENGINE=rocks SIM_RUN='"$(CARGO_TARGET_DIR)/release/dynkv-sim"'

# The simulation needs no RocksDB, unless ENGINE=rocks asks for the real thing. SEED=17 replays one seed.
SEEDS ?= 100
MINUTES ?= 1
FIRST ?= 1
SIM_FEATURES ?= sim
SIM_BUILD := $(if $(filter rocks,$(ENGINE)),--release,--profile sim --no-default-features) --features $(SIM_FEATURES)
SIM_RUN ?= $(CARGO) run $(SIM_BUILD) --bin dynkv-sim --
SIM_SEEDS := $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST) --regressions tests/regressions.txt)
# TRACE=1 shows everything, TRACE=KEY one key
SIM_TRACE := $(if $(TRACE),--trace$(if $(filter-out 1,$(TRACE)),=$(TRACE)))
# only the modelled disk has all the faults
SIM_ARGS := $(SIM_SEEDS) --minutes $(MINUTES) $(if $(TWICE),--twice) $(SIM_TRACE) \
	$(if $(ENGINE),--engine $(ENGINE)) $(if $(filter rocks,$(ENGINE)),--allow-missing)

sim: ## Seeds of the whole-cluster simulation (SEEDS=100 MINUTES=1 FIRST=1; SEED=17 [TRACE=1|KEY]; TWICE=1; ENGINE=rocks)
	$(SIM_RUN) $(SIM_ARGS)

# NODES=50 LOSS=5 CRASHES=20 HEALTHY=1440 (minutes) for one row
GOSSIP_ARGS := $(if $(NODES),--nodes $(NODES)) $(if $(LOSS),--loss $(LOSS)) $(if $(CRASHES),--crashes $(CRASHES)) \
	$(if $(HEALTHY),--minutes $(HEALTHY))

gossip: ## Spread of news, detection of crashes and false verdicts, measured in virtual time
	$(CARGO) run --profile sim --no-default-features --features sim --bin dynkv-sim -- gossip $(GOSSIP_ARGS)

mutants: ## Seeded bugs, each caught by the simulation (MINUTES=1)
	$(CARGO) run --profile sim --no-default-features --features mutants --bin dynkv-sim -- --mutants --minutes $(MINUTES)

chaos: build ## Faults on real processes, judged by the simulation's oracle: all scenarios, under ten minutes
	deploy/chaos/all.sh

# RENEW=1 writes the base line anew: say why in the commit
bench-check: ## Instructions of a put and a get through the core, against the committed base line (by valgrind; with RocksDB)
	@deploy/deps.sh valgrind
	$(CARGO) bench --features sim --bench core $(if $(RENEW),-- --renew)

bench: deps ## The floor and the cluster, measured in one run (SECTIONS="throughput tail" for some)
	$(DIST) bench --bench cluster $(if $(SECTIONS),-- $(SECTIONS))

audit: ## Licences, banned crates and sources of all dependencies (cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny check --hide-inclusion-graph bans licenses sources
