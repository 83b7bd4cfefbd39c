# `make run` takes calls, `make test` proves it. Both need Python 3.11 or later and fetch the rest
# themselves, pinned and with hashes; a second time neither fetches anything.

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	{ echo $$python; break; }; done)
BIN := .venv/bin
ARGS ?=

# Everything but what `npm` and `next` write.
PAGE := $(shell find web -name node_modules -prune -o -name .next -prune -o -name out -prune -o \
	-type f ! -name next-env.d.ts ! -name '*.tsbuildinfo' -print)

# Where Linux has setpriv, a `kill -9` of make ends the runner too, which then takes down what it
# started. Ctrl-C and a plain kill reach it anyway.
TIED = $(shell setpriv --pdeathsig TERM true 2>/dev/null && echo setpriv --pdeathsig TERM)

# Each process compiles anew what has no bytecode, which is half of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test check page lock wheel clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' Makefile

run: .venv/run web/out/csp.json ## install what is missing and take calls; ARGS="llm=ollama gpu=cpu_fallback"
	@exec $(TIED) $(BIN)/python -m runner $(ARGS)

test: .venv/dev web/out/csp.json ## run every test, with a real call in a browser; ARGS="tests/unit -k chunk"
	@CHROMIUM="$$(tests/browser.sh)" && export CHROMIUM && exec $(BIN)/python -m pytest $(ARGS)

check: .venv/dev web/node_modules/.package-lock.json ## lint, formatting, types, and whether the project's files agree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	web/node.sh npm run --silent typecheck
	$(BIN)/python -m pytest --quiet tests/unit/test_project.py

page: web/out/csp.json ## build the page that calls are made from

lock: ## pin again what pyproject.toml asks for; ARGS=--upgrade for the newest versions
	@uv --version >/dev/null 2>&1 || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(LOCK) --group build -o requirements/build.txt
	$(LOCK) --group node -o requirements/node.txt
	$(LOCK) pyproject.toml --extra embedded -o requirements/run.txt
	$(LOCK) pyproject.toml --extra embedded --group dev -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra embedded --extra models -o requirements/models.txt
	for peer in benchmarks/peers/*/; do \
	  $(LOCK) $${peer}requirements.in -o $${peer}requirements.txt || exit 1; done

wheel: .venv/dev web/out/csp.json ## build a wheel that holds the page and the manual, into dist/
	$(BIN)/hatchling build -t wheel

clean: ## remove all that make made; the database and the models are elsewhere and stay
	rm -rf .venv web/node_modules web/.next web/out dist .mypy_cache .ruff_cache .pytest_cache

# One version for every Python and system (--universal, fewest): what was tested is what is had.
LOCK = uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --custom-compile-command "make lock" $(ARGS)

# --no-deps: the locks are whole. --no-build-isolation: one package, Hydra's antlr4, has no wheel,
# and is built with the setuptools of build.txt instead of one that nobody pinned.
# ensurepip: uv makes environments without pip, and may be gone since.
define install
@echo "Installing requirements/$(1).txt, up to $(2) …"
@if uv --version >/dev/null 2>&1; then set -- uv pip install --python $(BIN)/python; \
else $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
set -- $(BIN)/python -m pip install --disable-pip-version-check; fi; \
set -- "$$@" --quiet --no-deps --require-hashes --no-build-isolation; \
"$$@" -r requirements/build.txt && "$$@" -r requirements/$(1).txt
endef

.venv/run: requirements/run.txt requirements/build.txt | $(BIN)/python
	$(call install,run,0.8 GB)
	@touch $@

.venv/dev: requirements/dev.txt requirements/build.txt | $(BIN)/python
	$(call install,dev,0.9 GB)
	@touch $@ .venv/run

.venv/node: requirements/node.txt | $(BIN)/python
	$(call install,node,60 MB)
	@touch $@

$(BIN)/python:
	$(if $(PYTHON),,$(error Python 3.11 or later was not found; install it, or name it: make PYTHON=/path/to/python3))
	@echo "Creating .venv with $(PYTHON) …"
	@if uv --version >/dev/null 2>&1; then uv venv --quiet --clear --python $(PYTHON) .venv; \
	else $(PYTHON) -m venv --clear .venv; fi

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@echo "Installing web/package-lock.json, up to 0.2 GB …"
	@web/node.sh npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/out/csp.json: $(PAGE) web/node_modules/.package-lock.json
	@echo "Building the page …"
	@web/node.sh npm run --silent build >web/node_modules/.build.log 2>&1 \
		|| { cat web/node_modules/.build.log; exit 1; }
	@touch $@
