# make run    the first example: classifiers compared (language=fr: in French)
# make tour   all examples, one after the other: the whole life of a model
# make ui     the Tracking UI on what has been run
# make team-server   PostgreSQL, object storage and accounts on this machine: see team_server/README.md
# make pictures   the pictures of docs/ anew, from runs made for them (needs chromium)
# make benchmark  benchmarks/REPORT.md anew, from an hour and a half of measuring on a quiet machine
# make quick  every rule that needs no process, server or browser: for each commit
# make test   everything that the project asserts
# make vendor the copies of support/ in each example anew
# make lock   every requirements.txt anew from pyproject.toml (make upgrade: with newer versions)

SHELL := /bin/bash
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# PYTHON=/path/to/python names another one; .venv is made anew where another made it.
ifndef PYTHON
PYTHON := $(shell for each in $(if $(wildcard .venv/bin/uv),.venv/bin/python) python3.11 python3.12 python3.13 python3 python; do \
	if $$each -c '$(FITS)' 2> /dev/null; then echo $$each; break; fi; done)
endif
UV := .venv/bin/uv
EXAMPLES = $(patsubst %/MLproject,%,$(wildcard */MLproject))
INSTALLED = .venv/classification.installed .venv/tour.installed .venv/team_server.installed .venv/everything.installed

ORIGIN = import sys; print(sys.version, sys.base_prefix)
ifneq ($(shell .venv/bin/python -c '$(ORIGIN)' 2> /dev/null),$(shell $(PYTHON) -c '$(ORIGIN)' 2> /dev/null))
.PHONY: $(UV) $(INSTALLED)
endif

# What the tests need and pip cannot install: for pictures of the Tracking UI, jobs of the local workspace, Spark.
lacks = $(shell command -v $(1) > /dev/null || echo $(2))
LACKING = $(strip $(call lacks,curl,curl) $(call lacks,chromium,chromium fonts-dejavu-core) $(call lacks,bwrap,bubblewrap) \
	$(call lacks,java,openjdk-17-jre-headless))

export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
# `mlflow run --env-manager local` starts the first python on the path.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Python keeps the bytecode of what is imported; to compile all that is installed takes longer than a first run.
unexport PYTHONDONTWRITEBYTECODE
# What mypy learns of the packages serves all examples.
export MYPY_CACHE_DIR := $(CURDIR)/.mypy_cache

.PHONY: store run tour ui team-server pictures benchmark quick test check system lacking vendor lock upgrade clean

# MLflow would ask a server that is away again and again, for minutes, without a word.
ANSWERS = import sys, urllib.request as web; Any = web.HTTPErrorProcessor; \
	Any.http_response = Any.https_response = lambda *given: given[-1]; web.urlopen(sys.argv[1] + "/health", timeout=10)

store:
	@if [[ "$$MLFLOW_TRACKING_URI" == http* ]] && \
	! $(PYTHON) -c '$(ANSWERS)' "$${MLFLOW_TRACKING_URI%/}" 2> /dev/null; then \
	echo "MLFLOW_TRACKING_URI=$$MLFLOW_TRACKING_URI does not answer: start that server, or unset the variable."; exit 1; fi

SEE_en := To see it in a browser, type make ui in a second terminal, in this folder.
SEE_fr := Pour le voir dans un navigateur, tapez make ui dans un second terminal, dans ce dossier.

# MLflow's own lines (its database, the command that it runs) say nothing to a newcomer; what fails is said.
run: export MLFLOW_LOGGING_LEVEL ?= WARNING
run: $(UV) store .venv/classification.installed
	mlflow run classification --env-manager local -P max_depth=5 $(if $(language),-P language=$(language))
	@echo "$(or $(SEE_$(language)),$(SEE_en))"

tour: $(UV) store .venv/tour.installed
	mlflow run . --env-manager local

TAKEN := Port 5000 is taken: end the other program (another make ui?), or type mlflow ui --workers 1 --port 5002
ui: .venv/classification.installed
	@python -c "import socket; socket.create_server(('127.0.0.1', 5000))" 2> /dev/null || { echo "$(TAKEN)"; exit 1; }
	@echo "Once it says that Uvicorn is running: http://127.0.0.1:5000/#/experiments/0/runs?workflowType=machine_learning"
	mlflow ui --workers 1

# make team-server port=5001 folder=/srv/mlflow: both stores, the logs and the passwords are kept in the folder.
team-server: .venv/team_server.installed
	python team_server/server.py $(if $(port),--port $(port)) $(if $(folder),--folder $(folder))

pictures: .venv/everything.installed
	python docs/pictures.py

# Compiled first, or the first to be measured would pay for the bytecode of all.
benchmark: .venv/everything.installed
	python -m compileall -qq -j 0 .venv/lib || true  # some packages carry files for other versions of Python
	env -u MLFLOW_TRACKING_URI python benchmarks/report.py

quick: .venv/everything.installed
	pytest tests/quick

# tests/test_collection.py runs `make check` beside the other tests.
test: system .venv/everything.installed
	pytest

system:
	@if [ -n "$(LACKING)" ]; then \
	echo "make test needs more than Python packages. On Debian and Ubuntu: apt-get install $(LACKING)"; exit 1; fi

lacking:
	@echo $(LACKING)

check: .venv/everything.installed
	ruff check --no-cache . # its cache does not notice a module that is new, or gone
	ruff format --check .
	mypy *.py on_databricks/*.py team_server/*.py
	mypy --explicit-package-bases on_databricks/mlflow_databricks_jobs
	MYPYPATH=tests mypy --explicit-package-bases tests benchmarks docs
	cd on_databricks/workspace && mypy --config-file ../../pyproject.toml .
	set -e; for example in $(EXAMPLES); do (cd $$example && mypy --config-file ../pyproject.toml .); done
	set -e; for task in classification regression; do MYPYPATH=classification mypy \
	new_project/$$task/train.py new_project/common/predict.py; done

vendor:
	$(PYTHON) vendor.py

lock: .venv/everything.installed
	python lock.py

upgrade: .venv/everything.installed
	python lock.py --upgrade

clean:
	rm -rf .venv

$(UV):
	@if ! $(or $(PYTHON),false) -c '$(FITS)' 2> /dev/null; then \
	echo "Python 3.11, 3.12 or 3.13 is needed, and $(or $(PYTHON),the python3 on the path) is another:" \
	"make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; fi
	@if [ -e .venv ]; then echo "Another Python made .venv: it is made anew."; fi
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.txt)"

.venv/classification.installed: classification/requirements.txt | $(UV)
	$(call install,510 MB,2.1 GB)

.venv/tour.installed: requirements-tour.txt | $(UV)
	$(call install,510 MB,2.1 GB)

.venv/team_server.installed: team_server/requirements-local.txt | $(UV)
	$(call install,350 MB,1.4 GB)

.venv/everything.installed: requirements.txt on_databricks/pyproject.toml | $(UV)
	$(call install,1.2 GB,3.1 GB)
	@$(UV) pip install --quiet --no-deps --python .venv/bin/python --editable ./on_databricks

# uv says what it downloads and how large that is; each package once more, when it is installed, is left out.
define install
	@echo "Installing the packages of $< into .venv, once: about $(1) to download, $(2) on disk."
	@set -o pipefail; $(UV) pip install --python .venv/bin/python --requirements $< 2>&1 | grep --line-buffered -v '^ [-+~] '
	@touch $@
endef
