"""Compiled programs on disk: a restarted run, a later stage or another run of the same shapes need not compile again.

This is JAX's persistent compilation cache. Its key covers the program, the compiler's options and version, and the
device, so a hit is the very program that a compilation would have made, and results are the same to the bit.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

LIMIT_BYTES = 8 << 30  # what was used longest ago is deleted first


def enable(folder: str) -> None:
    """Keeps every compiled program below `folder` ("~" is the home folder); "" turns the cache off.

    Call it before anything is compiled. Where the environment has JAX_COMPILATION_CACHE_DIR, JAX's own setting, that
    folder is taken instead. A folder that cannot be written costs a warning of JAX's, not the run.
    """
    if not folder:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser() / _machine()))
        jax.config.update("jax_compilation_cache_max_size", LIMIT_BYTES)
    # All programs, however small or quickly compiled: a run has hundreds, and together they take most of the start.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _machine() -> str:
    """A name for machines that run each other's programs.

    XLA compiles for the instructions of the host's processor, which JAX's key leaves out: on a home folder that
    several kinds of machines share, one could load what another cannot execute.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:  # not Linux
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
