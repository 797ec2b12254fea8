"""One value in many notations gets one verdict, and no wrong value slips in with them."""

import itertools
import unicodedata
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import answers

SAME = {
    "90": [
        r"90\degree",
        r"90~^\circ",
        r"90^\circ C",
        r"90^{\circ}\text{C}",
        "90",
        "90°",
        r"90^\circ",
        r"$90^{\circ}$",
        r"\boxed{90^{\circ}}",
        "90 degrees",
        r"90\circ",
    ],
    "12": [
        "12 cm",
        "12 cm^2",
        "12 cm^{2}",
        "12 cm²",
        r"12\text{ cm}^2",
        r"12\text{ cm}",
        "12 square metres",
        "12 ft^3",
        r"12\mathrm{~cm}^{2}",
        r"12\ \text{cm}^2",
        r"12~\text{cm}",
        "12 m",
        "12 units squared",
    ],
    "7/2": ["3 1/2", r"3\frac{1}{2}", "3½", "3 ½", "3.5", "7/2", "7⁄2", "3 1⁄2", "3½ cm", "3 1/2 cm^2"],
    "3 1/2": ["7/2", "3.5", "3½", "3 1/2", "3 1/2 cm"],
    "½": ["1/2", "0.5", "½", r"\frac12"],
    "1e6": ["1000000", "1E6", "10^6", "1e6", r"1\times 10^6", "1,000,000"],
    "12 cm^2": ["12 cm²", "12 cm^{2}", r"12\text{ cm}^2", "12 cm^2"],
    "4, 3": ["3, 4", "3,4", "4,3", "4, 3"],
    "4,3": ["3, 4", "3,4", "4,3", "4, 3"],
    "3,2,1": ["1,2,3", "1, 2, 3", "3, 2, 1"],
    "100, 200": ["200, 100", "100,200", "100, 200"],
    "100, 200, 50": ["50, 100, 200", "50,100,200"],
    "0.5, 2": ["1/2, 2", "2,1/2"],
    "-7/2": ["-3 1/2", "-3½"],
    "1/2": ["½", "0.5", "1/2"],
    "1000000": ["1e6", "1E6", "1e+6", "1,000,000"],
    "0.001": ["1e-3"],
    "1,-2": ["1, -2", "1 , -2", "1,-2", r"\boxed{1, -2}"],
    "1, -2": ["1,-2", "1, -2"],
    "3,5,7": [r"\boxed{3, 5, 7}", "3, 5,7"],
}
WRONG = {
    "90": [r"91^\circ", r"9^\circ", r"90^2", r"90^{\circ}90"],
    "12": [
        "12x",
        "12 x",
        "12pi",
        "12 pi",
        "12e",
        "12i",
        "12 squared",
        "12^{\\circ}3",
        "12½",
        "13 cm^2",
        "12x^2",
        "12^2",
        "12^3",
        "1 2",
        "12 cm^4",
        "12 1/2",
        "1, 2",
        "12, 13",
        "12 or 13",
    ],
    "7/2": ["3 1/3", "31/2", "3 2/1", "3 -1/2"],
    "3": ["3 1/2", "3½", "3e1"],
    "31/2": ["3 1/2"],
    "2": ["2 2/3", "½"],
    "1000000": ["1e5", "1e7", "16"],
    "5": ["5, 6", "5,6"],
    "3 1/2": ["31/2", "3/2", "3", "1/2", "4 1/2", "-3 1/2"],
    "½": ["2", "12", "1", "¼"],
    "1e6": ["6e", "6*e", "e*6", "16", "1e5", "10^5", "1"],
    "6e": ["1e6"],
    "12 cm^2": ["12 cm", "12 cm^3", "13 cm^2", "12 cm³", "122"],
    "100,200": ["100, 200", "200, 100"],
    "1,1,2": ["1,2,2", "1, 2, 2", "1, 2"],
    "0.5, 2": ["0.5, 3", "5, 2", "0.52"],
    "(3,4)": ["(4,3)", "(4, 3)"],
    "1,2": ["1, 3", "1, 2, 3", "1", "12"],
    "100, 200": ["100200"],
    "1234": ["1, 235"],
    "Café": ["Cafe", "Cafè"],
}


@pytest.mark.parametrize(("gold", "text"), [(g, t) for g, texts in SAME.items() for t in texts])
def test_notations_of_one_value(gold, text):
    assert answers.same(gold, text)


@pytest.mark.parametrize(("gold", "text"), [(g, t) for g, texts in WRONG.items() for t in texts])
def test_wrong_ones_stay_wrong(gold, text):
    assert not answers.same(gold, text)


VALUES = {gold: value for gold in SAME if (value := answers.number(gold)) is not None}


@pytest.mark.parametrize("gold", VALUES)
def test_a_notation_of_one_value_is_no_other(gold):
    others = [other for other in VALUES if VALUES[other] != VALUES[gold]]
    assert len(others) > 5 and [other for other in others if answers.same(gold, SAME[other][0])] == []


@pytest.mark.parametrize("members", [("3", "4"), ("1", "-2"), ("3", "5", "7")], ids=str)
def test_the_verdict_on_a_list_does_not_depend_on_spaces(members):
    for order in itertools.permutations(members):
        verdicts = {
            answers.same(a.join(members), b.join(order))
            for a in (",", ", ")
            for b in (",", ", ", " , ")
            if order != members
        }
        assert len(verdicts) <= 1, order


@given(st.sampled_from(["Café", "Hiếu", "Zürich", "Île", "Ångström"]), st.sampled_from(["NFC", "NFD"]))
def test_accents_are_one_whichever_way_they_are_composed(word, form):
    assert answers.same(word, unicodedata.normalize(form, word)) and answers.same(
        unicodedata.normalize(form, word), word
    )


@given(st.integers(-99, 99), st.integers(1, 8), st.integers(2, 9), st.integers(-9, 9))
def test_mixed_numbers_have_their_value(whole, numerator, denominator, off):
    if numerator < denominator and whole:
        value = (abs(whole) + Fraction(numerator, denominator)) * (1 if whole > 0 else -1)
        gold = value + off
        if gold.denominator != 1:
            verdict = answers.same(str(gold), f"{whole} {numerator}/{denominator}")
            assert verdict == (off == 0)
