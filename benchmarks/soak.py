"""Everything that can be done to a run, a server and a teacher in ten minutes, and whether it leaves a mark.

    ./run -m benchmarks.soak [--seconds=600] [--seed=0] [--only=PART/NUMBER]

Three parts, one after the other, the first for half of the time:

  training  a tiny run under signals, full disks, a second process on its workdir, damaged files, other locales, clocks
            and hash seeds; at the end its files are those of an undisturbed one, byte for byte
  serving   a served policy under good, odd and hostile clients; good answers are those of a quiet server
  teacher   rounds of tasks from an endpoint on loopback that fails in every way; the tasks are as if it never did

A trial's plan depends on --seed and its number alone; what fails says how to do it again with --only. The last line is
JSON: counts by name. The exit status is 1 if anything failed. Nothing is left behind, neither files nor processes.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.soaking import common, serving, teaching, training

PARTS = {"training": training.soak, "serving": serving.soak, "teacher": teaching.soak}
ENDS = {"training": 0.5, "serving": 0.75, "teacher": 1.0}  # in shares of the time


def main() -> int:
    """Soaks and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="no trial is begun later")
    parser.add_argument("--seed", type=int, default=None, help="of all plans; by default another one each time")
    parser.add_argument("--only", default="", help="one trial, as a failure names it: training/3")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    part, _, number = given.only.partition("/")
    if given.only and (part not in PARTS or not number.isdecimal()):
        parser.error(f"--only={given.only}: expected one of {', '.join(PARTS)}, a slash and a number")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that nothing is left behind then, either
    print(f"soak: seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak_", ignore_cleanup_errors=True) as folder:
        soak = common.Soak(seed, Path(folder), began)
        chosen = [part] if given.only else list(PARTS)
        for name in chosen:
            soak.ends = began + given.seconds * ENDS[name]
            try:
                PARTS[name](soak, int(number) if given.only else None)
            except common.Failure as failure:  # undisturbed already
                soak.failures.append(f"{name}: {failure}")
                print(f"FAILED {soak.failures[-1]}", flush=True)
            print(f"soak: {name}: {soak.counts[f'{name}: trials']} trials", flush=True)
        left = common.processes_of(soak)
    counts = {"seed": seed, "seconds": round(time.monotonic() - began), "failures": len(soak.failures)}
    print(json.dumps({**counts, "processes_left": len(left), **dict(sorted(soak.counts.items()))}))
    return int(bool(soak.failures or left or Path(folder).exists()))


if __name__ == "__main__":
    sys.exit(main())
