# What a person does here every day. `make` alone lists it.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
# More for pytest, such as: make test PYTEST='-n 2 tests/pure'
PYTEST ?=
# A real year where it lies beside the checkout, else a small sample of the same shape.
REPLAY ?= $(firstword $(wildcard ../shared/data/online-retail-france.csv) examples/online-retail-sample.csv)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.9

.PHONY: help
help: ## List what can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: run
run: $(READY) ## Start everything with a test merchant and paid orders to refund
	@exec $(BIN)/refund-service demo

.PHONY: test
test: $(READY) ## Run every test
	$(BIN)/pytest $(PYTEST)

# Seconds of load, and one run for each seed: make prove SECONDS=60 SEEDS=7
SECONDS ?= 600
SEEDS ?= 1,2,3
.PHONY: prove
prove: $(READY) ## Break everything under load, and compare with what the gateway paid (SECONDS=600 SEEDS=1,2,3)
	PYTHONPATH=tests $(BIN)/python -m chaos --seconds $(SECONDS) --seeds $(SEEDS)

.PHONY: prove-mutants
prove-mutants: $(READY) ## Show that such a run finds bugs that were planted
	PYTHONPATH=tests $(BIN)/python -m chaos --mutants --seconds 60

.PHONY: check
check: $(READY) ## Format, lint, types, imports, image, OpenAPI document, reference pages, migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/refund-service openapi --check openapi/refund-service.v1.json
	$(BIN)/refund-service docs --check docs/reference
	$(BIN)/python tests/case_index.py --check
	$(BIN)/refund-service migrate --check

.PHONY: image-check
image-check: $(READY) ## Build the image and run it confined; needs root, podman, runc and debootstrap
	IMAGE_CHECK=1 $(BIN)/pytest tests/image -rs

.PHONY: replay
replay: $(READY) ## Feed a retailer's orders and cancellations through the API
	$(BIN)/python examples/replay_online_retail.py "$(REPLAY)" --start

# How many refunds to grow to, where the databases are kept meanwhile, and more for the bench, such as
# make bench BENCH=--quick
GROWTH ?= 1000000
FOLDER ?= /tmp
BENCH ?=
.PHONY: bench
bench: $(VENV)/.bench ## Measure the service beside its bare SQL; GROWTH=10000000 for the whole of it
	$(BIN)/python -m bench --growth $(GROWTH) --folder $(FOLDER) $(BENCH)

# FUZZ_SEED repeats a run.
FUZZ_SECONDS ?= 300
.PHONY: fuzz
fuzz: $(READY) ## Ask the whole API at random by its own document
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest -s tests/contract/test_schemathesis.py

.PHONY: openapi
openapi: $(READY) ## Write the OpenAPI document anew from the code
	$(BIN)/refund-service openapi --write openapi/refund-service.v1.json

.PHONY: docs
docs: $(READY) ## Write the reference pages anew from the code and the tests
	$(BIN)/refund-service docs --write docs/reference
	$(BIN)/python tests/case_index.py --write

.PHONY: format
format: $(READY) ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One resolution for all five: the others are held to the versions of the largest.
# `make lock LOCK=--upgrade` takes newer versions; without it only what changed moves.
LOCK ?=
.PHONY: lock
lock: $(READY) ## Resolve the dependencies anew and write the locks
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	compile="$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header" && \
	$$compile pyproject.toml --extra embedded --group dev -o requirements-dev.lock $(LOCK) && \
	$$compile pyproject.toml --extra embedded -c requirements-dev.lock -o requirements.lock && \
	$$compile pyproject.toml -c requirements-dev.lock -o requirements-image.lock && \
	$$compile --group pyproject.toml:build -c requirements-dev.lock -o requirements-build.lock && \
	$$compile --group pyproject.toml:bench -c requirements-dev.lock -o requirements-bench.lock

.PHONY: clean
clean: ## Remove the environment, the caches and what was built; the data in .data stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock holds everything, so pip has nothing to resolve (--no-deps) and nothing to trust (hashes).
$(READY): requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	    echo "There is no $(PYTHON) here. Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$$($(PYTHON) --version) is too old. Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Making $(VENV); this takes about a minute, once."
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) cannot make an environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@export PIP_DISABLE_PIP_VERSION_CHECK=1 && \
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.lock && \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.bench: $(READY) requirements-bench.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes \
	    -r requirements-bench.lock
	@touch $@
