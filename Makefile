# The one door for people and for CI. Every target that needs it sets up .venv first; nothing is installed elsewhere
# but what `segue sandbox` says it installs.

VENV := .venv
SEGUE := $(VENV)/bin/segue
STAMP := $(VENV)/setup.stamp
CHECKED := src tests benchmarks deploy scripts docs/examples
# `neo4j` is the newest line that a Java here can run; the tests run on the 5.26 line as well.
TEST_SERVICES := neo4j neo4j-5.26 milvus redis postgres
# A module's tests stay together, since they share what is costly to set up.
PARALLEL := -n 2 --dist loadscope
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit simulate chaos check format references docs bench bench-live pictures record-demo clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done

setup: $(STAMP) ## make .venv with Segue and the development tools

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh
	@touch $@

demo: $(STAMP) ## start real servers and run the main job on real data
	@$(SEGUE) demo $(ARGS)

test: $(STAMP) ## all tests, on real servers; ARGS='-k name' chooses
	@set -e; \
	if ! $(SEGUE) sandbox env >/dev/null 2>&1; then \
	  trap '$(SEGUE) sandbox down' EXIT; trap 'exit 130' INT TERM; \
	fi; \
	$(SEGUE) sandbox up $(TEST_SERVICES); \
	$(VENV)/bin/pytest $(PARALLEL) $(ARGS)

test-unit: $(STAMP) ## the tests that need no server
	@$(VENV)/bin/pytest -m 'not service' $(ARGS)

simulate: $(STAMP) ## the protocol under many more schedules; SEGUE_SIMULATION_SEED=n ARGS='-k replayed' replays one
	@SEGUE_SIMULATION_SEEDS=5000 SEGUE_SIMULATION_SCHEDULES=20000 \
	  $(VENV)/bin/pytest -n auto --dist worksteal tests/simulation $(ARGS)

chaos: $(STAMP) ## a live copy while everything fails, in 5 long rounds, and validations beside 8 writers; SEGUE_CHAOS_ROUNDS, _SECONDS, _SEED
	@SEGUE_CHAOS_ROUNDS=$${SEGUE_CHAOS_ROUNDS:-5} SEGUE_CHAOS_SECONDS=$${SEGUE_CHAOS_SECONDS:-60} \
	  $(VENV)/bin/pytest tests/faults/test_live_copy.py --log-level=INFO $(ARGS)
	@SEGUE_VALIDATE_SECONDS=$${SEGUE_VALIDATE_SECONDS:-120} SEGUE_VALIDATE_WRITERS=$${SEGUE_VALIDATE_WRITERS:-8} \
	  $(VENV)/bin/pytest tests/integration/test_validate.py -k beside_writers -s $(ARGS)

check: $(STAMP) ## format, lint, types, layer rule
	$(VENV)/bin/ruff format --check $(CHECKED)
	$(VENV)/bin/ruff check $(CHECKED)
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(STAMP) ## format the code and fix what the linter can
	$(VENV)/bin/ruff format $(CHECKED)
	$(VENV)/bin/ruff check --fix $(CHECKED)

references: $(STAMP) ## write the pages of docs/ that are made from the code
	@$(VENV)/bin/python scripts/references.py

docs: $(STAMP) ## build the documentation site into build/site; fails at a link or an anchor that leads nowhere
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bench: $(STAMP) ## the benchmark of the copy, docs/benchmarks.md; ARGS are its options
	@$(VENV)/bin/python benchmarks/backfill.py $(ARGS)

bench-live: $(STAMP) ## the benchmark of a migration beside traffic, on servers of its own; ARGS are its options
	@$(VENV)/bin/python benchmarks/live.py $(ARGS)

pictures: $(STAMP) ## a whole migration under a Prometheus, and docs/pictures/*.svg of it
	@PYTHONPATH=tests $(VENV)/bin/python scripts/make_pictures.py

record-demo: $(STAMP) ## docs/demo.svg and docs/demo.txt of a new run of the demo; its servers are left running
	@$(VENV)/bin/python scripts/record_demo.py

clean: ## stop the sandbox, remove .venv and caches (downloads stay)
	@if [ -x $(SEGUE) ]; then $(SEGUE) sandbox down; fi
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
