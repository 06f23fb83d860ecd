# make setup | demo | test | check | docs      (VENV=DIR and PYTHON=COMMAND choose another environment or interpreter, PIP_FLAGS what pip gets)
VENV ?= .venv
PYTHON ?= python3
PY = $(VENV)/bin/python

.PHONY: setup demo test check docs .typing
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python >= 3.10 is needed; name one with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: '$(PYTHON) -m venv' failed; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@echo "installing the dependencies into $(VENV): some minutes, 5 GB"
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --editable '.[dev]'
	@rm -rf build *.egg-info
	@touch $@

# The package as type checkers find it: they follow neither the mapping of an installation nor bench/checkout.
.typing: setup
	@rm -rf $@ && mkdir -p $@/anoseg_bench
	@ln -s $(CURDIR)/bench/* $(CURDIR)/methods $(CURDIR)/datasets $@/anoseg_bench/

demo: setup
	$(PY) run_bench.py --methods anoseg,ae_recon,ae_ssim,gradcam --category blister,brushed_metal,fabric --profile demo --out results/demo

test: setup
	$(PY) -m pytest

docs: setup .typing
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

check: setup .typing
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
