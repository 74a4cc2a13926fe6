# Each command does all of its own set-up, in .venv of this folder, with Python 3.11 or later, pip, git and make.
PYTHON ?= python3
INSTALLED := .venv/.installed
BIN := $(CURDIR)/.venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test nightly lint format constraints locks

help:  ## Show these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## Render a service, train, serve and ask it (DEST=folder, SERVE=1 keeps serving)
	$(BIN)/python scripts/demo.py $(if $(DEST),--destination "$(DEST)") $(if $(SERVE),--serve)

test: lint  ## Lint, then render, run, update and break what the template gives
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

nightly: $(INSTALLED)  ## The tests that take minutes and gigabytes: Ray Serve, MLflow, images
	$(BIN)/python -m pytest -m nightly $(ARGS)

lint: $(INSTALLED)  ## Check format, lint and types, of the template with the template's own settings
	$(BIN)/ruff format --check tests scripts benchmarks
	$(BIN)/ruff check tests scripts benchmarks
	$(BIN)/mypy
	cd template && $(BIN)/ruff format --config config/ruff.toml --check .
	cd template && $(BIN)/ruff check --config config/ruff.toml .
	cd template && $(BIN)/mypy --config-file config/mypy.ini src tests models deploy

format: $(INSTALLED)  ## Put all code into its format, and what is made of other files into theirs
	PYTHONPATH=template/src $(BIN)/python scripts/settings_page.py
	$(BIN)/python scripts/alert_rules.py
	$(BIN)/ruff format tests scripts benchmarks
	$(BIN)/ruff check --fix tests scripts benchmarks
	cd template && $(BIN)/ruff format --config config/ruff.toml .
	cd template && $(BIN)/ruff check --config config/ruff.toml --fix .

constraints: $(INSTALLED)  ## Resolve the newest versions: of generated services, and of these tests
	$(BIN)/python scripts/constraints.py

locks: $(INSTALLED)  ## Lock what the image installs, at the versions of the constraints
	$(BIN)/python scripts/constraints.py --locks

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed. Name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	test -x .venv/bin/uv || .venv/bin/python -m pip install --quiet --constraint requirements.txt uv
	.venv/bin/uv pip install --quiet --python .venv/bin/python --requirement requirements.txt
	@touch $@
