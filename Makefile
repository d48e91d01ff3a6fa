# Everything on a fresh machine: `make demo` and `make test`. Both make the same virtual environment once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= figclip-demo

.PHONY: demo test check bench coverage clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/figclip demo $(DEMO) --overwrite

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy kernels

bench: $(VENV)/.installed
	$(BIN)/python examples/bench_adapt.py
	$(BIN)/python examples/bench_contrastive.py
	$(BIN)/python examples/bench_extract.py
	$(BIN)/python examples/bench_prompts.py

coverage: $(VENV)/.installed
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

clean:
	rm -rf $(VENV) $(DEMO) .coverage* .pytest_cache .mypy_cache .ruff_cache
