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
# The compiler's costly passes take a third of a test run and make a tiny program no faster; `make test-slow` has them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    # So do fusions made by way of MLIR, and a module cut into parts for many cores: six times the compiling.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1",
    )

import hypothesis  # noqa: E402
import jax  # noqa: E402

# In the config rather than the environment, so that a command started by a test sees the machine's own devices.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

logging.getLogger("absl").setLevel(logging.WARNING)

# Derandomised: a failure in CI is a failure here. No deadline: the first example of a jitted function compiles.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


# Files that take longest, longest first. Two workers take files in turn (--dist loadfile): with the long ones at the
# beginning neither is left with one at the end.
LONGEST = (
    "rl/learn/learner_test.py", "rl/resume_test.py", "rl/multiprocess_test.py", "model/network/family_test.py",
    "model/network/sharding_test.py", "model/sampling/sampler_test.py", "model/network/transformer_test.py",
    "rl/flywheel_test.py", "rl/rounds/reasoning_rounds_test.py", "rl/learn/objective_test.py", "rl/plan/plan_test.py",
    "rl/rollouts/rollout_test.py", "rl/serving/serve_test.py", "model/checkpoints/lora_test.py",
    "model/sampling/batching_test.py", "model/checkpoints/load_test.py", "model/network/attention_test.py",
    "synth/previews/preview_test.py", "rl/checkpoint_test.py", "rl/learn/losses_test.py", "model/network/moe_test.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Sorts the files by LONGEST; tests of one file stay in their order."""
    rank = {str(Path(__file__).parent / name): number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(str(item.path), len(rank)))
