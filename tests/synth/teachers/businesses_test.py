"""What code demands of a business that a language model proposes."""

import copy
import json

import pytest

from synth.business import catalogue
from synth.teachers import businesses
from synth.trees import domains


def proposal(**changes):
    """The bicycle workshop as a proposal of another name, with changes at dotted paths."""
    found = json.loads(catalogue.find("cycle_repair").model_dump_json(by_alias=True, exclude_defaults=True))
    found = copy.deepcopy(found) | {"name": "pram_repair"}
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = found
        for part in parents:
            place = place[part]
        place[last] = value
    return found


def test_a_good_proposal_is_a_domain():
    service = businesses.check(["cycle_repair"], proposal())
    assert service.name == "pram_repair" and len(service.actions) == 5
    assert "pram_repair" not in domains.DOMAINS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "cycle_repair"}, "another one of that name"),
        ({"name": "Pram Repair"}, "name"),
        ({"record": "wheel"}, "there is no collection of kind 'wheel'"),
        ({"searches": {}}, "0 searches, expected at least 3"),
        ({"attributes__repair.estimate__values": [1, 2]}, "at least six numbers"),
        ({"actions__cancel_repair__gerund": ["moving a collection"] * 2}, "read in several ways"),
        ({"attributes__repair.estimate__kind": "word", "attributes__repair.estimate__path": "status",
          "attributes__repair.estimate__values": ["booked_in", "ready"],
          "attributes__repair.estimate__told": {"booked_in": "booked in", "ready": "ready"}}, "standing.6: ge 10000"),
        ({"actions__cancel_repair__args__inspection_charge_cents__formula__path": "repair.status"}, "no task can be"),
        ({"surplus": 1}, "surplus"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        businesses.check(["cycle_repair"], proposal(**changes))


def test_a_prompt_has_example_and_schema():
    text = businesses.prompt(1, ["cycle_repair"])
    assert "cycle_repair" in text and '"wants"' in text and "other than" in text
