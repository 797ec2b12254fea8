"""How many simple calls a second the Python tool answers: ./run -m benchmarks.python_tool prints one JSON line."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from envs.sandbox.python_tool import PythonTool

CALLS = 1000


def main() -> None:
    """Measures and prints. There is one server per core; each call runs in its own process and adds two numbers."""
    cores = len(os.sched_getaffinity(0))
    tool = PythonTool(cores)
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(tool.run, ["1"] * cores))  # starts the servers
        start = time.perf_counter()
        results = list(pool.map(tool.run, [f"{i} + 1" for i in range(CALLS)]))
        seconds = time.perf_counter() - start
    assert [result.text for result in results] == [str(i + 1) for i in range(CALLS)]
    tool.close()
    print(json.dumps({"benchmark": "python_tool", "cores": cores, "calls": CALLS, "calls_per_second": CALLS / seconds}))


if __name__ == "__main__":
    main()
