"""The soak's training: a tiny run is disturbed some times and then left alone; it must end as one that never was."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.soaking import common
from benchmarks.soaking.common import Ended, Failure, Soak, expect
from tests.support import small_run

KEYS = {
    "rl__rounds": 2, "rl__steps": 1, "rl__group_size": 2, "rl__sft_steps": 0, "evaluate__trials": 1,
    "evaluate__greedy": False, "evaluate__bootstrap": 10, "sampler__max_new_tokens": 8, "sampler__slots": 4,
}  # fmt: skip
# Settings of a machine on which no result may depend.
PLACES: tuple[dict[str, str], ...] = (
    {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, {"LANG": "tr_TR.UTF-8"},
    {"TZ": "Pacific/Kiritimati"}, {"TZ": "XYZ+11:30ABC"}, {"SOURCE_DATE_EPOCH": "0"}, {"COLUMNS": "1"},
    {"PYTHONHASHSEED": "1"}, {"OMP_NUM_THREADS": "1"}, {},
)  # fmt: skip
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


class Runs:
    """The run that is disturbed. expected: what it leaves behind undisturbed. operations: how many file operations it
    makes in its workdir. size: of the workdir, bytes."""

    def __init__(self, soak: Soak):
        self.soak, self.policy, self.processes = soak, small_run.folder(soak.folder / "policy"), 1
        place = soak.folder / "undisturbed"
        ended = self.command(place, {}).in_one_line(0)
        found = re.search(r"^operations: (\d+)$", ended.out, re.M)
        self.operations = int(found[1]) if found else 1
        self.expected = kept(place)
        self.size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        common.remove(place)

    def arguments(self, place: Path, count: int = 0) -> list[str | Path]:
        """The command; it gets a signal right before its `count`-th file operation in the workdir."""
        kill = [re.escape(str(place)), str(count)]
        keys = {**KEYS, "synth__processes": self.processes}
        return [small_run.__file__, *kill, *small_run.arguments(self.policy, **keys), f"--workdir={place}"]

    def command(self, place: Path, changes: dict[str, str], count: int = 0, limit: int = 0) -> Ended:
        """Runs it. limit: most bytes of a file, 0 for no limit."""
        options = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))} if limit else {}
        ended = common.run(self.arguments(place, count), common.environment(self.soak, **changes), **options)
        common.nobody_left(self.soak)
        return ended

    def trial(self, rng: random.Random, folder: Path) -> None:
        """Disturbs a run in one to three ways, ends it, and compares."""
        place, done = folder / "run", []
        self.processes = rng.choice((1, 1, 1, 2))
        for _ in range(rng.randint(1, 3)):
            way = rng.choice((self.kill, self.kill, self.fill, self.pair, self.damage))
            done.append(way.__name__)
            try:
                way(rng, place)
            except Failure as failure:
                raise Failure(f"{', '.join(done)}: {failure}") from failure
            self.soak.counts[f"training: {way.__name__}"] += 1
        self.command(place, rng.choice(PLACES)).in_one_line(0)
        found = kept(place)
        wrong = sorted(k for k in found.keys() | self.expected.keys() if found.get(k) != self.expected.get(k))
        expect(not wrong, f"after {', '.join(done)} other files than undisturbed: {wrong[:5]}")
        self.soak.counts["training: files compared"] += len(found)

    def kill(self, rng: random.Random, place: Path) -> None:
        """A signal at some file operation."""
        number = rng.choice(list(STATUS))
        count, changes = rng.randint(1, self.operations), {"SMALL_RUN_SIGNAL": str(int(number))}
        self.command(place, changes | rng.choice(PLACES), count).in_one_line(STATUS[number], 0)
        self.soak.counts[f"training: {number.name}"] += 1

    def fill(self, rng: random.Random, place: Path) -> None:
        """A disk that gets full: a small file system if this process may mount one, else a limit on files."""
        if self.mounted(rng, place):
            return
        size = max(4096, int(self.size * rng.random() ** 2 / 4))
        ended = self.command(place, {}, limit=size).in_one_line(0, 1)
        expect(not ended.status or "File too large" in ended.err.splitlines()[-1], ended.tail())
        self.soak.counts["training: limits on files met"] += bool(ended.status)

    def mounted(self, rng: random.Random, place: Path) -> bool:
        """The workdir on a small file system, until it is full; then it moves. False if mounting is not permitted."""
        small, size = place.with_name("small"), max(1 << 16, int(self.size * rng.random()))
        small.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "soak", str(small)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            small.rmdir()
            return False
        try:
            if place.exists():
                try:
                    shutil.copytree(place, small / "run", dirs_exist_ok=True)
                except (OSError, shutil.Error):  # what there was does not fit: begin anew
                    common.remove(small / "run")
            ended = self.command(small / "run", {}).in_one_line(0, 1, 2)
            if ended.status:
                expect("No space left" in ended.err.splitlines()[-1], ended.tail())
                self.soak.counts["training: full disks met"] += 1
            common.remove(place)
            if (small / "run").exists():
                shutil.copytree(small / "run", place)
        finally:
            subprocess.run(["umount", str(small)], check=True, capture_output=True)
            small.rmdir()
        return True

    def pair(self, rng: random.Random, place: Path) -> None:
        """A second process while the first has the workdir; then the first ends, or is killed."""
        env, lock = common.environment(self.soak, **rng.choice(PLACES)), place / ".lock"
        with common.started(self.arguments(place), env=env) as first:
            while first.poll() is None and not (lock.exists() and f"process {first.pid} " in lock.read_text()):
                time.sleep(0.02)
            if first.poll() is None:
                second = common.run(self.arguments(place), env)
                if second.status == 0:  # the first had just ended
                    expect(common.wait(first).status == 0, "both worked at a time")
                    return
                expect(f"in use by process {first.pid}" in second.in_one_line(2).err, second.tail())
                self.soak.counts["training: second processes refused"] += 1
            number = rng.choice((None, signal.SIGTERM, signal.SIGKILL))
            if number is not None and first.poll() is None:
                first.send_signal(number)
            common.wait(first).in_one_line(0, *STATUS.values())

    def damage(self, rng: random.Random, place: Path) -> None:
        """A file is damaged after a kill. Either the run ends the same, or it names a file and a copy helps."""
        self.kill(rng, place)
        if (metrics := place / "metrics.jsonl").exists() and rng.random() < 0.3:
            with open(metrics, "a") as torn:
                torn.write('{"round": 0, "st')
        files = [f for f in place.rglob("*") if f.is_file() and victim(place, f)]
        if not files:
            return
        file = rng.choice(sorted(files))
        before = file.read_bytes()
        name, way = rng.choice(list(DAMAGE.items()))
        if not before or way(file, before, rng) is False:
            return
        self.soak.counts[f"training: files {name}"] += 1
        ended = self.command(place, {}).in_one_line(0, 2)
        if ended.status == 0:
            if "array_record" in file.name:  # of a round that was over: nobody has read it
                file.write_bytes(before)
            return
        self.soak.counts["training: damaged files named"] += 1
        expect(str(place) in ended.err, f"{file.relative_to(place)} {name}: not named: {ended.tail()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(before)


def victim(place: Path, file: Path) -> bool:
    """Whether a file of the workdir has something that a damage could be noticed by."""
    name, parts = file.relative_to(place).as_posix(), file.relative_to(place).parts
    listed = parts[0] == "checkpoints" and len(parts) > 2 and (place / parts[0] / parts[1] / "digests.json").exists()
    return name == "config.json" or listed or ("array_record" in name and not name.startswith("set_aside_"))


def kept(place: Path) -> dict[str, object]:
    """The content of a workdir, but for what was set aside."""
    return {name: content for name, content in small_run.contents(place).items() if not name.startswith("set_aside_")}


def _flipped(file: Path, before: bytes, rng: random.Random) -> bool | None:
    if file.name == "config.json" or "array_record" in file.name:  # has no digest; array_record's padding has none
        return False
    content = bytearray(before)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return None


def _cut(file: Path, before: bytes, rng: random.Random) -> bool | None:
    os.truncate(file, rng.randrange(len(before)))
    return None


def _removed(file: Path, before: bytes, rng: random.Random) -> bool | None:
    del before, rng
    file.unlink()
    return None


DAMAGE: dict[str, Callable[[Path, bytes, random.Random], bool | None]] = {
    "flipped": _flipped, "cut": _cut, "removed": _removed,
}  # fmt: skip


def soak(soak: Soak, only: int | None) -> None:
    """Trials until the time is up, or one."""
    runs, number = Runs(soak), 0
    while only is not None or time.monotonic() < soak.ends:
        soak.trial("training", number if only is None else only, runs.trial)
        if only is not None:
            return
        number += 1
