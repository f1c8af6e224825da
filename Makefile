# SPDX-License-Identifier: Apache-2.0
# The two commands of a newcomer are `make run` and `make test`; `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
PURE_ROOMS := wire,iso7816,crypto,protocols,globalplatform,tls,applet_api,applet_commands,applets,card,bridge
# The peer tests wait for other programs: three workers keep two cores busy.
TEST_WORKERS ?= 3
TESTS ?= tests
SHELL := bash

.PHONY: help run test check setup setup-pcsc style types layers docs coverage fuzz soak bench lock peers clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(RUNTIME) ## Start a node with software elements and show what to try
	@$(BIN)/iose up

setup: $(RUNTIME) ## Install what `iose` needs into .venv, and nothing else

setup-pcsc: $(RUNTIME) ## Add what PC/SC readers need (compiles pyscard; needs Debian packages)
	@scripts/setup-pcsc

test: $(DEV) peers ## Run every test
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(TESTS)

check: style types layers docs ## Style, types, import contract, documentation

style: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

types: $(DEV)
	@$(BIN)/mypy

layers: $(DEV)
	@$(BIN)/lint-imports

docs: $(DEV)
	@$(BIN)/python scripts/check_docs.py
	@$(BIN)/python scripts/draw_states.py --check

coverage: $(DEV) peers ## Branch coverage of the rooms without I/O
	@$(BIN)/coverage run -m pytest -q tests/unit tests/property
	@$(BIN)/coverage report --skip-covered --include="$$(echo src/iose/{$(PURE_ROOMS)}/* src/iose/applet_api.py | tr ' ' ',')"

fuzz: $(DEV) ## Feed every decoder FUZZ_RUNS inputs (20,000 if not said otherwise)
	@IOSE_FUZZ_RUNS=$${FUZZ_RUNS:-20000} $(BIN)/python -m pytest -n $(TEST_WORKERS) tests/fuzz

soak: $(DEV) ## Kill element hosts KILLS times at random instants (1,000 if not said otherwise)
	@IOSE_KILLS=$${KILLS:-1000} $(BIN)/python -m pytest -s tests/acceptance/test_power.py

bench: $(RUNTIME) ## Measure this machine
	@$(BIN)/iose bench

peers: $(DEV) ## Install the programs the tests talk to (Debian packages; needs root)
	@scripts/install-peers

lock: ## Choose the versions of the dependencies anew (needs uv)
	@scripts/lock

$(RUNTIME): requirements.lock pyproject.toml scripts/setup
	@scripts/setup requirements.lock
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml scripts/setup
	@scripts/setup requirements-dev.lock
	@touch $(RUNTIME) $@

clean: ## Remove .venv and the caches of the tools
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
