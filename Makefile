# make demo       the whole loop on the tiny config (installs what it needs first)
# make test       what every change has to pass (ditto)
# make test-slow  what repeats the same at scale, fully optimised: every kill point, architecture, runs of several processes
# make lint       ruff's checks and format, and the type checker
# make notebook   opens notebooks/inspect_run.ipynb in the browser
# make base       remakes the base checkpoint of the tiny config, which ships with the repository
# make reasoning_base  remakes the base of the reasoning flywheel's tiny config, which ships, too
# make benchmarks our speed beside that of others, one JSON line each (minutes; see benchmarks/RESULTS.md)
# make setup      the environment for all of these; setup-runtime: only what ./run needs
# make setup-gpu  jax for NVIDIA GPUs (CUDA 13) in that environment
# make setup-tpu  jax for the TPUs of this machine in that environment
# make setup-beam Apache Beam beside it, for synth.runner=beam (200 MB)
# make clean      removes the environment, the caches and the demo's run
#
# The newest Python of 3.13, 3.12 and 3.11 is taken; another one: make PYTHON=/path/to/python3.12 demo

VENV := .venv
RUN := $(VENV)/bin/python
PYTHONS := python3.13 python3.12 python3.11 python3 python
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# Looked for only where it is needed, that is, where there is no environment yet. Asking a Python for its version finds
# out whether it runs: version managers put commands on the path that only say which versions are not installed.
ifeq ($(origin PYTHON), undefined)
PYTHON = $(shell for p in $(PYTHONS); do $$p -c '$(SUPPORTED)' >/dev/null 2>&1 && command -v $$p && break; done)
endif
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
TEST := $(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 10

.PHONY: demo test test-slow lint notebook base reasoning_base benchmarks setup setup-runtime setup-gpu setup-tpu \
	setup-beam clean

demo: $(VENV)/.runtime
	$(RUN) main.py --config=configs/tiny.py --workdir=runs/demo

test: $(VENV)/.dev $(VENV)/.tpu $(VENV)/.bfcl
	$(TEST) -m "not slow"

test-slow: $(VENV)/.dev $(VENV)/.tpu $(VENV)/.bfcl
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(TEST) -m slow

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

notebook: $(VENV)/.notebook
	$(RUN) -m jupyter notebook notebooks/inspect_run.ipynb

base: $(VENV)/.runtime
	$(RUN) -m rl.warmstart.tiny agentic runs/base_untrained
	cp runs/base_untrained/* model/tiny_qwen3/
	$(RUN) main.py --config=configs/base.py --workdir=runs/base --stage=sft
	cp runs/base/sft/policy/model.safetensors model/tiny_qwen3/

reasoning_base: $(VENV)/.runtime
	$(RUN) -m rl.warmstart.tiny reasoning runs/reasoner_untrained
	cp runs/reasoner_untrained/* model/tiny_reasoner/
	$(RUN) main.py --config=configs/reasoning_base.py --workdir=runs/reasoning_base --stage=sft \
		--config.model.checkpoint=runs/reasoner_untrained
	cp runs/reasoning_base/sft/policy/model.safetensors model/tiny_reasoner/

benchmarks: $(VENV)/.dev $(VENV)/.tunix
	$(RUN) -m benchmarks.model
	$(RUN) -m benchmarks.rollout
	$(RUN) -m benchmarks.step
	$(RUN) -m benchmarks.serve

setup: $(VENV)/.dev $(VENV)/.tpu $(VENV)/.bfcl

setup-runtime: $(VENV)/.runtime

setup-gpu: $(VENV)/.runtime requirements-gpu.txt
	$(PIP) -r requirements-gpu.txt

setup-tpu: $(VENV)/.runtime requirements-tpu.txt
	$(PIP) -r requirements-tpu.txt

setup-beam: $(VENV)/.beam

# A stamp per requirements file: it is newer than the file as long as nothing has to be installed.
$(VENV)/.runtime: requirements.txt
	@if [ ! -x $(RUN) ]; then \
		if [ -z '$(PYTHON)' ]; then \
			echo 'make: needs Python 3.11, 3.12 or 3.13, and finds none on the path; install one or say' \
				'make PYTHON=/path/to/python3.13' >&2; exit 1; fi; \
		'$(PYTHON)' -c '$(SUPPORTED)' || \
			{ echo 'make: needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is none of them' >&2; exit 1; }; \
		'$(PYTHON)' -c 'import platform; print("make: installing into $(VENV) with Python", platform.python_version())'; \
		'$(PYTHON)' -m venv $(VENV); fi
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.notebook: requirements-notebook.txt $(VENV)/.runtime
	$(PIP) -r requirements-notebook.txt
	@touch $@

# Beside the environment and not in it: with libtpu installed jax looks for a TPU, and complains when there is none.
$(VENV)/.tpu: requirements-tpu.txt $(VENV)/.dev
	$(PIP) --no-deps --target $(VENV)/tpu -r requirements-tpu.txt
	@touch $@

$(VENV)/.bfcl: requirements-bfcl.txt $(VENV)/.runtime
	$(PIP) --no-deps -r requirements-bfcl.txt
	@touch $@

$(VENV)/.beam: requirements-beam.txt $(VENV)/.runtime
	$(PIP) --no-deps --target $(VENV)/beam -r requirements-beam.txt
	@touch $@

# An environment of its own: a peer of the benchmarks with requirements of its own.
$(VENV)/.tunix: benchmarks/requirements-tunix.txt $(VENV)/.runtime
	$(RUN) -m venv $(VENV)/tunix
	$(VENV)/tunix/bin/python -m pip install --quiet -r benchmarks/requirements-tunix.txt
	@touch $@

clean:
	rm -rf $(VENV) .cache .pytest_cache .hypothesis .mypy_cache .ruff_cache runs/demo
	find . -name __pycache__ -prune -exec rm -rf {} +
