"""The config that a workdir was made with, to go on with its run or to measure and serve it without repeating its keys:

    ./run main.py --config=configs/saved.py:runs/demo --workdir=runs/demo --stage=serve

Keys can be set on the command line as with any other config file.
"""

import json
from pathlib import Path

from ml_collections import config_dict

from configs import default, validate


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config in the workdir `arg`; keys that it does not have yet have their defaults.

    Raises ValueError if the folder has no readable config.json, or one with keys that there are no longer.
    """
    file = Path(arg) / "config.json"
    if not arg or not file.is_file():
        raise ValueError(f"no {file if arg else 'workdir'}; expected --config=configs/saved.py:WORKDIR of a run")
    c = default.get_config()
    try:
        saved = dict(validate.leaves(json.loads(file.read_text())))
        if unknown := sorted(saved.keys() - dict(validate.leaves(c)).keys()):
            raise ValueError(f"no longer a key: {', '.join(unknown)}")
        c.update_from_flattened_dict(saved)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    return c
