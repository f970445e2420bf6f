# make run   the first example: seven classifiers compared
# make ui    the Tracking UI on what has been run
# make test  everything the project asserts
# make lock  regenerate every requirements.txt from pyproject.toml (make upgrade: with newer versions)

EXAMPLES := classification
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV = .venv/bin/uv

export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
# `mlflow run --env-manager local` starts the first `python` on the path.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# A fresh environment without compiled bytecode starts twice as slowly.
export UV_COMPILE_BYTECODE := 1

SHELL := /bin/bash

.PHONY: run ui test check types lock upgrade clean

run: .venv/classification.installed
	mlflow run classification --env-manager local -P max_depth=5

ui: .venv/classification.installed
	mlflow ui --workers 1

test: check
	pytest

check: types
	ruff check .
	ruff format --check .

types: .venv/everything.installed
	mypy tests
	for example in $(EXAMPLES); do (cd $$example && mypy --config-file ../pyproject.toml .) || exit 1; done

lock: $(UV)
	$(COMPILE) --output-file requirements.txt $(addprefix --group ,$(EXAMPLES)) --group development
	for example in $(EXAMPLES); do \
	  $(COMPILE) --no-annotate --constraint requirements.txt --output-file $$example/requirements.txt --group $$example || exit 1; \
	done

upgrade:
	$(MAKE) lock UPGRADE=--upgrade

clean:
	rm -rf .venv

COMPILE = $(UV) pip compile --quiet --universal --no-emit-index-url --custom-compile-command "make lock" $(UPGRADE)

$(UV):
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"

.venv/classification.installed: classification/requirements.txt | $(UV)
	$(UV) pip install --quiet --python .venv -r $<
	touch $@

.venv/everything.installed: requirements.txt | $(UV)
	$(UV) pip install --quiet --python .venv -r $<
	touch $@
