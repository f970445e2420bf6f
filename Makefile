# make run    the first example: seven classifiers compared
# make tour   all examples, one after the other: the whole life of a model
# make ui     the Tracking UI on what has been run
# make pictures   the pictures of docs/ anew, from runs made for them (needs chromium)
# make benchmark  benchmarks/REPORT.md anew, from an hour and a half of measuring on a quiet machine
# make quick  every rule that needs no process, server or browser: for each commit
# make test   everything that the project asserts
# make vendor the copies of support/ in each example anew
# make lock   every requirements.txt anew from pyproject.toml (make upgrade: with newer versions)

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := .venv/bin/uv
EXAMPLES = $(patsubst %/MLproject,%,$(wildcard */MLproject))

export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
# `mlflow run --env-manager local` starts the first python on the path.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Python keeps the bytecode of what is imported; to compile all that is installed takes longer than a first run.
unexport PYTHONDONTWRITEBYTECODE
# What mypy learns of the packages serves all examples.
export MYPY_CACHE_DIR := $(CURDIR)/.mypy_cache

.PHONY: run tour ui pictures benchmark quick test check vendor lock upgrade clean

run: .venv/classification.installed
	mlflow run classification --env-manager local -P max_depth=5

tour: .venv/tour.installed
	mlflow run . --env-manager local

ui: .venv/classification.installed
	mlflow ui --workers 1

pictures: .venv/everything.installed
	python docs/pictures.py

# Whoever is measured first must not pay for the bytecode of all.
benchmark: .venv/everything.installed
	python -m compileall -qq -j 0 .venv/lib || true  # some packages carry files for other versions of Python
	env -u MLFLOW_TRACKING_URI python benchmarks/report.py

quick: .venv/everything.installed
	pytest tests/quick

# Checked beside the first tests: mypy has use for one core only.
test: .venv/everything.installed
	$(MAKE) check & checked=$$!; pytest; tested=$$?; \
	wait $$checked || { echo "make check failed: see above."; exit 1; }; exit $$tested

check: .venv/everything.installed
	ruff check .
	ruff format --check .
	mypy *.py on_databricks/*.py
	MYPYPATH=tests mypy --explicit-package-bases tests benchmarks docs
	cd on_databricks/workspace && mypy --config-file ../../pyproject.toml .
	set -e; for example in $(EXAMPLES); do (cd $$example && mypy --config-file ../pyproject.toml .); done

vendor:
	$(PYTHON) vendor.py

lock: .venv/everything.installed
	python lock.py

upgrade: .venv/everything.installed
	python lock.py --upgrade

clean:
	rm -rf .venv

$(UV):
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"

.venv/classification.installed: classification/requirements.txt | $(UV)
	$(UV) pip install --quiet --python .venv/bin/python --requirements $<
	touch $@

.venv/tour.installed: requirements-tour.txt | $(UV)
	$(UV) pip install --quiet --python .venv/bin/python --requirements $<
	touch $@

.venv/everything.installed: requirements.txt | $(UV)
	$(UV) pip install --quiet --python .venv/bin/python --requirements $<
	touch $@
