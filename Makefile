# What a checkout can do. Needs make, and Python 3.11 or newer with its venv module. Everything sets up first, once.
# To choose the interpreter: make setup PYTHON=/path/to/python3.12

BIN    := .venv/bin
STAMP  := .venv/.installed
PYTHON := python3 python3.14 python3.13 python3.12 python3.11

.PHONY: help setup demo check test test-all bench clean

help:
	@echo 'make setup     make .venv, once; the others do it for you'
	@echo 'make demo      real flights through a server that is killed half-way, and the proof that none was lost'
	@echo 'make test      lint, types, import rules, and all tests'
	@echo 'make check     lint, types, import rules'
	@echo 'make test-all  all tests with their long runs'
	@echo 'make bench     measure this machine'
	@echo 'make clean     remove .venv and what the tools left behind'

setup: $(STAMP)
	@:

# The stamp holds the folder it was made in, because an environment does not survive a move. It is written last, so that
# a set-up that broke off is done again from the beginning.
SET_UP_IN := $(shell cat $(STAMP) 2>/dev/null)

$(STAMP): pyproject.toml constraints.txt $(if $(filter-out $(CURDIR),$(SET_UP_IN)),moved)
	@will_do='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if [ '$(SET_UP_IN)' = '$(CURDIR)' ] && $(BIN)/python -c "$$will_do" 2>/dev/null; then exit; fi; \
	found=; for python in $(PYTHON); do \
	  if "$$python" -c "$$will_do" 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'make setup: needs Python 3.11 or newer with the modules venv and ensurepip; tried: $(PYTHON)' >&2; \
	  echo '  Debian, Ubuntu: apt install python3-venv. Elsewhere: make setup PYTHON=/path/to/python3.12' >&2; \
	  exit 1; \
	fi; \
	rm -rf .venv && "$$found" -m venv .venv
	@echo "installing what pyproject.toml asks for into .venv, once ($$($(BIN)/python --version))"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo '$(CURDIR)' > $(STAMP)

.PHONY: moved
moved:

demo: setup
	@$(BIN)/python tests/examples/flights/demo.py

check: setup
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports --no-logo) || { echo "$$said"; exit 1; }

# Many tests wait for servers, clocks and disks, so one process more than there are cores; JOBS=0 runs them in one.
JOBS := $(shell python3 -c 'import os; print(min((os.cpu_count() or 1) + 1, 8))')

test: check
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-all: check
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --kill-rounds 50

bench: setup
	@$(BIN)/python tests/bench/run.py
	@$(BIN)/python tests/bench/mappings.py
	@$(BIN)/python tests/bench/environments.py
	@$(BIN)/python tests/bench/delivery.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
