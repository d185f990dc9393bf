# Everything a newcomer or a contributor runs. Each target sets up what it needs.
SHELL := /bin/bash
UV = $(shell scripts/find-uv)
RUN = $(UV) run --frozen --no-dev
RUN_DEV = $(UV) run --frozen --group dev
# What one process has compiled the next one finds, wherever this runs: else each of thousands begins by compiling its
# libraries, which takes a controller longer than all that it does until it is ready.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test check unit bench sim lint format lock openapi policy man images clean

help: ## Say what each target does.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## Run the main job end to end on a temporary directory.
	@scripts/setup-python
	@$(RUN) twinsite demo

test: ## Check the code and run all tests (installs Debian packages it lacks when root).
	@scripts/setup-python dev
	@scripts/setup-test-packages
	@$(MAKE) --no-print-directory check
	@$(RUN_DEV) pytest -q -rs -n 3 --dist loadfile --no-loadscope-reorder tests/clients tests/cluster tests/browser
	@$(RUN_DEV) pytest -q -n 3 tests/unit tests/contract tests/simulation

check: ## Lint, format check, types, import contracts.
	@$(RUN_DEV) ruff check .
	@$(RUN_DEV) ruff format --check .
	@$(RUN_DEV) mypy
	@$(RUN_DEV) lint-imports

unit: ## Only the fast tests, without real peers.
	@$(RUN_DEV) pytest -q tests/unit tests/contract

bench: ## Measure side by side with real peers; prints tables, writes bench/results/latest.* with a report and plots.
	@scripts/setup-python bench
	@scripts/setup-test-packages
	@$(RUN) --group bench python -m bench $(BENCH_ARGS)

SEED ?= 1
WORLDS ?= 1
sim: ## Run simulated installations: WORLDS=… of them from SEED=… on; SIM_ARGS=--trace shows the story.
	@scripts/setup-python dev
	@PYTHONPATH=src $(RUN_DEV) python -m twinsite_sim --seed $(SEED) --worlds $(WORLDS) $(SIM_ARGS)

images: ## Take the pictures of the web page in docs/images anew.
	@scripts/setup-python dev
	@scripts/setup-test-packages
	@TWINSITE_IMAGES=$(CURDIR)/docs/images $(RUN_DEV) pytest -q tests/browser

format: ## Format and fix what can be fixed.
	@$(RUN_DEV) ruff check --fix .
	@$(RUN_DEV) ruff format .

policy: ## Write the sample policy file anew.
	@$(RUN) python -m twinsite.control.policy.sample > docs/policy.yaml

man: ## Write the manual pages into build/man: man -M build/man twinsite.
	@scripts/setup-python
	@$(RUN) python -m twinsite.cli.man build/man/man1

openapi: ## Write docs/openapi.json anew, from the code.
	@$(RUN) python -m twinsite.api.openapi_file docs/openapi.json

lock: ## Resolve the dependencies anew.
	@$(UV) lock

clean: ## Remove what the targets made.
	rm -rf build .venv .uv-venv .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results/latest*
