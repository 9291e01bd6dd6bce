# Everything runs in .venv, which the first command makes; `make clean` removes it.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# A stamp is touched when its installation succeeded; after a change of setup.cfg it is made again.
RUNNABLE := $(VENV)/.installed
TESTABLE := $(VENV)/.installed-for-development
PLOTTABLE := $(VENV)/.installed-for-benchmarks
MUTABLE := $(VENV)/.installed-for-mutants
DOCUMENTABLE := $(VENV)/.installed-for-docs
# The clients that the benchmarks compare with want other versions of what this library needs.
PEERS := .venv-peers
# As setup.cfg has it.
OLDEST_CLIENT := 2.6.0
OLDEST := .venv-oldest
KIT_TESTS := tests/scenarios/test_failures.py tests/scenarios/test_send_to_handler.py \
  tests/scenarios/test_test_kit.py tests/unit/test_embedded_cluster.py tests/unit/test_pytest_plugin.py \
  tests/contract/test_20_kafkatest.py tests/regressions/test_a80_to_a84_kafkatest.py
# Tests wait more than they work: processes that run them at a time.
WORKERS ?= 8
MUTANTS_AT_ONCE ?= 2
# Their signal handlers wait for threads, which may need the lock of coverage that the interrupted thread holds.
UNMEASURED := --deselect tests/unit/test_group_close.py::test_a_signal_handler_may_close \
  --deselect tests/unit/test_producer_close.py::test_a_signal_handler_may_close
# On which Pythons distributions are tried: all that are here and supported, or the running one.
PYTHONS ?= all
PIP := $(PY) -m pip --disable-pip-version-check --quiet install

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-oldest test-kafka coverage mutants chaos kafka-up kafka-down bench bench-kafka lint format docs reference build test-wheel check clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(RUNNABLE) ## run the demo, on a broker inside the process
	@$(PY) -m dp_kafka demo

# Else each of these processes, and each that a test starts, would compile every module anew.
test test-oldest test-kafka coverage: export PYTHONDONTWRITEBYTECODE =

test: $(TESTABLE) ## run every test that needs no Apache Kafka
	$(PY) -m pytest -m "not kafka" --numprocesses $(WORKERS) --dist worksteal

test-oldest: $(OLDEST)/.installed ## run scenarios and test kit with the oldest confluent-kafka that will do
	$(OLDEST)/bin/python -m pytest -m "not kafka" --numprocesses $(WORKERS) --dist worksteal $(KIT_TESTS)

test-kafka: $(TESTABLE) ## run those on Apache Kafka (needs Java 17 and Maven)
	$(PY) -m pytest -m kafka

coverage: $(TESTABLE) ## run every test that needs no Apache Kafka, and fail if they run under 95 % of lines or branches
	rm -rf .coverage
	$(PY) -m coverage run -m pytest -m "not kafka" --numprocesses $(WORKERS) --dist worksteal $(UNMEASURED)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report
	@$(PY) -m tests.branches --least 95

mutants: $(MUTABLE) ## change the code in small ways, and show what no test notices; see CONTRIBUTING.md
	rm -rf mutants
	$(PY) -m tests.mutants --at-once $(MUTANTS_AT_ONCE)

chaos: $(TESTABLE) ## kill brokers and consumers for CHAOS_MINUTES (3); see docs/reliability.md
	@$(PY) -m tests.chaos

kafka-up: $(TESTABLE) ## start three Apache Kafka brokers on free loopback ports
	@$(PY) -m tests.kafka.apache up

kafka-down: $(TESTABLE) ## end them
	@$(PY) -m tests.kafka.apache down

bench: $(PLOTTABLE) ## measure on the embedded broker; writes docs/performance.md
	$(PY) -m benchmarks --docs

bench-kafka: $(PLOTTABLE) $(PEERS)/.installed ## the same on Apache Kafka, and beside other clients
	$(PY) -m benchmarks --kafka --docs --peers $(PEERS)/bin/python

lint: $(TESTABLE) ## check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy --strict examples

format: $(TESTABLE) ## format the code and sort the imports
	$(PY) -m ruff check --select I --fix .
	$(PY) -m ruff format .

docs: reference ## check what the pages show: snippets, commands, links; and build them with the reference
	$(PY) -m pytest tests/docs

test-wheel: $(TESTABLE) ## install wheel and sdist, with and without extras, on each Python here (PYTHONS=running: on one)
	PYTHONS=$(PYTHONS) $(PY) -m pytest tests/packaging/distributions.py --numprocesses 2 --dist worksteal

reference: $(DOCUMENTABLE) ## build the API reference and the pages as HTML, in build/docs
	$(PY) -m docs.site build/docs

build: $(TESTABLE) ## make the wheel and the source distribution, in dist/
	$(PY) -m build --outdir dist .

check: ## run exactly what CI runs
	.ci/run

clean: ## remove .venv and everything else that was made here
	@if [ -e .kafka/apache-kafka.json ]; then $(PY) -m tests.kafka.apache down; fi
	rm -rf $(VENV) $(PEERS) $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage mutants .kafka .chaos
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: there is no '$(PYTHON)' here: install Python 3.10 or newer, or say where it is:" \
	    "make run PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), but dp_kafka needs Python 3.10 or newer:" \
	    "name a newer one, as in: make run PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { \
	  echo "make: '$(PYTHON)' could not make a virtual environment" \
	    "(on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(RUNNABLE): $(VENV)/.made setup.cfg setup.py
	@echo "Installing dp_kafka in $(VENV); this is needed once ..." >&2
	@$(PIP) --editable .
	@touch $@

$(TESTABLE): $(VENV)/.made setup.cfg setup.py
	@echo "Installing dp_kafka and its development tools in $(VENV); this is needed once ..." >&2
	@$(PIP) --editable '.[test,dev,fast,cli,otel]'
	@touch $(RUNNABLE) $@

$(MUTABLE): $(TESTABLE)
	@$(PIP) --editable '.[mutants]'
	@touch $@

$(PLOTTABLE): $(TESTABLE)
	@$(PIP) --editable '.[bench]'
	@touch $@

$(DOCUMENTABLE): $(TESTABLE)
	@$(PIP) --editable '.[docs]'
	@touch $@

$(PEERS)/.installed: $(VENV)/.made setup.cfg setup.py
	@echo "Installing the clients to compare with in $(PEERS); this is needed once ..." >&2
	@$(PY) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[fast,peers]'
	@touch $@

$(OLDEST)/.installed: $(VENV)/.made setup.cfg setup.py
	@echo "Installing dp_kafka with confluent-kafka $(OLDEST_CLIENT) in $(OLDEST); this is needed once ..." >&2
	@$(PY) -m venv --clear $(OLDEST)
	@$(OLDEST)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[test]' \
	  'confluent-kafka==$(OLDEST_CLIENT)'
	@touch $@
