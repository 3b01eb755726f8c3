# Each target sets itself up on a fresh machine with Python 3.11 or newer. A second start installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run demo test check bench models gpu-check pictures clean

run: $(VENV)/.app
	$(BIN)/python app.py

demo: $(VENV)/.app
	$(BIN)/python -m sft_app train --config examples/customer_service_run.json
	$(BIN)/python -m sft_app compare latest \
	    --prompt "My order hasn't arrived yet. What should I do?" \
	    --prompt "The pot I ordered came broken." \
	    --prompt "Can I still change the delivery address?"

# Two at a time; the tests of a file stay together, since they share a page or a run. A test process that crashes ends
# the run: pytest-xdist would give its work to a new one and wait for ever.
test: $(VENV)/.dev
	scripts/require-chromium
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 --durations=10

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every family of models, tiny, through training, comparing and exporting. About ten minutes; writes docs/MODELS.md.
models: $(VENV)/.dev
	$(BIN)/python -m tests.families

# Under three quarters of an hour. Data and page are measured at greater length in bench/results.
bench: $(VENV)/.dev
	scripts/require-chromium
	$(BIN)/python -m bench.data --rows 10000 100000 --repeats 1
	$(BIN)/python -m bench.train
	$(BIN)/python -m bench.compare
	$(BIN)/python -m bench.preflight
	$(BIN)/python -m bench.page --rounds 2 --seconds 15 --settling 15

# What only a GPU can tell, in six minutes. On a CPU: make gpu-check ARGS=--tiny
gpu-check: $(VENV)/.dev
	$(BIN)/python -m bench.gpu $(ARGS)

# The pictures in docs/, of the newest run in the workspace: `make demo` first.
pictures: $(VENV)/.dev
	scripts/require-chromium
	$(BIN)/python -m scripts.take_pictures

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than the requirements they were installed from.
$(VENV)/.app: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/.app

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
