# Each target makes its own virtual environment when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all check format docs bench clean

demo: $(READY)
	@$(BIN)/relaycall demo $(ARGS)

test: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 4 -m "not slow and not netns and not interop" $(ARGS)

# Everything, the slow suites and those that need coturn, a browser or root included.
test-all: $(READY)
	$(BIN)/pytest $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A warning is an error, and all of them are seen each time.
docs: $(VENV)/.ready-for-docs
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -d build/doctrees docs build/docs $(ARGS)
	@echo "build/docs/index.html"

bench: $(READY)
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "relaycall needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,audio,metrics,ratchet,redis,yaml]'
	@touch $@

$(VENV)/.ready-for-docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
