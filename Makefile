# The commands of this project. `make run` and `make test` need Python 3.11+, git and make.
SHELL := /bin/sh
PYTHON ?= python3
PY := .venv/bin/python
PACKAGES := $(wildcard api cli codegen kernel tables tools tests)
UNIT := $(wildcard tests/tables tests/codegen tests/kernel tests/api tests/test_tiny.py)
WHOLE := tests/docker tests/guests tests/scenarios tests/stress
PYTEST_ARGS ?=
STRESS_ARGS ?= --containers 4 --processes 8 --seconds 20

.PHONY: help run test check format lint types layers size generated unit bench tables stress \
	coverage venv venv-test images clean

help:
	@echo 'make run     install into .venv, start the daemon, run a first container'
	@echo 'make test    every check and test, and whatever they need'
	@echo 'make check   format, lint, types, layers, size, generated files, unit tests'
	@echo 'make bench   speed against native, as a table and as JSON'
	@echo 'make stress  STRESS_ARGS="--containers N --processes M --seconds S"'
	@echo 'make tables  regenerate tables/ from Linux headers'
	@echo 'make clean   remove .venv, .cache and what tools left behind'

# Both do nothing when pyproject.toml has not changed since they last ran.
venv:
	@$(PYTHON) -m tools.make_venv

venv-test:
	@$(PYTHON) -m tools.make_venv test

run: venv
	@$(PY) -m tools.run

# Every part runs, whatever became of those before it.
test: venv-test images
	@failed=; \
	make --no-print-directory check || failed="$$failed check"; \
	$(PY) -m pytest $(WHOLE) $(PYTEST_ARGS) || failed="$$failed suite"; \
	$(PY) -m tools.test_as_user || failed="$$failed as-user"; \
	if [ -n "$$failed" ]; then echo "make test: FAILED:$$failed"; exit 1; fi

check: format lint types layers size generated unit

format: venv-test
	$(PY) -m ruff format --check --quiet $(PACKAGES)

lint: venv-test
	$(PY) -m ruff check --quiet $(PACKAGES)

types: venv-test
	$(PY) -m mypy $(PACKAGES)

layers: venv-test
	.venv/bin/lint-imports

size: venv-test
	$(PY) -m tools.check_size

generated: venv-test
	$(PY) -m tools.check_generated

unit: venv-test
	$(PY) -m pytest $(UNIT) $(PYTEST_ARGS)

images: venv-test
	$(PY) -m tests.images

bench: venv-test images
	$(PY) -m tests.bench $(BENCH_ARGS)

stress: venv-test images
	$(PY) -m tests.stress $(STRESS_ARGS)

tables: venv-test
	$(PY) tools/gen_syscalls.py

coverage: venv-test
	$(PY) -m tools.gen_coverage

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache bench-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
