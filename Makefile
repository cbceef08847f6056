# `make` alone lists the targets. Needs Python 3.11 or newer, and nothing else.
PYTHON ?= python3
SEED ?= 1
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test lint types bench docs lock chaos clean
# Targets that fail half way must not look done.
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Broker, web and worker in one, on http://127.0.0.1:8000 (PORT=…)
	@exec $(BIN)/python -m app.dev

test: $(READY) ## Run the tests; ARGS=… goes to pytest instead
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 3 --dist loadfile tests/unit tests/integration
# Apart from the others: these bring whole deployments and mostly wait, while the others want all of the machine.
	$(BIN)/python -m pytest -n 3 --dist loadfile tests/chaos tests/e2e
endif

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Check types
	$(BIN)/mypy

bench: $(READY) ## Measure what sessions, polls and held requests cost, as ratios
	$(BIN)/python -m benchmarks.density
	$(BIN)/python -m benchmarks.worker_density
	$(BIN)/python -m benchmarks.polling
	$(BIN)/python -m benchmarks.live_delivery

docs: $(READY) ## Write docs/openapi.json
	@mkdir -p docs
	$(BIN)/python -m app.api > docs/openapi.json

chaos: $(READY) ## Kill everything at random and check that nothing is lost; SEED=n
	$(BIN)/python -m tests.chaos --seed $(SEED)

lock: $(READY) ## Lock the dependencies again, with hashes; UPGRADE=--upgrade moves them
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		--extra dev pyproject.toml -o requirements-dev.txt

clean: ## Remove everything that the other targets made, also the development database
	rm -rf $(VENV) var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	@echo 'installing the dependencies into $(VENV), once; this takes a minute or two'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.txt
	@touch $@
