# `make help` lists the targets. Everything happens in .venv and target/; nothing is
# installed outside this directory.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CARGO  ?= cargo

# What the optimised build is made of; `make build` does nothing when none of it changed.
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')

.DEFAULT_GOAL := help
.PHONY: help serve test build lint bench bench-compare clean test-rust test-python typing oracle

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: build ## Build, then run `rsecho serve` in the foreground (ARGS='--udp 7' adds options)
	$(BIN)/rsecho serve $(ARGS)

test: build lint test-rust test-python ## Build and run every check

build: $(VENV)/.built ## Build the optimised extension; leaves .venv/bin/rsecho

$(VENV)/.tools: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@

$(VENV)/.bench: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	touch $@

$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
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

test-python: build ## The package's tests
	$(BIN)/python -m pytest

oracle: build ## Decode and encode 100,000 generated formats as Python's struct does
	RSECHO_ORACLE_EXAMPLES=100000 $(BIN)/python -m pytest -s --timeout 3600 tests/python/test_layout_oracle.py

bench: ## Criterion benches, Rust alone
	$(CARGO) bench --locked

bench-compare: build $(VENV)/.bench ## Against asyncio, uvloop and C, into target/compare (ARGS='--scale', '--help')
	CARGO=$(CARGO) $(BIN)/python benches/compare/compare.py $(ARGS)

clean: ## Remove everything that was built
	rm -rf $(VENV) target dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
