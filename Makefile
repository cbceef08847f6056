# `make` alone lists the targets. Needs Python 3.11 or newer, and nothing else.
PYTHON ?= python3
SEED ?= 1
POINTS ?= 1
MINUTES ?= 20
FROM ?= 535d0e0
SESSIONS ?= 20000
VENV := .venv
BIN := $(VENV)/bin
OLD_PYTHON ?= $(BIN)/python
# What running needs, and what all other targets need. Each of the two files is there when it is installed.
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
# Environments for other purposes.
VENVS := .venvs
UV := $(VENVS)/uv/bin/uv
LOCK = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help run test lint types bench docs clients lock locked fuzz chaos crash soak upgrade pythons clean $(READY) $(DEV)
# Targets that fail half way must not look done.
.DELETE_ON_ERROR:
# Images of containers and some CIs set it: each of hundreds of processes would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Broker, web and worker in one, on http://127.0.0.1:8000 (PORT=…)
	@exec $(BIN)/python -m app.dev

test: $(DEV) ## Run the tests; ARGS=… goes to pytest instead
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
# More processes than cores: many tests wait for a deployment of their own while others compute.
	$(BIN)/python -m pytest -n 6 --dist loadscope --no-loadscope-reorder
endif

lint: $(DEV) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## Check types
	$(BIN)/mypy

bench: $(DEV) ## Measure what sessions, polls and held requests cost, as ratios
	$(BIN)/python -m benchmarks.density
	$(BIN)/python -m benchmarks.worker_density
	$(BIN)/python -m benchmarks.polling
	$(BIN)/python -m benchmarks.live_delivery
	$(BIN)/python -m benchmarks.callers

docs: $(READY) ## Write docs/openapi.json
	@mkdir -p docs
	$(BIN)/python -m app.api > docs/openapi.json

fuzz: $(DEV) ## Send what is hardly ever sent: 100,000 changed tokens and cursors, every phase of schemathesis; SEED=n
	$(BIN)/python -m tests.fuzz --seed $(SEED)

chaos: $(DEV) ## Kill everything at random and check that nothing is lost; SEED=n
	$(BIN)/python -m tests.chaos --seed $(SEED)

crash: $(DEV) ## Kill, freeze and cut off processes at every call that they make; POINTS=k: one of k, chosen by SEED=n
	$(BIN)/python -m tests.crash --every $(POINTS) --seed $(SEED)

soak: $(DEV) ## Sessions, culprits and deploys for MINUTES=20: does it take more with time? SEED=n
	$(BIN)/python -m tests.chaos.soak --minutes $(MINUTES) --seed $(SEED)

upgrade: $(DEV) ## Upgrade from an older commit under load, and back; FROM=commit SESSIONS=n OLD_PYTHON=path
	$(BIN)/python -m tests.upgrade --from $(FROM) --sessions $(SESSIONS) --python $(OLD_PYTHON)

clients: $(DEV) ## Run other people's clients as they are published, and kill what serves them
	$(BIN)/python -m pytest tests/clients/test_clients.py tests/clients/everything.py

lock: $(UV) ## Lock the dependencies again, with hashes; UPGRADE=--upgrade moves them
	$(LOCK) $(UPGRADE) --extra dev pyproject.toml -o requirements-dev.txt
# The versions that the file has are kept: both locks agree.
	cp requirements-dev.txt requirements.txt
	$(LOCK) pyproject.toml -o requirements.txt
	echo pip | $(LOCK) $(UPGRADE) --no-annotate --python-version 3.11 - -o requirements-pip.txt
	$(MAKE) locked
	$(MAKE) test ARGS=tests/unit/test_lock.py

locked: ## Check that the lock installs, in an environment of its own, with an old pip
	.ci/check-lock

$(UV):
	"$(PYTHON)" -m venv $(VENVS)/uv
	$(VENVS)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

pythons: ## Run unit and engine tests on Python 3.12 and 3.13
	.ci/pythons

clean: ## Remove everything that the other targets made, also the development database
	rm -rf $(VENV) $(VENVS) var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# It looks itself whether there is something to install.
$(READY) $(DEV):
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo 'Python 3.11 or newer is needed, and there is no $(PYTHON): make PYTHON=python3.12' >&2; exit 1; }
	@"$(PYTHON)" .ci/install.py $@
