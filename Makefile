# Every habit of this project is one target; "make help" lists them. All of them set up first.

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
SOURCES = $(wildcard miros_rabbitmq tests examples tools bench docs)

.PHONY: help setup demo fireflies test unit matrix trixie deployment faults soak fuzz bench diagrams docs pictures lint types format clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## virtual environment in .venv, the package in it, RabbitMQ if it is missing
	@tools/setup.sh

demo: setup  ## a crossing's traffic lights: three processes, two brokers, one live trace (15 s)
	@$(BIN)/python examples/crossing/demo.py

fireflies: setup  ## twenty charts that come to blink as one, drawn in the terminal (a minute)
	@$(BIN)/python examples/fireflies/watch.py

test: setup  ## lint, types and all tests; unit tests on every Python; short matrix (25 minutes)
	@tools/test.sh $(SOURCES)

unit: setup  ## the tests that need no RabbitMQ
	@$(BIN)/python -m pytest -q tests/unit

matrix: setup  ## tests with the oldest dependencies and Python, the newest, and the system's (SHORT=1: fewer)
	@tools/matrix.sh $(if $(SHORT),--short)

trixie:  ## the broker tests in a Debian 13 that this makes, as root (TESTS=tests/faults: others)
	@tools/trixie.sh $(TESTS)

deployment: setup  ## examples/deployment on a Debian 12 and 13 that this makes, over SSH, as root
	@tools/deployment.sh

fuzz: setup  ## ten minutes of atheris for each parser of foreign bytes (FUZZ_SECONDS=600)
	@tools/fuzz.sh

faults: setup  ## 100 random faults and their ledger (FAULTS=100 SEED=1), and the slow tests
	@$(BIN)/python tools/faults.py --count $(or $(FAULTS),100) --seed $(or $(SEED),1)
	@$(BIN)/python -m pytest -q -s -m slow tests/faults

soak: setup  ## charts that talk for an hour, with faults now and then (MINUTES=60)
	@$(BIN)/python tools/soak.py --minutes $(or $(MINUTES),60)

bench: setup  ## every figure of docs/performance.rst, 15 minutes (ONLY=round_trip,start: some)
	@$(BIN)/python -m pip -q --disable-pip-version-check install -e '.[bench]'
	@$(BIN)/python -m bench.run $(if $(ONLY),--only $(ONLY))

diagrams: setup  ## draw the pictures of the documentation from docs/diagrams
	@$(BIN)/python -m docs.diagrams

docs: setup  ## the site, in build/docs/index.html; warnings are errors
	@tools/docs.sh

pictures: docs  ## of every page of the site, wide and narrow, light and dark (PAGES="index delivery")
	@$(BIN)/python tools/pictures.py $(PAGES)

lint: setup  ## ruff: rules and format
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

types: setup  ## mypy --strict
	@$(BIN)/mypy $(SOURCES)

format: setup  ## let ruff format everything, and repair what it can
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

clean:  ## remove everything that was built here
	@tools/trixie.sh --clean
	@tools/deployment.sh --clean
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
