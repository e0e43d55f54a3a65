# One door for people and for CI. `make run` and `make test` need nothing but Debian 12 and Python 3.11.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Kept bytecode costs nothing; without it each of the hundreds of processes that tests start compiles
# all modules again, and each worker of pytest all tests.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test waiting computing quick lint fmt types unit fuzz more compiled compiled-tests conformance conformance-mutants e2e faults faults-short soak bench instructions instructions-update lock release-manifests clean

run: .venv/run                ## start the embedded default: no broker, no root, no configuration
	@$(BIN)/ce-gateway run

# Tests that start processes, or take the conformance suite through its paces. `make quick` leaves them to `make more`.
MORE := tests/conformance tests/docs tests/gateway/cli tests/gateway/test_service.py tests/gateway/sinks/kafka \
  tests/gateway/workers tests/test_hatch_build.py $(wildcard tests/deploy)

# Two parts at a time, and what each prints when it ends.
BESIDE := $(MAKE) --no-print-directory -j2 --output-sync=target

test: .venv/dev               ## everything
	.ci/helm
	.ci/servers
	@$(BESIDE) waiting computing

# What mostly waits, for brokers, clients and faults, has the cores first; what computes has the rest.
waiting:
	@$(MAKE) --no-print-directory e2e
	@$(MAKE) --no-print-directory faults-short

computing:
	@nice -n 5 $(MAKE) --no-print-directory lint types unit more compiled-tests instructions

quick: .venv/dev              ## lint, types, unit tests
	@$(BESIDE) unit lint types

lint: .venv/dev               ## format, lint, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: .venv/dev              ## strict types
	$(BIN)/mypy

unit: .venv/dev               ## tests that need no other program
	$(BIN)/pytest -q -n 3 --ignore=tests/e2e --ignore=tests/instructions --ignore=tests/compiled $(MORE:%=--ignore=%)

fuzz: .venv/dev               ## properties with many more examples: EXAMPLES=10 times what they name, `make unit` draws a quarter
	EXAMPLES=$(or $(EXAMPLES),10) $(BIN)/pytest -q -n 2 --dist worksteal --timeout 7200 -m hypothesis --ignore=tests/e2e --ignore=tests/compiled

more: .venv/dev               ## slower tests without other programs but helm, and that the suite finds every deliberate mistake
	.ci/helm
	$(BIN)/pytest -q -n 3 $(MORE)
	$(BIN)/python -m conformance.mutants

compiled: .cache/compiled/made   ## the wheel with compiled modules, unpacked into .cache/compiled

# What of the tests goes through compiled modules, run with these before the checkout on the path.
compiled-tests: .venv/dev     ## the codecs' tests against the compiled modules, and these against plain Python
	@if .ci/compiler $(BIN)/python; then \
	  $(MAKE) --no-print-directory compiled && TESTED_BUILD=compiled $(BIN)/pytest -q -n 3 -o pythonpath=".cache/compiled ." tests/compiled tests/bindings && \
	  PYTHONPATH=.cache/compiled $(BIN)/ce-gateway conformance run; \
	else echo "skipped: tests of the compiled modules"; fi

SOURCES := hatch_build.py pyproject.toml $(shell find bindings gateway conformance -mindepth 1 -name __pycache__ -prune -o -name node_modules -prune -o -print)

.cache/compiled/made: .venv/dev $(SOURCES)
	@rm -rf .cache/compiled .cache/wheel
	CE_GATEWAY_COMPILED=1 $(BIN)/python -m hatchling build -t wheel -d .cache/wheel
	@$(BIN)/python -m zipfile -e .cache/wheel/*.whl .cache/compiled
	@touch $@

conformance: .venv/dev        ## the conformance suite on our own bindings, sources and delivery
	$(BIN)/ce-gateway conformance run

conformance-mutants: .venv/dev   ## the suite finds every deliberate mistake
	$(BIN)/python -m conformance.mutants

e2e: .venv/dev                ## tests with real brokers and foreign clients
	.ci/servers
	$(BIN)/pytest -q -n 4 --dist loadfile tests/e2e

faults: .venv/dev             ## the fault plan: kills, power cuts, full disks, broken sinks and brokers; the figures
	.ci/servers
	$(BIN)/python -m tests.faults

faults-short: .venv/dev       ## the same in three minutes
	.ci/servers
	$(BIN)/python -m tests.faults --short

soak: .venv/dev               ## all faults at random for MINUTES
	.ci/servers
	$(BIN)/python -m tests.faults --row 16 --minutes $(or $(MINUTES),60)

instructions: .venv/dev       ## hot functions take no more instructions than the kept counts allow
	.ci/servers
	$(BIN)/pytest -q -rs tests/instructions

instructions-update: .venv/dev   ## keep the counts as they are now
	.ci/servers
	$(BIN)/python -m tests.instructions --update

bench: .venv/dev              ## CPU per event beside other products, latency, memory; BENCH="paths --quick", BENCH=--write
	.ci/servers
	.ci/peers
	@if .ci/compiler $(BIN)/python; then $(MAKE) --no-print-directory compiled; fi
	$(BIN)/python -m tests.benchmarks $(BENCH)

fmt: .venv/dev                ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/dev               ## renew the lock files after a change of pyproject.toml
	$(BIN)/pip install -q uv==0.13.9
	$(BIN)/uv pip compile -q pyproject.toml --group build --generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements.lock
	$(BIN)/uv pip compile -q pyproject.toml --group build --group dev --extra can --extra operator --extra sdk --generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements-dev.lock

release-manifests: .venv/dev  ## the chart's values.schema.json and deploy/release, after a change of the chart or the configuration
	.ci/helm
	$(BIN)/python -m tests.deploy.render

.venv/run: requirements.lock pyproject.toml
	@.ci/venv $(PYTHON) requirements.lock
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml
	@.ci/venv $(PYTHON) requirements-dev.lock
	@touch $@ .venv/run

clean:                        ## remove everything that make made
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
