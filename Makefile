# make quickstart   pretrain a small model on this machine and fill a mask
# make test         the checks that a change must pass
# make docs         the documentation site

PYTHON ?= python3
# The release that the tests have run with. On Linux pip's own choice brings CUDA libraries of several GB; PyTorch's index
# of CPU wheels avoids them:  make test TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= configuration/recipes/pretrain/quickstart.yaml

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint style docs docs-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

quickstart: $(VENV)/.core ## pretrain a small model on text of this machine, evaluate it at several lengths, fill a mask
	$(BIN)/python run_pretrain.py --config $(RECIPE)
	@test $(RECIPE) != configuration/recipes/pretrain/quickstart.yaml || printf '%s\n' '' 'What next? After  source $(BIN)/activate' \
		'  fine-tune it on a csv, here of made-up reviews:' \
		'    python run_glue.py --model_name_or_path outputs/quickstart --train_file examples/reviews.csv \' \
		'        --validation_file examples/held-out-reviews.csv --text_column review --label_column opinion \' \
		'        --output_dir outputs/quickstart-reviews' \
		'  compare attention normalizations and relative positions (--train_file names a text of yours):' \
		'    python -m modeling_gau.lengths.compare --output_dir outputs/quickstart-compare' \
		'  measure the model at other lengths, with n fixed and dynamic:' \
		'    python -m modeling_gau.lengths --model_name_or_path outputs/quickstart --lengths 32 128 512 2048 \' \
		'        --max_tokens 16384 --output_file outputs/lengths.csv'

# Two test processes on one core each. They get whole files, since fixtures are dear, in the order of collection: by
# default files with few tests come last, and the slowest would end alone. Without OMP_NUM_THREADS=1 every process
# starts a thread per core, and they get in each other's way.
test: lint ## lint, then run the tests
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test ## check style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(VENV)/.test ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tools on the page of commands print their help themselves: `python` is to be the one of the environment.
docs: $(VENV)/.docs ## build the documentation site into build/docs; a link that leads nowhere fails
	PATH="$(abspath $(BIN)):$$PATH" sphinx-build --fail-on-warning --keep-going -c docs/site -d build/doctrees . build/docs
	@echo "Open build/docs/index.html"

docs-check: $(VENV)/.test ## run what the pages tell the reader to run, shortened, each page in a copy of the repository
	OMP_NUM_THREADS=1 $(BIN)/python tests/pages.py

clean: ## remove the environment
	rm -rf $(VENV)

# Stamps: each is written after its step succeeded, so an interrupted step is repeated and a finished one is not.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one:  make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.created
	$(BIN)/python -m pip install $(PIP_ARGS) $(TORCH_ARGS) "$(TORCH)"
	@touch $@

$(VENV)/.core: setup.py pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install $(PIP_ARGS) --editable ".[plot,baselines]"
	@touch $@

$(VENV)/.test: setup.py pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install $(PIP_ARGS) --editable ".[test]"
	@touch $@ $(VENV)/.core

$(VENV)/.docs: setup.py pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install $(PIP_ARGS) --editable ".[docs]"
	@touch $@
