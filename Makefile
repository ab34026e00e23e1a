# Everything the project needs, from a machine with Python 3.11 or later and make. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# Override on the command line or in the environment: make run BIND=127.0.0.1:9000 QAA_DELAY=1
BIND ?= 127.0.0.1:8000
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
TEST_ARGS ?=
# `make run EXTRAS=postgresql` for a PostgreSQL database, EXTRAS=distributed for the distributed engine on it
EXTRAS ?= core

# The tests start hundreds of processes, and rewrite their own modules: both are quicker with their bytecode kept.
unexport PYTHONDONTWRITEBYTECODE

# Variables named QAA_* reach the server however they were given: make run QAA_DELAY=1
$(foreach name,$(filter QAA_%,$(.VARIABLES)),$(eval export $(name)))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name it with PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp a lock file: a second run finds it newer than the lock and installs nothing.
$(VENV)/.installed-%: requirements/%.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$*.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

# Test data from npm, installed once for each lock file. Without npm the tests that read it are skipped.
CORPORA := tests/node_modules/.installed
$(CORPORA): tests/package-lock.json
	@if ! command -v npm >/dev/null; then \
	  echo "make: no npm: the tests that read its packages (tests/package.json) are skipped" >&2; \
	elif (cd tests && npm ci --silent); then touch $@; \
	else echo "make: npm could not install tests/package.json: the tests that read its packages are skipped" >&2; fi

# The console's own receiver of callbacks, for the targets that people try the service with
run dev demo: export QAA_INBOX ?= 1

.PHONY: run
run: $(VENV)/.installed-$(EXTRAS) ## Bring the database up to date and serve on BIND (127.0.0.1:8000)
	@$(BIN)/quart-async-api migrate
	@exec $(BIN)/quart-async-api serve --bind $(BIND)

.PHONY: dev
dev: $(VENV)/.installed-dev ## The same, restarted whenever a source file changes
	@$(BIN)/quart-async-api migrate
	@exec $(BIN)/quart-async-api serve --bind $(BIND) --reload

.PHONY: demo
demo: $(VENV)/.installed-core ## The same, with fake upstreams: works with no internet
	@$(BIN)/quart-async-api migrate
	@exec $(BIN)/python -m quart_async_api.demo --bind $(BIND)

# A worker takes a file at a time, in the order of tests/order.py.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(VENV)/.installed-dev $(CORPORA) ## All tests, with those of the examples, without the soak tests
	@$(BIN)/python -m tests.browser.chromium
	@command -v $${CC:-cc} >/dev/null || echo "make: no C compiler (cc): the simulated power cuts of tests/faults are skipped" >&2
	@PATH=$$PATH:/usr/sbin; for program in nginx systemd-analyze; do command -v $$program >/dev/null || \
	  echo "make: no $$program: the tests of its files in deploy are skipped" >&2; done
	$(BIN)/python -m pytest -n 5 $(BY_FILE) -m 'not soak' $(TEST_ARGS)

.PHONY: test-fast
test-fast: $(VENV)/.installed-dev ## The quick tests, which start no process and no browser
	$(BIN)/python -m pytest -n 6 $(BY_FILE) -m 'not soak and not process and not browser and not slow' $(TEST_ARGS)

.PHONY: soak
soak: $(VENV)/.installed-dev $(CORPORA) ## The long tests
	@command -v $${CC:-cc} >/dev/null || echo "make: no C compiler (cc): the simulated power cuts of tests/faults are skipped" >&2
	$(BIN)/python -m pytest -m soak --timeout 1800 $(TEST_ARGS)

.PHONY: lint
lint: $(VENV)/.installed-dev ## Style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(VENV)/.installed-dev ## Fix what `make lint` can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.installed-dev ## mypy, strict, on the package and its tests
	$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/.installed-dev ## Write what the docs take from the code: docs/reference, the picture and table of the rooms
	$(BIN)/python -m docs.generate

.PHONY: screenshots
screenshots: $(VENV)/.installed-dev ## The pictures of the console, into docs/assets/console: every page of its menu, and the four deliveries
	@$(BIN)/python -m tests.browser.chromium
	@$(BIN)/python -m docs.screenshots

.PHONY: site
site: $(VENV)/.installed-dev ## The documentation as a site with search, in build/site
	@$(BIN)/python -m docs.collect build/pages
	$(BIN)/zensical build --strict

# The peers of the benchmarks, in environments of their own. One that cannot be installed is shown as such in the results.
BENCH_ENVS := $(patsubst benchmarks/peers/%.txt,build/bench-env-%/.installed,$(wildcard benchmarks/peers/*.txt))
build/bench-env-%/.installed: benchmarks/peers/%.txt
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< \
	  && touch $@ || { rm -rf $(@D); echo "make: $< cannot be installed: the results say so" >&2; }

.PHONY: bench
bench: $(VENV)/.installed-dev $(BENCH_ENVS) ## This service beside its peers, into build/bench: make bench PARTS="http jobs"
	$(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(PARTS)

.PHONY: bench-quick
bench-quick: $(VENV)/.installed-dev $(BENCH_ENVS) ## The rows of HTTP that have goals, in three minutes
	$(BIN)/python -m benchmarks --quick $(if $(ROUNDS),--rounds $(ROUNDS)) $(PARTS)

.PHONY: bench-keep
bench-keep: ## Copy what the last `make bench` has measured to benchmarks/results, and to its page in docs/reference
	@test -d build/bench || { echo "make: nothing is measured yet: run make bench" >&2; exit 1; }
	cp build/bench/*.json build/bench/*.svg benchmarks/results/
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m docs.generate; fi

.PHONY: build
build: $(VENV)/.installed-dev ## The wheel and the source archive, into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --quiet
	@ls dist

.PHONY: migrations
migrations: $(VENV)/.installed-dev ## Write a migration for what changed in the models: make migrations NAME=what_changes
	$(BIN)/python -m quart_async_api.db.makemigrations $(NAME)

.PHONY: lock
lock: $(VENV)/.installed-dev ## Resolve the locked dependencies anew
	./requirements/compile $(BIN)/uv

.PHONY: clean
clean: ## Remove what the other targets made, databases excepted
	rm -rf $(VENV) tests/node_modules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
