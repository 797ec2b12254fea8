"""Test session set-up: CPU backend with 8 devices, strict broadcasting, quiet libraries, repeatable hypothesis."""

import logging
import os
from pathlib import Path

# Before jax, TFDS or transformers are imported; subprocesses of tests inherit these.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network is wrong
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of a test run's time is compilation, and many tests compile the same programs: all processes share them on disk.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis  # noqa: E402
import jax  # noqa: E402

# In the config rather than the environment, so that a command started by a test sees the machine's own devices.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

logging.getLogger("absl").setLevel(logging.WARNING)

# Derandomised: a failure in CI is a failure here. No deadline: the first example of a jitted function compiles.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")
