"""Literal values: what is found in a text, and whether a text states a value."""

import pytest

from envs.hearing.values import mentions, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14 March", ("--03-14",)),
        ("March 14th, 2026", ("2026-03-14",)),
        ("14/03/2026", ("2026-03-14",)),
        ("on Friday 14 March", ("--03-14",)),
        ("Friday works", ("friday",)),
        ("2026-03-14", ("2026-03-14",)),
        ("the 3rd of June", ("--06-03",)),
        ("3-5 June", ("--06-03", "--06-05")),
        ("$12.50", ("1250c",)),
        ("12.50 dollars", ("1250c",)),
        ("USD 12.5", ("1250c",)),
        ("$1,204", ("120400c",)),
        ("59 €", ("5900c",)),
        ("AED 140", ("14000c",)),
        ("£92.00 per month", ("9200c",)),
        ("ten pounds", ("1000c",)),
        ("9:30am", ("09:30",)),
        ("at 9 pm", ("21:00",)),
        ("half past nine", ("09:30",)),
        ("11 o'clock", ("11:00",)),
        ("AB-1234, W20418 and #5521", ("AB-1234", "W20418", "#5521")),
        ("SW1A 1AA", ("SW1A 1AA",)),
        ("+49 151 2345678", ("+491512345678",)),
        ("020 7946 0958", ("02079460958",)),
        ("Mail A.B@Shop.example.", ("a.b@shop.example",)),
        ("three nights at 5%", ("3 nights", "5%")),
        ("card ending 4410", ("4410",)),
        ('"hello there"', ("hello there",)),
        ("may 5 seats be ok", ("5 seats",)),
        ("nothing", ()),
        ("", ()),
    ],
)
def test_values_are_found_and_normalised(text, expected):
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Friday, March 14th", "2026-03-14"),
        ("the 14th", "2026-03-14"),
        ("14/3/26", "2026-03-14"),
        ("03/14/2026", "2026-03-14"),
        ("14 March 2026", "--03-14"),
        ("on 14 March at 9:30", "2026-03-14T09:30"),
        ("small claims", "small_claims"),
        ("Small-Claims court", "small_claims"),
        ("order w20418", "W-20418"),
        ("half past nine", "09:30"),
        ("9:30 pm", "21:30"),
        ("three nights", 3),
        ("a party of twelve", 12),
        ("for 3 people", "3"),
        ("$12.50", 1250),
        ("12.50", "1250c"),
        ("40 dollars", "$40.00"),
        ("free of charge", "0c"),
        ("José Pérez", "jose perez"),
        ("sw1a1aa", "SW1A 1AA"),
        ("020-7946-0958", "020 7946 0958"),
        ("costs 7.5%", "7.5%"),
        ("W-1 and W-2", ["W-2", "W-1"]),
    ],
)
def test_a_value_is_mentioned_in_any_usual_format(text, value):
    assert mentions(text, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("smaller", "small"),
        ("14/03/2025", "2026-03-14"),
        ("14 May", "2026-03-14"),
        ("the 14th of May", "2026-03-14"),
        ("W-204180", "W-20418"),
        ("AW-20418", "W-20418"),
        ("$112.50", "1250c"),
        ("$12.5", 125),
        ("30 nights", 3),
        ("thirteen", 3),
        ("9:30 pm", "09:30"),
        ("a part", "apart"),
        ("anything", None),
        ("anything", ""),
        ("W-1", ["W-2", "W-1"]),
        ("$3.00", 3),
    ],
)
def test_a_part_or_another_value_is_no_mention(text, value):
    assert not mentions(text, value)
