# Everything runs from .venv, which these targets make; only Python 3.11+ is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test coverage soak check docs site bench clean

demo: .venv/.base
	@$(BIN)/synthtrack demo

test: .venv/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

coverage: .venv/.dev
	@mkdir -p build/coverage
	$(BIN)/python -m pytest -n auto --dist loadfile --timeout=900 --cov

soak: .venv/.dev
	$(BIN)/python -m pytest tests/faults -m soak -n auto --dist loadgroup
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=soak --timeout=3600 -n auto

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m docs.generate --check

docs: .venv/.dev
	$(BIN)/python -m docs.generate

site: .venv/.dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@echo "build/site/index.html: open it, or python -m http.server --directory build/site"

bench: .venv/.dev
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.perspectives
	$(BIN)/python -m benchmarks.tracking
	$(BIN)/python -m benchmarks.identity
	$(BIN)/python -m benchmarks.database
	$(BIN)/python -m benchmarks.view
	$(BIN)/python -m benchmarks.listings
	$(BIN)/python -m benchmarks.pools
	$(BIN)/python -m benchmarks.memory
	$(if $(DATA),$(BIN)/python -m benchmarks.tree --data $(DATA) && $(BIN)/python -m benchmarks.zo --data $(DATA),@echo "Training is measured on real data: make bench DATA=DIRECTORY-OF-DATA-SETS")

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthtrack needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

.venv/.base: pyproject.toml | .venv/bin/python
	@echo "Installing synthtrack into .venv (once; a few minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "Installing synthtrack and its tools into .venv (once; a few minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.base
