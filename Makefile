# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv if it is not there.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-slow lint benchmarks clean

help:
	@echo "make demo        set up, then generate scenes, train four models, write demo/report.html"
	@echo "make test        set up, then run the tests"
	@echo "make test-slow   the tests that take longer as well"
	@echo "make lint        ruff and mypy"
	@echo "make benchmarks  time and memory, as ratios to plain references"
	@echo "make clean       remove .venv, demo/ and caches"

setup: .venv/.installed

# torch and torchvision are resolved together by pip in one go: see pyproject.toml.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Crossband needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/crossband demo --out demo

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
