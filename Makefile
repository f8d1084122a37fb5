# Every command builds and uses .venv in the checkout; nothing else has to be installed first.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: demo test run bench faults lint clean

demo: $(STAMP)
	$(BIN)/gpu-orchestrator demo $(if $(IMAGES),--images "$(IMAGES)")

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

run: $(STAMP)
	@exec $(BIN)/gpu-orchestrator run

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

# The long run: some forty minutes. FAULTS_ARGS="--seed 7 --seconds 75 --tasks 400" is a short one.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --seconds 2400 --tasks 10000 --every 4 --drain 1800 $(FAULTS_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml workflows activities infra api workers
	files=$$(git ls-files) && echo "$$files" | xargs $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

clean:
	rm -rf $(VENV) .data demo-out
