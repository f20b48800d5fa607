# Everything starts with one virtual environment; each target builds it if it is not there.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo demo-gcs test test-cluster bench bench-people lint format constraints docs clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY)  ## build the virtual environment at .venv (about a minute, 2 GB)

$(READY): requirements.txt requirements-dev.txt constraints.txt pyproject.toml scripts/setup.sh
	PYTHON=$(PYTHON) scripts/setup.sh
	@touch $@

demo: $(READY)  ## perform 15 recordings, prepare, evaluate, train, grade six unseen ones (under demo/)
	@scripts/demo.sh

demo-gcs: $(READY)  ## the same in a bucket, on a test server that speaks GCS's protocol; compares the grades
	@$(BIN)/python scripts/demo_gcs.py

test: $(READY)  ## all tests, two files at a time, the long ones of tests/jobs first; installs FluidSynth and Chromium as root
	@scripts/install_piano.sh
	@scripts/install_speech.sh
	@scripts/install_browser.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-cluster: $(READY)  ## ray up, jobs whose workers go, ray down: our clusters on namespaces of this machine (Linux, root); installs sshd
	@scripts/install_sshd.sh
	$(BIN)/python -m pytest tests/cluster

bench: $(READY)  ## all benchmarks
	$(BIN)/python -m benchmarks

bench-people: $(READY)  ## real pianists rated by people: make bench-people PERCEPIANO=folder (docs/rated-playing.md)
	$(BIN)/python -m benchmarks.people $(PERCEPIANO)

lint: $(READY)  ## style, types and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## put the code into the project's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## write docs/jobs.md from each job's --help, and docs/licences.md from what is installed
	$(BIN)/python scripts/write_job_docs.py
	$(BIN)/python scripts/write_licences.py

constraints:  ## pin every version anew, from a fresh environment
	PYTHON=$(PYTHON) scripts/pin_versions.sh

clean:  ## remove what the demo made
	rm -rf demo
