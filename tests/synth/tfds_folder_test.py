"""TFDS folders that others made: read as they are, and never a reason to import a module."""

import json
import sys

import pytest

from synth import dataset, tfds_folder
from synth.problems import files
from tests.synth.dataset_test import splits

EVIL = "imported_by_a_dataset"


def names_of_classes(value, path=()):
    """The paths of all class names in features.json."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from [(*path, key)] if key == "pythonClassName" else names_of_classes(inner, (*path, key))


def test_a_class_from_elsewhere_is_refused_wherever_it_is_named(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path / "set", splits())
    file = folder / "features.json"
    features = json.loads(file.read_text())
    (tmp_path / f"{EVIL}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    places = list(names_of_classes(features))
    assert len(places) > 5
    for place in places:
        inner = changed = json.loads(json.dumps(features))
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = f"{EVIL}.Feature"
        file.write_text(json.dumps(changed))
        for read in (lambda: list(dataset.stream(folder, "train")), lambda: files.read(folder, "train")):
            with pytest.raises(ValueError, match=f"features.json: expected features of TFDS alone, found .*{EVIL}"):
                read()
    file.write_text(json.dumps({"type": f"{EVIL}.Feature", "content": {}}))  # the form of old versions
    with pytest.raises(ValueError, match="features of TFDS alone"):
        tfds_folder.builder(folder)
    assert EVIL not in sys.modules
    file.write_text(json.dumps(features))
    assert tfds_folder.builder(folder).info.splits


@pytest.mark.parametrize("text", [None, "", "{", "[" * 100_000])
def test_a_broken_file_is_named(tmp_path, text):
    folder = dataset.write(tmp_path / "set", splits())
    if text is None:
        (folder / "features.json").unlink()
    else:
        (folder / "features.json").write_text(text)
    with pytest.raises(ValueError, match=r"features\.json: (missing|not JSON)"):
        tfds_folder.builder(folder)
