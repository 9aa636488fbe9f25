# Everything a developer types. Needs make and Python >= 3.11; the rest is installed into .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Microsoft's validator of SARIF files, which brings its own runtime.
SARIF := @microsoft/sarif-multitool-$(shell uname -s | tr A-Z a-z)
SARIF_VERSION := 5.7.0
# One thread a process: small models run faster so, and the tests run in several processes.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test bench score stability compare lint format docs picture browser sarif clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 18

demo: $(VENV)/.run  ## check the healthy digits example: terminal, nncheck-report.html, nncheck-result.json
	$(BIN)/nncheck run examples/digits_cnn.py --json nncheck-result.json

test: $(VENV)/.dev browser sarif  ## the whole test suite
	$(BIN)/python -m pytest -n auto --dist worksteal

bench: $(VENV)/.dev  ## cost in training steps, memory, growth with depth, start-up times, a run in CI
	$(BIN)/python -m bench

score: $(VENV)/.dev  ## planted faults found and healthy set-ups and scripts accused (many minutes)
	$(BIN)/python scripts/score.py -v
	$(BIN)/python scripts/score_scripts.py -v

stability: $(VENV)/.dev  ## how often a verdict turns with the seed: every example 20 times (an hour or more)
	$(BIN)/python scripts/stability.py

compare: $(VENV)/.compare  ## torchtest2 and pytest-torch over the same set-ups, after `make score` (many minutes)
	PYTHONPATH=$(VENV)/compare $(BIN)/python scripts/compare.py

lint: $(VENV)/.dev  ## ruff, mypy --strict and generated documentation that is up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy nncheck
	$(BIN)/python scripts/gen_docs.py --check
	$(BIN)/python scripts/score.py --check

format: $(VENV)/.dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## write docs/checks/*.md and the README table from the docstrings
	$(BIN)/python scripts/gen_docs.py

picture: $(VENV)/.dev browser  ## take the README's terminal capture and report picture anew
	$(BIN)/python scripts/screenshot.py

browser:  ## a Chromium for the tests of the HTML report; installed with apt-get where that is possible
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else echo "make: no Chromium found; the browser tests need one (install the package chromium)" >&2; fi; }

sarif: build/sarif/$(SARIF_VERSION)  ## the validator for the tests of the SARIF output; installed with npm

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis nncheck-report.html nncheck-result.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: nncheck needs Python 3.11 or newer; name one with PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps, so that the second time is quick.
$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[examples]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.run

# In a folder of their own: pytest-torch is a pytest plugin, and would run in this project's tests too.
$(VENV)/.compare: $(VENV)/.dev
	$(INSTALL) --no-deps --target $(VENV)/compare torchtest2 pytest-torch
	@touch $@

# Its installation script only sets the bit that npm may not let it set.
build/sarif/$(SARIF_VERSION):
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-audit --no-fund --prefix build/sarif $(SARIF)@$(SARIF_VERSION) && \
	  chmod u+x build/sarif/node_modules/$(SARIF)/Sarif.Multitool && touch $@; \
	else echo "make: no npm found; the SARIF tests need $(SARIF) from it (install Node.js)" >&2; fi
