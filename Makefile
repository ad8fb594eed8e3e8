# `make help` lists the targets. Everything happens in .venv and target/; nothing is
# installed outside this directory.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CARGO  ?= cargo

# What the optimised build is made of; `make build` does nothing when none of it changed.
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')

.DEFAULT_GOAL := help
.PHONY: help serve test build lint bench bench-compare clean test-rust test-python typing \
	oracle fuzz fuzz-corpus soak simulate bench-transfer bench-fairness

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: build ## Build, then run `rsecho serve` in the foreground (ARGS='--udp 7' adds options)
	$(BIN)/rsecho serve $(ARGS)

test: build lint test-rust simulate test-python ## Build and run every check

build: $(VENV)/.built ## Build the optimised extension; leaves .venv/bin/rsecho

$(VENV)/.tools: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group checks
	touch $@

$(VENV)/.bench: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	touch $@

$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PIP_QUIET=1 $(BIN)/maturin develop --release --quiet
	touch $@

lint: build ## Formatting, clippy (with and without Python), ruff, mypy, stubtest
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets --locked -- -D warnings
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python $(CARGO) clippy --quiet --locked --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest rsecho._rsecho \
		--allowlist tests/typing/stubtest-allow.txt --ignore-unused-allowlist

test-rust: ## The core's tests; no Python involved
	$(CARGO) test --quiet --locked

SEEDS ?= 100000

simulate: ## Large messages in simulated time, over networks that harm, each by its seed (SEEDS=1000000: as in soak)
	$(CARGO) run --quiet --release --locked --example transfers -- --seeds $(SEEDS)

test-python: build ## The package's tests
	$(BIN)/python -m pytest

oracle: build ## Decode and encode 100,000 generated formats as Python's struct does
	RSECHO_ORACLE_EXAMPLES=100000 $(BIN)/python -m pytest -s --timeout 3600 tests/python/test_layout_oracle.py

FUZZ_RUNS ?= 1000000
FUZZ_TARGETS := control plan unpack_format records requests impair plain transfer meter stamp
# libFuzzer needs flags that stable compilers keep for themselves; hence RUSTC_BOOTSTRAP.
# AddressSanitizer where bytes from outside are read, nothing where it would only be slow.
FUZZ_SANITIZER = $(if $(filter control unpack_format,$1),address,none)
FUZZ = PATH="$(CURDIR)/target/tools/bin:$$PATH" RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run \
	--target-dir fuzz/target/$(call FUZZ_SANITIZER,$1) -s $(call FUZZ_SANITIZER,$1) $1

target/tools/bin/cargo-fuzz:
	$(CARGO) install --quiet --locked --root target/tools cargo-fuzz

fuzz: $(FUZZ_TARGETS:%=fuzz-%) ## Fuzz every decoder and the planner (FUZZ_RUNS=10000000: the full run)

fuzz-%: target/tools/bin/cargo-fuzz
	@mkdir -p fuzz/corpus/$* target/fuzz
	@echo "fuzzing $*, $(FUZZ_RUNS) executions: target/fuzz/$*.log"
	@$(call FUZZ,$*) fuzz/corpus/$* tests/corpus/$* -- -runs=$(FUZZ_RUNS) -max_len=256 \
		>target/fuzz/$*.log 2>&1 || { tail -n 40 target/fuzz/$*.log; exit 1; }
	@grep -a 'cov:' target/fuzz/$*.log | tail -n 1
	@grep -a '^Done' target/fuzz/$*.log

fuzz-corpus: target/tools/bin/cargo-fuzz ## Keep what fuzzing found new in tests/corpus, for the tests to replay
	$(foreach target,$(FUZZ_TARGETS),$(call FUZZ,$(target)) \
		tests/corpus/$(target) fuzz/corpus/$(target) -- -merge=1 -use_counters=0 &&) true

CAMPAIGN_SECONDS ?= 600

soak: build ## Echo loops at random for ten minutes, 10,000,000 datagrams in and out, 1,000,000 forged sources, 1,000,000 large messages in simulated time, then load and idle connections (SOAK_SECONDS=600: the full run)
	RSECHO_CAMPAIGN_SECONDS=$(CAMPAIGN_SECONDS) $(BIN)/python -m pytest -q -s --timeout $$(($(CAMPAIGN_SECONDS) + 120)) tests/python/test_loop_campaign.py
	RSECHO_FORGED_SOURCES=1000000 $(BIN)/python -m pytest -q -k forged_sources tests/python/test_guard_network.py
	$(MAKE) simulate SEEDS=1000000
	$(CARGO) run --quiet --release --locked --example soak

bench: ## Criterion benches, Rust alone
	$(CARGO) bench --locked

bench-compare: build $(VENV)/.bench ## Against asyncio, uvloop and C, into target/compare (ARGS='--scale', '--help')
	CARGO=$(CARGO) $(BIN)/python benches/compare/compare.py $(ARGS)

bench-transfer: build ## Moving files, against TCP, QUIC and TFTP, as root, into target/transfer (ARGS='--list', '--help')
	CARGO=$(CARGO) $(BIN)/python benches/transfer/goodput.py $(ARGS)

bench-fairness: build ## Two transfers and a TCP flow on a link of 20 Mbit/s, as root (ARGS='--help')
	CARGO=$(CARGO) $(BIN)/python benches/transfer/fairness.py $(ARGS)

clean: ## Remove everything that was built
	rm -rf $(VENV) target fuzz/target fuzz/corpus fuzz/artifacts dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
