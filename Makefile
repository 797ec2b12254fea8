# make demo   the whole loop on the tiny config (installs what it needs first)
# make test   the tests (ditto)
# make base   remakes the base checkpoint of the tiny config, which ships with the repository
# make reasoning_base   remakes the base of the reasoning flywheel's tiny config, which ships, too
# make benchmarks  our speed beside that of others, one JSON line each (minutes; see benchmarks/RESULTS.md)
# make setup  the environment for all of these
# make setup-beam  Apache Beam beside it, for synth.runner=beam (200 MB)
# make clean  removes the environment, the caches and the demo's run

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test base reasoning_base benchmarks setup setup-beam clean

demo: $(VENV)/.runtime
	$(RUN) main.py --config=configs/tiny.py --workdir=runs/demo

test: $(VENV)/.dev $(VENV)/.tpu $(VENV)/.bfcl
	$(RUN) -m pytest -q -n 2 --dist loadfile

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

setup-beam: $(VENV)/.beam

# A stamp per requirements file: it is newer than the file as long as nothing has to be installed.
$(VENV)/.runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo 'make: needs Python 3.11, and $(PYTHON) is not one; install it or say make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	@touch $@

# Beside the environment and not in it: with libtpu installed jax looks for a TPU, and complains when there is none.
$(VENV)/.tpu: requirements-tpu.txt $(VENV)/.dev
	$(RUN) -m pip install --quiet --no-deps --target $(VENV)/tpu -r requirements-tpu.txt
	@touch $@

$(VENV)/.bfcl: requirements-bfcl.txt $(VENV)/.runtime
	$(RUN) -m pip install --quiet --no-deps -r requirements-bfcl.txt
	@touch $@

$(VENV)/.beam: requirements-beam.txt $(VENV)/.runtime
	$(RUN) -m pip install --quiet --no-deps --target $(VENV)/beam -r requirements-beam.txt
	@touch $@

# An environment of its own: a peer of the benchmarks with requirements of its own.
$(VENV)/.tunix: benchmarks/requirements-tunix.txt $(VENV)/.runtime
	$(PYTHON) -m venv $(VENV)/tunix
	$(VENV)/tunix/bin/python -m pip install --quiet -r benchmarks/requirements-tunix.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis runs/demo
	find . -name __pycache__ -prune -exec rm -rf {} +
