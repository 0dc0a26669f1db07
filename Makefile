# Every target sets up what it needs. JOBS (side by side: the cores' number, or 1 where they would share one GPU), SEEDS
# ("0 1 2"), PROFILE (smoke, cpu, gpu), FULL=1 or 2, and DATASET can be given.
SHELL := /bin/sh
PROFILE ?= cpu
JOBS ?= $(if $(filter gpu,$(PROFILE)),1,$(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2))
FULL ?= 0
PORT ?= 8000
PYTHON ?= python3
TF_CPP_MIN_LOG_LEVEL ?= 3
export PROFILE JOBS SEEDS FULL DATASET TF_CPP_MIN_LOG_LEVEL
PY := .venv/bin/python
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help reproduce smoke book verify record test bench lint format lock serve clean

help: ## print this list
	@echo "make TARGET [PROFILE=cpu|smoke|gpu] [JOBS=$(JOBS)] [SEEDS=\"0 1 2\"] [FULL=1|2] [DATASET=cifar10|images]"
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  %-10s %s\n", $$1, $$2}'

reproduce: $(READY) ## the core runs, figures, verdicts and pages again, from the data; FULL=2: all runs
	$(PY) -m lipnb.lab.pipeline run
smoke: $(READY) ## the whole path with tiny budgets, in build/smoke
	PROFILE=smoke $(PY) -m lipnb.lab.pipeline run
book: $(READY) ## the pages from the recorded results, in build/book/html (no training)
	RECORDED=1 $(PY) -m lipnb.lab.pipeline run
verify: $(READY) ## fresh results beside the recorded ones, claim by claim; exit 1 where a verdict changed
	$(PY) -m lipnb.lab.verify
record: $(READY) ## keep this machine's results of PROFILE as the recorded ones, unless one of those would be lost
	$(PY) -m lipnb.lab.pipeline record
test: $(READY) ## all tests, on TensorFlow and on every other backend that is installed
	$(PY) tests/run.py
bench: $(READY) ## speed as ratios, beside the peers that are installed; wants the machine for itself
	$(PY) tests/bench/run.py $(BENCH)
lint: $(READY) ## formatting, lint and types of code and notebooks; the lock is up to date
	PYTHON=$(PY) sh tests/lint
format: $(READY) ## format code in place
	$(PY) -m ruff check -q --fix . && $(PY) -m ruff format -q .
lock: $(READY) ## resolve pyproject.toml anew into uv.lock and requirements.lock
	$(PY) -m uv lock --upgrade && $(PY) -m uv export $(EXPORT)
serve: $(READY) ## the newest finished book on 127.0.0.1:PORT
	@page=$$(ls -t build/book/html/index.html build/$(PROFILE)/html/index.html 2>/dev/null | head -n 1); \
	test -n "$$page" || { echo "there is no book yet: make book"; exit 2; }; \
	echo "$$page"; $(PY) -m http.server --bind 127.0.0.1 --directory "$${page%/index.html}" $(PORT)
clean: ## delete everything made, the environment included
	rm -rf build .venv .snakemake .hypothesis .pytest_cache .ruff_cache .mypy_cache

EXPORT = --frozen --no-emit-project --extra lab --extra jax --group dev --quiet --output-file requirements.lock
$(READY): requirements.lock pyproject.toml
	@test -x $(PY) || $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	{ echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12, say. Received: $$($(PYTHON) --version)"; exit 2; }
	test -x $(PY) || uv venv --quiet --seed .venv 2>/dev/null || $(PYTHON) -m venv .venv
	$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip install --quiet --python $(PY) --compile-bytecode --require-hashes -r requirements.lock
	$(PY) -m uv pip install --quiet --python $(PY) --no-deps -e .
	@touch $@
