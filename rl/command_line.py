"""Parses `--config=FILE[:arg] --config.section.key=value` without importing jax.

Shared by main.py and the sweep launcher. Every mistake raises a ValueError whose message is one line that names it.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import config_dict, config_flags

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that lists the words of `known` close to `word`, or all of `known` if none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known)
    return f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(known)}"


def _file_hint(file: Path) -> str:
    """A hint for a config file that is missing: one of that name in configs/, else those beside it or in configs/."""
    shipped = [p for p in sorted(CONFIGS.glob("*.py")) if "def get_config" in p.read_text(encoding="utf-8")]
    if same := [p for p in shipped if p.stem == file.stem]:
        return f"; did you mean {same[0].parent.name}/{same[0].name}?"
    beside = [p.name for p in file.parent.glob("*.py") if not p.name.startswith("_")]
    if difflib.get_close_matches(file.name, beside):
        return f"; {did_you_mean(file.name, beside)}"
    return f"; {did_you_mean(file.name, [f'{p.parent.name}/{p.name}' for p in shipped])}"


def load_module(path: str) -> ModuleType:
    """Imports a config file by path. Raises ValueError if there is no such Python file or it has no get_config()."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"--config={path}: no such file{_file_hint(file)}")
    spec = importlib.util.spec_from_file_location(f"config_file_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config={path}: not a python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config={path}: the file defines no get_config()")
    return module


def load_config(spec: str) -> config_dict.ConfigDict:
    """The config of FILE[:arg]. Raises ValueError, naming the file, if it is missing or rejects the argument."""
    path, *arg = spec.split(":", 1)
    module = load_module(path)
    try:
        return module.get_config(*arg)
    except ValueError as error:
        raise ValueError(f"--config={spec}: {error}") from error


def check_key(config: config_dict.ConfigDict, key: str) -> None:
    """Raises ValueError, with suggestions, unless `key` ("section.key") names a value of the config."""
    node, path = config, "config"
    for name in key.split("."):
        if not isinstance(node, config_dict.ConfigDict):
            raise ValueError(f"{path}.{name}: no such key; {path} is a value, not a section")
        if name not in node:
            raise ValueError(f"{path}.{name}: no such key; {did_you_mean(name, node)}")
        node, path = node[name], f"{path}.{name}"
    if isinstance(node, config_dict.ConfigDict):
        raise ValueError(f"{path} is a section; set one of its keys: {', '.join(sorted(node))}")


def parse(argv: Sequence[str], define: Iterable[tuple[str, str | None, str]] = ()) -> flags.FlagValues:
    """Parses a command line (without the program's name) into flag values.

    define: (name, default, help) of the program's string flags besides --config. A flag whose default is None is
    required. The returned flag values have an attribute for each flag: `.config` is the resolved ConfigDict,
    `.only_check_args` a boolean, the others are strings.

    Raises ValueError for an unknown flag or key, a missing flag or file, a value of the wrong type, or an argument that
    is not a flag.
    """
    define = tuple(define)
    values = flags.FlagValues()
    try:
        argv = values.read_flags_from_files(list(argv), force_gnu=False)
        spec = _config_spec(argv)
        config = load_config(spec)
        for argument in argv:
            if match := _OVERRIDE.match(argument):
                check_key(config, match.group(1))
        config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
        flags.DEFINE_boolean("only_check_args", False, "Check the command line and exit.", flag_values=values)
        for name, default, text in define:
            flags.DEFINE_string(name, default, text, flag_values=values)
        _, *stray = values(["", *argv])
    except flags.UnrecognizedFlagError as error:
        known = ["config", *(name for name, _, _ in define)]
        raise ValueError(f"--{error.flagname}: no such flag; {did_you_mean(error.flagname, known)}") from error
    except flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    if stray:
        raise ValueError(f"{stray[0]!r}: unexpected argument; everything is a flag, --name=value")
    for name, default, text in define:
        if default is None and not values[name].value:
            raise ValueError(f"--{name} is missing: {text}")
    return values


def _config_spec(argv: Sequence[str]) -> str:
    """The value of --config. Raises ValueError when it is missing."""
    for i, argument in enumerate(argv):
        if match := re.fullmatch(r"--?config(?:=(.*))?", argument):
            spec = match.group(1) if match.group(1) is not None else "".join(argv[i + 1 : i + 2])
            if spec:
                return spec
    raise ValueError("--config is missing: a config file, for example --config=configs/tiny.py")
