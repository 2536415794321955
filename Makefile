# Corral's commands. `make up` needs Python 3.11 or newer and make, nothing else.
SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
# One lock for every Python from 3.11 on and every platform; the marks beside the pins say what is for some only.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" --extra build
# What is installed is remembered as checksums, so that a second run costs nothing and a changed lock file is noticed.
RUN_INPUTS := requirements.lock pyproject.toml
TEST_INPUTS := requirements-test.lock pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help up down install install-test test test-sqlite test-browser test-postgresql lint types fmt lock settings-docs clean

help:
	@echo "make up       install into $(VENV) and run Corral on http://127.0.0.1:8080"
	@echo "make down     stop it from elsewhere"
	@echo "make test     install what the tests need and run them on SQLite and PostgreSQL"
	@echo "make lint     style and order of imports     make types   mypy     make fmt   format the code"
	@echo "make lock     compile the lock files again from pyproject.toml"

up: install
	@exec $(VENV)/bin/corral up

down: install
	@$(VENV)/bin/corral down

# The first Python that is new enough makes the environment; the sentences say what is missing.
$(PYTHON):
	@found=""; \
	for name in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	  if command -v $$name >/dev/null 2>&1 && \
	     $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Corral needs Python 3.11 or newer, and there is none on the PATH. Install it and run make again." >&2; exit 1; \
	fi; \
	if ! $$found -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  echo "$$found has no venv module. On Debian and Ubuntu install the package python3-venv, then run make again." >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$found"; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

install: $(PYTHON)
	@want=`cat $(RUN_INPUTS) | cksum`; \
	if ! grep -qsxF "$$want" $(VENV)/.installed; then \
	  echo "Installing the locked requirements"; \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	  echo "$$want" > $(VENV)/.installed; \
	fi

install-test: $(PYTHON)
	@want=`cat $(TEST_INPUTS) | cksum`; \
	if ! grep -qsxF "$$want" $(VENV)/.installed-test; then \
	  echo "Installing the locked requirements of the tests"; \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock && \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	  echo "$$want" > $(VENV)/.installed-test && cat $(RUN_INPUTS) | cksum > $(VENV)/.installed; \
	fi

# With `--keep-going`, as CI does, the passes after a failed one run too.
test: test-sqlite test-browser test-postgresql

test-sqlite: install-test
	$(PYTHON) -m tests.requirements
	$(PYTHON) -m tests.engines.build
	$(PYTHON) -m pytest -n 2 --dist worksteal -m "not browser" --ignore tests/authorisation/test_document.py

# Apart, as the browser's driver occupies the event loop of its process.
test-browser: install-test
	$(PYTHON) -m tests.engines.build
	$(PYTHON) -m pytest -m browser

# What needs no database, or an engine or a browser whatever the database, has been run by then. Of the two long tests of
# rights each runs once: who may do what is the same everywhere, what is typed may be too strange for PostgreSQL only.
test-postgresql: install-test
	$(PYTHON) -m tests.postgresql $(PYTHON) -m pytest -n 2 --dist worksteal -m "not engine and not browser and not any_database" \
	  --ignore tests/authorisation/test_matrix.py

lint: install-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

fmt: install-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: install-test
	@folder=`mktemp -d` && CORRAL_DATA_DIR=$$folder $(VENV)/bin/mypy; code=$$?; rm -rf "$$folder"; exit $$code

# The test lock file is bound to the other one, so that the tests run what users run.
lock: install-test
	$(VENV)/bin/$(LOCK) -o requirements.lock pyproject.toml
	$(VENV)/bin/$(LOCK) --extra test -c requirements.lock -o requirements-test.lock pyproject.toml

settings-docs: install
	@folder=`mktemp -d` && CORRAL_DATA_DIR=$$folder $(VENV)/bin/corral settings --markdown > docs/settings.md; rm -rf "$$folder"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
