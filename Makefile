# Every command builds and uses .venv in the checkout; nothing else has to be installed first.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
OLDEST := (3, 11)
# The Python that somebody asks for, if any: an environment of another version is rebuilt for it.
ASKED := $(if $(filter file,$(origin PYTHON)),,--python "$(PYTHON)")

# Files of tests at once: as many as a small machine has cores. With more, the fault run and the fuzzer starve the others.
AT_ONCE := --numprocesses 2 --dist loadfile

# What bends Python itself is not meant for us; without bytecode each program starts half a second later.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONPLATLIBDIR PYTHONOPTIMIZE PYTHONWARNINGS PYTHONINSPECT PYTHONSAFEPATH PYTHONSTARTUP

.PHONY: demo test test-console check run bench faults test-wheel test-typescript test-monitoring lint clean $(STAMP)
.NOTPARALLEL:

demo: $(STAMP)
	@$(BIN)/python -m workers.cli demo $(if $(IMAGES),--images "$$IMAGES")

test: $(STAMP)
	$(BIN)/python -m pytest $(AT_ONCE) --no-loadscope-reorder --ignore tests/monitoring --ignore tests/console

# Rules, metrics and dashboard by promtool, and a Prometheus that scrapes a stack through an outage.
test-monitoring: $(STAMP)
	@for tool in prometheus promtool; do command -v $$tool >/dev/null || { echo "error: there is no $$tool: install Prometheus (Debian, Ubuntu: apt install prometheus)" >&2; exit 1; }; done
	$(BIN)/python -m pytest tests/monitoring

# The console in a real browser: needs Chromium (Debian: apt install chromium).
test-console: $(STAMP)
	$(BIN)/python -m pytest tests/console

# Unit tests start no stack and wait now and then: three processes keep two cores busy.
check: lint
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --quiet tests/unit

run: $(STAMP)
	@exec $(BIN)/python -m workers.cli run

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

# The long run: some forty minutes. FAULTS_ARGS="--seed 7 --seconds 75 --tasks 400" is a short one.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --seconds 2400 --tasks 10000 --every 4 --drain 1800 $(FAULTS_ARGS)

# The Python client alone in a bare environment, which fetches what it requires.
test-wheel: $(STAMP)
	$(BIN)/python -m tests.client.bare

# Types for TypeScript from the OpenAPI document; it needs Node and npm, which fetches the generator.
test-typescript: $(STAMP)
	$(BIN)/python -m tests.client.typescript

lint: $(STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	$(BIN)/python -m bandit --quiet --recursive --configfile pyproject.toml workflows activities infra api workers clients make_venv.py
	files=$$(git ls-files) && echo "$$files" | xargs -P 2 -n 200 $(BIN)/python -m detect_secrets.pre_commit_hook --no-verify --baseline .secrets.baseline

# make_venv.py finds out whether there is anything to do.
$(STAMP):
	@if $(BIN)/python -I make_venv.py --check $(ASKED) 2>/dev/null; then exit 0; fi; \
	command -v "$(PYTHON)" >/dev/null || { echo "error: there is no $(PYTHON): install Python 3.11 or newer (Debian, Ubuntu: apt install python3 python3-venv)" >&2; exit 1; }; \
	"$(PYTHON)" -I -c 'import sys; sys.exit(sys.version_info < $(OLDEST))' || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$("$(PYTHON)" --version 2>&1 | head -n 1): install a newer one and name it, as in make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	"$(PYTHON)" -I make_venv.py $(ASKED)

clean:
	rm -rf $(VENV) .data demo-out
