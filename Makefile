# make help lists the targets. Each that needs an installation makes .venv first and leaves it alone afterwards.

PYTHON ?= python3
TEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench clean

help:
	@echo 'make demo      train, measure and predict on the embedded digits; writes runs/demo'
	@echo 'make test      the tests, without the slow and the gpu ones'
	@echo 'make test-all  all tests (gpu ones skip themselves where there is no CUDA device)'
	@echo 'make lint      ruff, pyright and the import layers'
	@echo 'make bench     every benchmark, and one table of ratios to their baselines (13 minutes)'
	@echo 'make clean     remove caches and build output; keeps .venv and runs/'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python of .venv; TEST_WORKERS=4 the number of test processes.'

# The stamp is written last, so a half-finished installation is taken up again by the next make.
#
# On Linux x86_64 PyPI's torch is the CUDA build (several GB). For a smaller one put that into .venv first; pip then keeps it,
# because it is the version that constraints.txt asks for:
#   python3 -m venv .venv
#   .venv/bin/pip install -c constraints.txt torch torchvision --extra-index-url https://download.pytorch.org/whl/cpu
.venv/.installed: setup.cfg pyproject.toml constraints.txt
	@if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	        echo "jostle needs Python 3.11 or newer, which '$(PYTHON)' is not. Name one: make PYTHON=python3.12" >&2; \
	        exit 1; }; \
	    $(PYTHON) -m venv --clear .venv; \
	fi
	@echo 'Installing into .venv (a few minutes the first time) ...'
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[nn,dev]'
	@touch $@

demo: .venv/.installed
	@.venv/bin/jostle validate perturbation --preset digits-demo --out runs/demo

# One thread per process: two workers with two threads each would fight over two cores. A file stays with one worker, which
# sets its fixtures up once.
test: .venv/.installed
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m 'not slow and not gpu'

test-all: .venv/.installed
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports

bench: .venv/.installed
	@.venv/bin/python benchmarks/all.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -path ./runs -prune -o -name __pycache__ -type d -exec rm -rf {} +
