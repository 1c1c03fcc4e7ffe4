# The two commands: `make demo` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export HF_HUB_OFFLINE := 1

.PHONY: demo test check unit slow contract docs bench clean

demo: $(VENV)/.demo
	@sh examples/demo.sh $(BIN)/ltrl

test: $(VENV)/.test
	$(MAKE) --no-print-directory check unit slow

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.test
	$(BIN)/pytest -n auto -m "not training and not slurm and not contract"

slow: $(VENV)/.test
	$(BIN)/pytest -n 2 --dist loadscope -m "training or slurm"

# NeMo-RL's own code on a CPU, from a checkout of v0.7.0: tests/contract/README.md.
contract:
	@test -d "$(NEMO_RL)/nemo_rl" || { echo "usage: make contract NEMO_RL=<checkout of NeMo-RL v0.7.0>" >&2; exit 2; }
	@$(MAKE) --no-print-directory .venv-contract/.made
	NEMO_RL=$(abspath $(NEMO_RL)) .venv-contract/bin/pytest tests/contract -m contract --durations 5

.venv-contract/.made: pyproject.toml tests/contract/requirements.txt
	@echo "making .venv-contract with what NeMo-RL needs on a CPU: about 3 minutes"
	@$(PYTHON) -m venv .venv-contract
	@.venv-contract/bin/pip install --quiet --disable-pip-version-check --requirement tests/contract/requirements.txt --editable .
	@touch $@

docs: $(VENV)/.test
	$(BIN)/python tools/docs.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/cli.py
	$(BIN)/python benchmarks/data_check.py
	$(BIN)/python benchmarks/diff.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/server.py
	$(BIN)/python benchmarks/status.py
	$(BIN)/python benchmarks/dataset.py
	$(BIN)/python benchmarks/watch.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("ltrl needs Python 3.11 to 3.13, this is " + sys.version.split()[0]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing ltrl with the embedded engine (torch, trl, …): about 1.5 minutes"
	@$(PIP) --editable '.[local]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing ltrl with what its tests need"
	@$(PIP) --editable '.[local,server,eval,tracking,dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .venv-contract build runs dist .mypy_cache .ruff_cache .pytest_cache
