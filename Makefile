.DEFAULT_GOAL := help
.PHONY: help setup servers torch demo test test-main test-engines test-deep test-sail test-spark test-lowest bench bench-http bench-peers lint format docs site snapshots lock clean

BIN := .venv/bin
PLUGIN := $(wildcard tests/plugin/pyproject.toml)
INPUTS := pyproject.toml scripts/venv.sh requirements/bootstrap.lock
SPARK_TESTS = $(shell find tests -name 'test_spark_*.py')
AT_ONCE := --no-print-directory -j
APART := $(if $(filter output-sync,$(.FEATURES)),-O)
RERUNS := --timeout 300 --reruns 1 --max-suite-reruns 5
PATHS := $(wildcard src tests scripts benchmarks demo docs)
export PYTHON

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/.stamp ## make .venv, the development environment

servers: ## install the servers that the tests start, where they are missing (Debian, as root)
	scripts/servers.sh

torch: .venv/.stamp ## install PyTorch for CPUs in the user's cache, where it is missing: one page of the docs needs it
	scripts/torch_cpu.sh "$${XDG_CACHE_HOME:-$$HOME/.cache}/headwater/torch-$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

demo: .venv-demo/.stamp ## run the demo on real data: the core and what the demo needs, nothing else
	.venv-demo/bin/python demo/run.py

test: .venv/.stamp ## check style, types and layers, then run all tests
	$(MAKE) $(AT_ONCE) 4 $(APART) lint servers torch .venv-sail/.stamp .venv-spark/.stamp
	$(MAKE) $(AT_ONCE) 2 -k test-main test-engines

test-main: .venv/.stamp servers
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 3 --dist worksteal $(RERUNS) --durations 40

# one after the other, the slower first: beside the three processes of the others; what each prints comes when it ends
test-engines:
	status=0; \
	for tests in test-spark test-sail; do \
		said=$$($(MAKE) --no-print-directory $$tests 2>&1) || status=1; \
		printf '%s\n' "$$said"; \
	done; \
	exit $$status

test-sail test-spark: test-%: .venv-%/.stamp servers
	env -u PYTHONDONTWRITEBYTECODE .venv-$*/bin/pytest $(RERUNS) --durations 10 $(SPARK_TESTS)

test-sail: ## run the tests of Spark on Sail, a server of Spark's protocol, in an environment of its own
test-spark: export HEADWATER_TEST_PART ?= 5
test-spark: ## run the tests of Spark in Spark's own local mode, in an environment of its own

test-deep: lint servers torch .venv-sail/.stamp .venv-spark/.stamp ## the same with 50 times the rounds (hours)
	status=0; \
	export HEADWATER_TEST_SCALE=50 HEADWATER_KILLS=50 HEADWATER_FORK_SECONDS=20; \
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 2 --dist worksteal --timeout 3000 || status=1; \
	$(MAKE) $(AT_ONCE) 2 -k $(APART) test-sail test-spark || status=1; \
	exit $$status

test-lowest: .venv-lowest/.stamp ## run the unit tests on the lowest versions that pyproject.toml allows
	.venv-lowest/bin/pytest -n 2 --timeout 300 tests/unit

bench: .venv/.stamp servers ## run the benchmarks
	$(BIN)/python -m benchmarks

bench-http: .venv/.stamp .venv-peers/.stamp servers ## load the HTTP server, and Feast's in an environment of its own
	$(BIN)/python -m benchmarks.http

bench-peers: .venv/.stamp .venv-peers/.stamp servers ## run Feast, in an environment of its own, beside headwater
	$(BIN)/python -m benchmarks.peers

lint: .venv/.stamp ## check style, types and layers, and that generated pages are up to date
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/cli_reference.py --check
	$(BIN)/python scripts/engine_matrix.py --check

format: .venv/.stamp ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix $(PATHS)
	$(BIN)/ruff format $(PATHS)

docs: .venv/.stamp ## regenerate the generated pages
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/engine_matrix.py

snapshots: .venv/.stamp .venv-sail/.stamp .venv-spark/.stamp ## write the SQL in tests/snapshots anew, after a change of the join that is meant
	HEADWATER_UPDATE_SNAPSHOTS=1 $(BIN)/pytest tests/conformance -k snapshot
	HEADWATER_UPDATE_SNAPSHOTS=1 .venv-sail/bin/pytest $(SPARK_TESTS) -k snapshot
	HEADWATER_UPDATE_SNAPSHOTS=1 .venv-spark/bin/pytest $(SPARK_TESTS) -k snapshot

site: .venv-site/.stamp ## build the documentation site, with an API reference, in site/
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --quiet --strict
	.venv-site/bin/python scripts/site_check.py site

lock: .venv/.stamp ## regenerate requirements/*.lock, at the newest versions that pyproject.toml allows
	scripts/lock.sh

clean: ## remove everything that can be rebuilt, except .venv
	rm -rf .venv-demo .venv-lowest .venv-peers .venv-sail .venv-site .venv-spark site build dist htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts $(wildcard benchmarks demo docs) -name __pycache__ -prune -exec rm -rf {} +

.venv/.stamp: $(INPUTS) $(PLUGIN) requirements/dev.lock
	scripts/venv.sh .venv requirements/dev.lock
	@touch $@

.venv-sail/.stamp: $(INPUTS) $(PLUGIN) requirements/sail.lock
	scripts/venv.sh .venv-sail requirements/sail.lock
	@touch $@

.venv-spark/.stamp: $(INPUTS) $(PLUGIN) requirements/spark.lock
	scripts/venv.sh .venv-spark requirements/spark.lock
	@touch $@

.venv-demo/.stamp: $(INPUTS) requirements/demo.lock
	scripts/venv.sh .venv-demo requirements/demo.lock
	@touch $@

.venv-lowest/.stamp: $(INPUTS) $(PLUGIN) requirements/lowest.lock
	scripts/venv.sh .venv-lowest requirements/lowest.lock
	@touch $@

.venv-site/.stamp: scripts/venv.sh requirements/bootstrap.lock requirements/site.lock
	scripts/venv.sh .venv-site requirements/site.lock
	@touch $@

.venv-peers/.stamp: scripts/venv.sh requirements/bootstrap.lock requirements/peers.lock
	scripts/venv.sh .venv-peers requirements/peers.lock
	@touch $@
