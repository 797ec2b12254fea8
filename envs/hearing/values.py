"""Literal values in a text: dates, amounts, times, ids and the like; and whether a text states a given value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from envs.hearing import tokens as tk

# A value is found by one expression of bounded repetitions, so that the time is linear in the text.
MONTHS = "january february march april may june july august september october november december".split()
_MONTH = (
    {name: i + 1 for i, name in enumerate(MONTHS)} | {name[:3]: i + 1 for i, name in enumerate(MONTHS)} | {"sept": 9}
)
_MONTH_NAMES = "|".join([*MONTHS, "sept", *(name[:3] for name in MONTHS)])
_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_SMALL = {word: i for i, word in enumerate(NUMBERS)}
_WORDS = "|".join(NUMBERS[1:])
_CURRENCY = r"(?:us\$|usd|eur|gbp|aed|cad|aud|chf|nzd|sgd|inr|sek|nok|dkk|zar|pln|jpy|a\$|c\$|[$€£¥₹])"
_MONEY_UNIT = r"(?:dollars?|euros?|pounds?|quid|bucks?|francs?|dirhams?|rupees?|usd|eur|gbp|aed|cad|aud|chf|[$€£])"
_AMOUNT = r"\d{1,3}(?:[, ]\d{3}){1,4}(?:\.\d{1,2})?|\d{1,9}(?:[.,]\d{1,2})?"
_YEAR = r"(?:,?\s{1,2}(?:of\s)?(?P<y%s>(?:19|20)\d\d)(?!\d))?"
_UNITS = (
    "nights? days? weeks? months? years? hours? minutes? mins? hrs? h people persons? guests? adults? children kids "
    "items? pieces? pcs units? boxes bottles? tickets? seats? places? kg g km miles? m cm mm l litres? liters? gb mb "
    "points? copies stops? sessions? lessons? times? rooms? books? chairs? tables? percent working\\sdays "
    "business\\sdays digits?"
).replace(" ", "|")
_PATTERNS = [
    ("email", r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}"),
    ("url", r"https?://\S{1,300}"),
    ("iso", r"(?<![\w-])(?P<y0>(?:19|20)\d\d)-(?P<m0>\d\d)-(?P<d0>\d\d)(?![\d-])"),
    ("span", rf"(?<![\w.])(?P<a5>\d{{1,2}})(?:st|nd|rd|th)?\s?(?:-|–|to|and|until)\s?"
     rf"(?P<d5>\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?(?P<m5>{_MONTH_NAMES})\b\.?" + _YEAR % 5),
    ("dmy", rf"(?<![\w.,])(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?[\s-](?:of\s)?(?P<m1>{_MONTH_NAMES})\b\.?"
     rf"(?:-(?P<z1>(?:19|20)\d\d))?" + _YEAR % 1),
    ("mdy", rf"\b(?P<m2>{_MONTH_NAMES})\.?\s(?:the\s)?(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?![\d:.]\d|\d)"
     rf"(?!\s(?:{_UNITS})\b)" + _YEAR % 2),
    ("slashed", r"(?<![\w/.-])(?P<a3>\d{1,2})(?P<s3>[/.-])(?P<b3>\d{1,2})(?P=s3)(?P<y3>(?:19|20)?\d\d)"
     r"(?![\w/]|[.-]\d)"),
    ("money", rf"(?<![\w]){_CURRENCY}\s?(?P<v1>{_AMOUNT})(?![\d])(?!\.\d)"
     rf"|(?<![\w.,$€£/:-])(?P<v2>{_AMOUNT})\s?{_MONEY_UNIT}(?!\w)"
     rf"|(?<![\w-])(?P<v3>{_WORDS})\s(?:dollars?|euros?|pounds?|quid|bucks?)\b"
     r"|(?<![\w.,])(?P<v4>\d{1,2})\s?(?:cents?|pence|p)\b"),
    ("percent", r"(?<![\w.,])(?P<p1>\d{1,3}(?:\.\d{1,2})?)\s?(?:%|percent\b|per\scent\b)"),
    ("time", r"(?<![\w:.,-])(?P<h1>\d{1,2})(?:[:.](?P<i1>[0-5]\d))?\s?(?P<ap>[ap])\.?m\b\.?"
     r"|(?<![\w:.,-])(?P<h2>[01]?\d|2[0-4]):(?P<i2>[0-5]\d)(?::[0-5]\d)?(?![\w:])"
     rf"|(?<![\w:.,-])(?P<h3>\d{{1,2}}|{_WORDS})\so['’]?\s?clock\b"
     rf"|\b(?P<part>half|quarter|ten|twenty|five)\s(?P<to>past|to)\s(?P<h4>\d{{1,2}}|{_WORDS})\b"
     r"|(?<![\w-])(?P<noon>noon|midday|midnight)\b"),
    ("phone", r"(?<![\w+])(?:\+\d{1,3}[\s-]?)?(?:\(\d{1,5}\)[\s-]?)?\d{2,5}(?:[\s-]\d{2,5}){2,5}(?![\w-])"
     r"|(?<!\w)\+\d{1,3}(?:[\s-]?\(?\d{2,8}\)?){1,5}(?!\w)|(?<![\w-])0\d{8,11}(?!\w)|(?<![\w-])\d{3}-\d{4}(?![\w-])"),
    ("postcode", r"(?<![\w-])[a-z]{1,2}\d[a-z\d]?\s\d[a-z]{2}(?![\w-])|(?<![\w-])[a-z]\d[a-z]\s?\d[a-z]\d(?![\w-])"
     r"|(?<![\w-])\d{4}\s[A-Z]{2}(?![\w-])"),
    ("id", r"(?<![\w-])#[a-z]{0,6}-?\d[\w-]{0,15}|(?<![\w-])(?=[\w-]{0,15}\d)[a-z]{1,8}-(?=[\w-]{0,15}\d)[a-z\d]{1,15}"
     r"(?:-[a-z\d]{1,10}){0,3}(?!\w)|(?<![\w-])[a-z]{1,5}\d[a-z\d]{2,15}(?![\w-])|(?<![\w-])[a-z]\d{1,2}(?![\w-])"
     r"|(?<![\w-])\d{2,12}-[a-z\d]{1,10}(?![\w-])"),
    ("unit", rf"(?<![\w.,])(?P<n1>\d{{1,6}}(?:\.\d{{1,2}})?|{_WORDS})[\s-]?(?P<u1>{_UNITS})\b"),
    ("weekday", rf"\b(?:{_DAYS}|today|tonight|tomorrow)\b"),
    ("number", r"(?<![\w.,-])\d{1,12}(?:[.,]\d{1,6})?(?!\w)"),
]  # fmt: skip
# Words which begin no value are stepped over in one piece, which makes the search five times as fast.
_SKIPPED = (
    rf"(?!(?:{_MONTH_NAMES}|{_DAYS}|{_WORDS}|{_CURRENCY}|half|quarter|noon|midday|midnight|today|tonight|tomorrow)(?!\w))"
    r"[^\W\d_]+(?![\w@+-]|\.\w|:/)[^\S\n]*"
)
_VALUE = re.compile(
    "|".join([f"(?P<skipped>{_SKIPPED})", *(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS)]), re.IGNORECASE
)
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»\n]{1,200})[\"”“»]|(?<!\w)'([^'\n]{1,80})'(?!\w)")
_LEADING = re.compile(r"^\s{0,12}\d{1,2}[.)]\s", re.MULTILINE)
_FREE = re.compile(
    r"\bfree\b|\bno (?:\w{1,12} ){0,2}(?:charge|fee|cost|extra)s?\b|\bat no (?:\w{1,12} )?cost\b|\bnothing to pay\b"
    r"|\bwon't cost\b|\bwithout (?:charge|a fee|cost)\b|\bcosts nothing\b"
)
_ORDINAL = re.compile(
    r"(?<![\w.])(\d{1,2})(?:st|nd|rd|th)\b(?!\s(?:of\s)?(?:floor|street|avenue|" + _MONTH_NAMES + r"))"
)
_PIECE = re.compile(r"[^\W_]+")


def _date(year: str | None, month: int, day: int) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    if year and len(year) == 2:
        year = "20" + year
    return f"{year or '-'}-{month:02}-{day:02}"


def cents(amount: str) -> int:
    """The cents of an amount as people write it: "1,204" -> 120400, "12.5" and "12,50" -> 1250."""
    amount = amount.replace(" ", "")
    if re.fullmatch(r"\d+,\d{1,2}", amount):
        amount = amount.replace(",", ".")
    whole, _, part = amount.replace(",", "").partition(".")
    return int(whole) * 100 + int((part + "00")[:2])


def _hour(word: str) -> int:
    return int(word) if word.isdigit() else _SMALL[word.lower()]


def _time(match: re.Match) -> list[str]:
    """The times that a match of "time" may mean, the likeliest first; none if there is no such time."""
    if match["noon"]:
        return ["00:00" if match["noon"].lower() == "midnight" else "12:00"]
    if match["h1"]:
        hour, minute = int(match["h1"]), int(match["i1"] or 0)
        if not 1 <= hour <= 12:
            return [f"{hour:02}:{minute:02}"] if hour < 24 and match["i1"] else []
        return [f"{hour % 12 + 12 * (match['ap'].lower() == 'p'):02}:{minute:02}"]
    if match["h2"]:
        hour, minute = int(match["h2"]), int(match["i2"])
    elif match["h3"]:
        hour, minute = _hour(match["h3"]), 0
    else:
        hour = _hour(match["h4"])
        minute = {"half": 30, "quarter": 15, "ten": 10, "twenty": 20, "five": 5}[match["part"].lower()]
        if match["to"].lower() == "to":
            hour, minute = (hour - 1) % 24, 60 - minute
    if hour > 24:
        return []
    first = f"{hour % 24:02}:{minute:02}"
    return (
        [first, f"{hour + 12:02}:{minute:02}"]
        if hour < 12 and (match["h2"] is None or len(match["h2"]) == 1)
        else [first]
    )


def _of(match: re.Match) -> list[str]:
    """The normalised values of one match of _VALUE."""
    kind, text = match.lastgroup, match[0]
    group = match.groupdict()
    for name, _ in _PATTERNS:  # lastgroup may be an inner one
        if group[name] is not None:
            kind = name
            break
    date = None
    if kind == "iso":
        date = _date(match["y0"], int(match["m0"]), int(match["d0"]))
    elif kind == "span":
        month = _MONTH[match["m5"].lower()]
        both = [_date(match["y5"], month, int(match[day])) for day in ("a5", "d5")]
        return [d for d in both if d] or [text]
    elif kind == "dmy":
        date = _date(match["y1"] or match["z1"], _MONTH[match["m1"].lower()], int(match["d1"]))
    elif kind == "mdy":
        date = _date(match["y2"], _MONTH[match["m2"].lower()], int(match["d2"]))
    elif kind == "slashed":
        a, b = int(match["a3"]), int(match["b3"])
        date = _date(match["y3"], b, a) if b <= 12 else _date(match["y3"], a, b)
    if date:
        return [date]
    if kind == "money":
        if match["v3"]:
            return [f"{100 * _SMALL[match['v3'].lower()]}c"]
        return [f"{int(match['v4'])}c" if match["v4"] else f"{cents(match['v1'] or match['v2'])}c"]
    if kind == "percent":
        return [f"{match['p1']}%"]
    if kind == "time":
        return _time(match)[:1] or [text]
    if kind == "phone":
        return ["+" * text.startswith("+") + re.sub(r"\D", "", text)]
    if kind == "postcode" or kind == "id":
        return [text.upper()]
    if kind == "unit":
        number = match["n1"].lower()
        return [f"{_SMALL.get(number, number)} {match['u1'].lower()}"]
    return [text.lower()]


def _matches(text: str) -> Iterator[re.Match]:
    return (match for match in _VALUE.finditer(text) if match["skipped"] is None)


def _prepared(text: str) -> str:
    return _LEADING.sub("", text[: tk.LONGEST].replace("*", "").replace("`", "").replace("\u00a0", " "))


def values(text: str) -> tuple[str, ...]:
    """The literal values in a text, normalised, in order, each once.

    Dates are ISO ("2026-03-14", "--03-14" without year), money is cents ("1250c"), times are "09:30", percentages
    "12%", numbers with units "3 nights"; ids and postcodes in capitals, phone numbers as digits, emails and days in
    lower case, other numbers and quoted texts as they stand. Never raises; only the first 10,000 characters count.
    """
    text = _prepared(text)
    found = []
    for match in _matches(text):
        if _before_date(text, match):
            continue
        found += [(match.start(), value) for value in _of(match)]
    found += [(m.start(), m[1] or m[2]) for m in _QUOTED.finditer(text)]
    return tuple(dict.fromkeys(v for _, v in sorted(found, key=lambda pair: pair[0])))


def _before_date(text: str, match: re.Match) -> bool:
    """Whether the match is a weekday that belongs to the date after it: "Friday 14 March"."""
    if match["weekday"] is None:
        return False
    after = re.compile(r"[,\s]{1,2}(?:the\s|\()?").match(text, match.end())
    following = after and _VALUE.match(text, after.end())
    return following is not None and any(following[kind] for kind in ("iso", "span", "dmy", "mdy", "slashed"))


def _pieces(text: str) -> list[str]:
    """Letters and digits of a text in words, folded; numbers in words up to twenty become digits."""
    text = tk.fold(text)
    return [str(_SMALL.get(piece, piece)) for piece in _PIECE.findall(text)]


def _runs(pieces: list[str], key: str) -> bool:
    """Whether some neighbouring pieces, put together, are the key."""
    for start, piece in enumerate(pieces):
        if not key.startswith(piece):
            continue
        length = 0
        for piece in pieces[start:]:
            if not key.startswith(piece, length):
                break
            length += len(piece)
            if length == len(key):
                return True
    return False


def _stands(pieces: list[str], wanted: list[str]) -> bool:
    return any(pieces[i : i + len(wanted)] == wanted for i, p in enumerate(pieces) if p == wanted[0])


def mentions(text: str, value: Any) -> bool:
    """Whether a text states the value in a usual format.

    Args:
      text: any.
      value: a string, number, date or a collection of these, all of which have to be stated. Strings which are an ISO
        date, an ISO date and time, a time ("09:30"), or money ("1250c", "$12.50") are compared as such. A whole number
        is also taken for cents. Other strings are compared word by word: case, accents, underscores and hyphens do not
        matter, and numbers up to twenty may be words.
    Returns: False for None and for an empty value. Never raises.
    """
    if value is None or isinstance(value, bool):
        return False
    if isinstance(value, (list, tuple, set, frozenset)):
        return bool(value) and all(mentions(text, v) for v in value)
    text = _prepared(text)
    if isinstance(value, (int, float)):
        return _number(text, value)
    value = str(value).strip()
    if match := re.fullmatch(r"(\d{4}|-)-(\d\d)-(\d\d)(?:[T ](\d\d:\d\d)(?::\d\d)?.{0,6})?", value):
        day = match[1], int(match[2]), int(match[3])
        return _dated(text, *day) and (match[4] is None or _timed(text, match[4]))
    if re.fullmatch(r"\d{1,2}:\d\d", value):
        return _timed(text, value.zfill(5))
    if re.fullmatch(r"\d+c", value):
        return _priced(text, int(value[:-1]))
    if match := re.fullmatch(rf"{_CURRENCY}\s?({_AMOUNT})|({_AMOUNT})\s?{_MONEY_UNIT}", value, re.IGNORECASE):
        return _priced(text, cents(match[1] or match[2]))
    if re.fullmatch(r"\d{1,6}(?:\.\d+)?", value) and not value.startswith("0"):
        return _number(text, float(value) if "." in value else int(value), money=False)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s?%", value):
        return any(p and float(p[:-1]) == float(match[1]) for p in values(text) if p.endswith("%"))
    wanted, pieces = _pieces(value), _pieces(text)
    if not wanted:
        return bool(value) and value in text
    if _stands(pieces, wanted):
        return True
    key = "".join(wanted)
    return any(c.isdigit() for c in key) and len(key) > 3 and len(wanted) < 7 and _runs(pieces, key)


def _number(text: str, value: float, money: bool = True) -> bool:
    """Whether a number stands in a text, in digits or in words; money: it may also be an amount, in cents."""
    if money and float(value).is_integer() and _priced(text, int(value)):
        return True
    for match in _matches(text):
        group = match.groupdict()
        if group["unit"]:
            number = match["n1"].lower()
            if float(_SMALL.get(number, number)) == value:
                return True
        elif group["percent"] and float(match["p1"]) == value:
            return True
        elif group["number"] and _same(match["number"], value):
            return True
        elif group["id"] and match["id"].lstrip("#") == str(value):
            return True
    word = NUMBERS[int(value)] if float(value).is_integer() and 0 < value <= 20 else None
    return bool(word) and re.search(rf"(?<![\w-]){word}(?![\w]|-\w)", text, re.IGNORECASE) is not None


def _same(stated: str, value: float) -> bool:
    if "," in stated:
        whole = re.fullmatch(r"\d{1,3}(?:,\d{3})+", stated)
        stated = stated.replace(",", "" if whole else ".")
    return float(stated) == value


def _priced(text: str, amount: int) -> bool:
    for match in _matches(text):
        group = match.groupdict()
        if group["money"]:
            if _of(match) == [f"{amount}c"]:
                return True
        elif group["number"] and re.fullmatch(r"\d+[.,]\d\d", match["number"]) and cents(match["number"]) == amount:
            return True
    return amount == 0 and _FREE.search(tk.fold(text)) is not None


def _timed(text: str, time: str) -> bool:
    return any(m.groupdict()["time"] and time in _time(m) for m in _matches(text))


def _dated(text: str, year: str, month: int, day: int) -> bool:
    """Whether a text states a date: with the same year, or with none; "the 14th" counts, too."""
    for match in _matches(text):
        group = match.groupdict()
        stated: Iterable[str] = ()
        if group["slashed"]:
            a, b, y = int(match["a3"]), int(match["b3"]), match["y3"]
            stated = [s for s in (_date(y, b, a), _date(y, a, b)) if s]
        elif any(group[kind] for kind in ("iso", "span", "dmy", "mdy")):
            stated = _of(match)
        for one in stated:
            if one[-5:] == f"{month:02}-{day:02}" and (one[:-6] == "-" or year in ("-", one[:-6])):
                return True
    return any(int(m[1]) == day for m in _ORDINAL.finditer(text) if not _beside_month(text, m))


def _beside_month(text: str, match: re.Match) -> bool:
    """Whether an ordinal belongs to a date with a month, before or after it."""
    before, after = (
        text[max(0, match.start() - 14) : match.start()].lower(),
        text[match.end() : match.end() + 14].lower(),
    )
    return bool(
        re.search(rf"\b(?:{_MONTH_NAMES})\.?\s(?:the\s)?$", before)
        or re.match(rf"\s?(?:of\s|-|–|to\s|and\s)?(?:\d{{1,2}}(?:st|nd|rd|th)?\s)?(?:{_MONTH_NAMES})\b", after)
    )
