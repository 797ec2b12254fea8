"""From a message to sentences of tokens: markdown and contractions undone, words reduced to a stem and a form."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata

# form of a word as its ending shows it: "base" also stands for nouns and everything else
BASE, S, ED, ING, NOUN, EITHER = ("base", "s", "ed", "ing", "noun", "either")
LONGEST = 10_000  # characters of a message that are listened to
TOKENS = 200  # of a sentence, at most; a longer one is cut
QUOTED = 4  # words: a longer quotation is somebody else's sentence and does nothing here

IRREGULAR = {  # form -> (base, what the form is)
    **dict.fromkeys((
        "is", "am", "are", "was", "were", "been", "being", "be",
    ), ("be", BASE)),
    **dict.fromkeys(("done",), ("do", ED)),
    **dict.fromkeys(("did", "does"), ("do", S)),
    **dict.fromkeys(("has", "had", "have"), ("have", BASE)),
    "gave": ("give", ED), "given": ("give", ED), "took": ("take", ED), "taken": ("take", ED), "made": ("make", ED),
    "sent": ("send", ED), "paid": ("pay", ED), "bought": ("buy", ED), "brought": ("bring", ED), "sold": ("sell", ED),
    "got": ("get", ED), "gotten": ("get", ED), "went": ("go", ED), "gone": ("go", ED), "said": ("say", ED),
    "told": ("tell", ED), "held": ("hold", ED), "kept": ("keep", ED), "left": ("leave", ED), "lost": ("lose", ED),
    "found": ("find", ED), "came": ("come", ED), "saw": ("see", ED), "seen": ("see", ED), "knew": ("know", ED),
    "known": ("know", ED), "wrote": ("write", ED), "written": ("write", ED), "chose": ("choose", ED),
    "chosen": ("choose", ED), "swapt": ("swap", ED), "withdrew": ("withdraw", ED), "withdrawn": ("withdraw", ED),
    "undid": ("undo", ED), "undone": ("undo", ED), "resent": ("resend", ED), "rebuilt": ("rebuild", ED),
    "froze": ("freeze", ED), "frozen": ("freeze", ED), "broke": ("break", ED), "broken": ("break", ED),
    "spoke": ("speak", ED), "spoken": ("speak", ED), "drew": ("draw", ED), "drawn": ("draw", ED), "lent": ("lend", ED),
    "put": ("put", EITHER), "set": ("set", EITHER), "cut": ("cut", EITHER), "reset": ("reset", EITHER),
    "let": ("let", EITHER), "shut": ("shut", EITHER), "split": ("split", EITHER), "read": ("read", EITHER),
    "redid": ("redo", ED), "redone": ("redo", ED), "gave up": ("give", ED), "fed": ("feed", ED), "met": ("meet", ED),
    "extension": ("extend", NOUN), "extensions": ("extend", NOUN), "removal": ("remove", NOUN),
    "renewal": ("renew", NOUN), "renewals": ("renew", NOUN), "closure": ("close", NOUN), "addition": ("add", NOUN),
    "correction": ("correct", NOUN), "corrections": ("correct", NOUN), "reduction": ("reduce", NOUN),
    "suspension": ("suspend", NOUN), "withdrawal": ("withdraw", NOUN), "redelivery": ("redeliver", NOUN),
    "delivery": ("deliver", NOUN), "deliveries": ("deliver", NOUN), "termination": ("terminate", NOUN),
    "upsize": ("upsize", BASE), "news": ("news", BASE), "bus": ("bus", BASE), "this": ("this", BASE),
    "ours": ("ours", BASE), "yours": ("yours", BASE), "its": ("its", BASE), "his": ("his", BASE),
    "us": ("us", BASE), "yes": ("yes", BASE), "always": ("always", BASE), "address": ("address", BASE),
    "addresses": ("address", S), "process": ("process", BASE), "processes": ("process", S), "plus": ("plus", BASE),
    "need": ("need", BASE), "speed": ("speed", BASE), "feed": ("feed", BASE), "seed": ("seed", BASE),
    "during": ("during", BASE), "morning": ("morning", BASE), "evening": ("evening", BASE), "thing": ("thing", BASE),
    "something": ("something", BASE), "anything": ("anything", BASE), "everything": ("everything", BASE),
    "nothing": ("nothing", BASE), "string": ("string", BASE), "bring": ("bring", BASE), "ring": ("ring", BASE),
    "king": ("king", BASE), "spring": ("spring", BASE), "wing": ("wing", BASE), "sing": ("sing", BASE),
    "bed": ("bed", BASE), "red": ("red", BASE), "shed": ("shed", BASE), "hundred": ("hundred", BASE),
    "indeed": ("indeed", BASE), "proceed": ("proceed", BASE), "exceed": ("exceed", BASE), "unfortunately":
    ("unfortunately", BASE), "date": ("date", BASE), "dates": ("date", S), "rate": ("rate", BASE),
    "plate": ("plate", BASE), "late": ("late", BASE), "later": ("later", BASE), "state": ("state", BASE),
    "stated": ("state", ED), "sure": ("sure", BASE), "moment": ("moment", BASE), "payment": ("payment", BASE),
    "appointment": ("appointment", BASE), "appointments": ("appointment", S), "payments": ("payment", S),
    "station": ("station", BASE), "reason": ("reason", BASE), "location": ("location", BASE),
    "quotation": ("quotation", BASE), "document": ("document", BASE), "documents": ("document", S),
    "instrument": ("instrument", BASE), "department": ("department", BASE), "information": ("information", BASE),
    "apartment": ("apartment", BASE), "comment": ("comment", BASE), "ending": ("ending", BASE),
    "billing": ("billing", BASE), "reading": ("reading", BASE), "readings": ("reading", S),
    "spelling": ("spelling", BASE), "less": ("less", BASE), "unless": ("unless", BASE), "class": ("class", BASE),
    "access": ("access", BASE), "express": ("express", BASE), "business": ("business", BASE), "gas": ("gas", BASE),
    "as": ("as", BASE), "was not": ("be", BASE), "status": ("status", BASE), "bonus": ("bonus", BASE),
    "does not": ("do", S), "tracking": ("tracking", BASE), "quantities": ("quantity", S), "dietary": ("dietary", BASE),
}  # fmt: skip
CONTRACTED = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "ain't": "is not",
    "let's": "let us", "wanna": "want to", "gonna": "going to", "gotta": "got to", "lemme": "let me",
    "gimme": "give me", "dont": "do not", "cant": "can not", "wont": "will not", "didnt": "did not",
    "doesnt": "does not", "isnt": "is not", "whats": "what is", "thats": "that is", "im": "i am", "ive": "i have",
    "youd": "you would", "youre": "you are", "u": "you", "ur": "your", "pls": "please", "plz": "please",
    "thx": "thanks", "o.k": "ok", "okay": "ok", "okey": "ok", "alright": "ok", "allright": "ok", "k": "ok",
    "yep": "yes", "yeah": "yes", "yup": "yes", "ya": "you", "y'all": "you", "e-mail": "email", "e-mails": "emails",
    "no.": "number", "nr": "number", "nr.": "number", "num": "number", "ref": "reference", "ref.": "reference",
    "tel": "telephone", "tel.": "telephone", "addr": "address", "dob": "date of birth", "wld": "would",
    "kindly": "please", "whereabouts": "where", "colour": "color", "colours": "colors", "favourite": "favorite",
    "acct": "account", "acc": "account", "appt": "appointment", "pick-up": "pickup", "re-sent": "resent",
    "re-send": "resend", "re-book": "rebook", "re-schedule": "reschedule", "e.g": "eg", "e.g.": "eg", "i.e.": "ie",
    "zipcode": "postcode", "zip": "postcode", "organisation": "organization", "cellphone": "phone", "mr.": "mr",
    "mrs.": "mrs", "dr.": "dr", "ms.": "ms", "st.": "st", "approx.": "approx", "incl.": "incl", "etc.": "etc",
    "there'd": "there would", "how'd": "how would", "where'd": "where would", "when'd": "when would",
    "o'clock": "oclock", "ma'am": "madam", "programme": "program", "cheque": "check", "cancelation": "cancellation",
    "d'you": "do you", "wouldya": "would you", "couldya": "could you", "y/n": "yes or no", "yes/no": "yes or no",
}  # fmt: skip
# words that keep their silent e, without which they would be others: "note" and "not", "care" and "car"
_KEPT = {
    form: (base + "~", kind)
    for base in (
        "note quite suite care plane site wine fare tube kite here ride hope tape bare pine scare stare hide mate cane "
        "scrape paste"
    ).split()
    for form, kind in ((base, BASE), (base + "s", S), (base + "d", ED), (base[:-1] + "ing", ING))
}
MONEY = "¤"  # the stem of an amount of money; other numbers and values have "#"
DATE = "#date"  # of a number that belongs to a date or a time
_MONTHS = frozenset(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec".split()
)
_DATED = re.compile(r"\d+(?:st|nd|rd|th|am|pm)|\d{1,2}:\d\d|\d{1,4}([/.-])\d{1,2}\1\d{1,4}")
_BRITISH = re.compile(r"(?<=\w{4})is(?=(?:e|ed|es|ing|ation|ations)$)")
CURRENCIES = frozenset(["$", "€", "£", "¥", "₹", "usd", "eur", "gbp", "aed", "cad", "aud", "chf"])
CURRENCY_WORDS = CURRENCIES | frozenset("dollar dollars euro euros pound pounds quid bucks pence cents tenner".split())
_SUFFIXES = {"'ll": "will", "'d": "would", "'ve": "have", "'re": "are", "'m": "am", "n't": "not"}
_IS = frozenset("what it that who where how when there here he she everything which why this all name".split())
_ABBREVIATIONS = r"(?:no|nr|ref|tel|mr|mrs|dr|ms|st|approx|incl|etc|e\.g|i\.e)\.(?=\s*[\w\d(,])"
_TOKEN = re.compile(
    r"(?P<email>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4})"
    r"|(?P<url>https?://\S{1,300})"
    rf"|(?P<abbreviation>\b{_ABBREVIATIONS})"
    r"|(?P<number>[#]?\d+(?:[.,:/-]\d+)*(?:st|nd|rd|th|am|pm|%)?(?![A-Za-z\d]))"
    r"|(?P<word>[^\W_]+(?:['_./&-][^\W_]+)*)"
    r"|(?P<end>[.!?…]+)|(?P<mark>[^\w\s])",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^\s{0,12}(?:[-*•+–·▪‣→👉☐☑✅🔹🔸]|\(?\d{1,2}[.)]|[a-z][.)])\s+", re.IGNORECASE)
_MARKUP = re.compile(r"[*`~]+|^\s*#{1,6}\s|(?<!\w)_+|_+(?!\w)", re.MULTILINE)
# "4 Priory Close": what stands between the number and the last word is a name, and that word is no verb
_STREET = re.compile(
    r"\b\d{1,5}[a-z]?,?\s(?:[A-Z][\w'-]{0,30}\s){1,3}"
    r"(?:Close|Drive|Rise|Park|End|Row|Walk|Way|Square|Road|Rd|Street|St|Avenue|Ave|Lane|Court|Place|Gardens|Crescent)\b"
)
_QUOTES = re.compile(r"[\"“”„«»]([^\"“”„«»\n]{0,400})[\"“”„«»]")


@dataclasses.dataclass(slots=True)
class Token:
    """word: lower case, without accents; stem: what it is compared by; kind: "word", "number", "value" or "mark"."""

    word: str
    stem: str
    form: str
    kind: str
    start: int  # of the first character in the text that `sentences` was given, after clean()
    end: int


@dataclasses.dataclass(slots=True)
class Sentence:
    """tokens: at least one. question: ends with "?". item: entry of a list. colon: ends with one. line: its number."""

    tokens: list[Token]
    question: bool
    item: bool
    colon: bool
    line: int
    bang: bool = False
    words: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.words = [token.word for token in self.tokens]
        for at, token in enumerate(self.tokens):
            if token.kind == "number" and token.stem == "#":
                beside = self.words[max(0, at - 1) : at + 2] + (
                    self.words[at + 2 : at + 3] if "of" in self.words else []
                )
                if _DATED.fullmatch(token.word) or _MONTHS.intersection(beside):
                    token.stem = DATE


def fold(text: str) -> str:
    """Lower case, without accents; characters that can't be encoded are kept as they are."""
    return text.lower() if text.isascii() else _fold(text)


def _fold(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))


@functools.lru_cache(maxsize=20_000)
def stem(word: str) -> tuple[str, str]:
    """(stem, form) of a folded word, by rules: "cancelling" -> ("cancel", "ing"). Equal stems count as one word."""
    if word in _KEPT:
        return _KEPT[word]
    if word in IRREGULAR:
        base, form = IRREGULAR[word]
        return _root(base), form
    if "is" in word and len(word) > 6:  # British spellings
        word = _BRITISH.sub("iz", word)
    for ending, form in (("ations", NOUN), ("ation", NOUN), ("ements", NOUN), ("ement", NOUN), ("ings", NOUN)):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return _root(word[: -len(ending)]), form
    if word.endswith("ies") and len(word) > 4:
        return _root(word[:-3] + "y"), S
    if word.endswith("ied") and len(word) > 4:
        return _root(word[:-3] + "y"), ED
    if word.endswith("ing") and len(word) > 5:
        return _root(word[:-3]), ING
    if word.endswith("ed") and len(word) > 4:
        return _root(word[:-2]), ED
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        if word.endswith(("sses", "shes", "ches", "xes", "zes")):
            return _root(word[:-2]), S
        return _root(word[:-1]), S
    return _root(word), BASE


def _root(word: str) -> str:
    """Without the endings that differ between the forms of one word: a silent e, a doubled consonant, "ate"."""
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    if word.endswith("at") and len(word) > 5:
        word = word[:-2]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouszf":
        word = word[:-1]
    return word


@functools.lru_cache(maxsize=20_000)
def expanded(word: str) -> tuple[tuple[str, str, str], ...]:
    """(word, stem, form) of what a folded word stands for: "i'll" -> i, will."""
    if word in CONTRACTED:
        parts = CONTRACTED[word].split()
    elif word.endswith("n't"):
        parts = [word[:-3], "not"]
    elif word.endswith("'s"):
        parts = [word[:-2], "is"] if word[:-2] in _IS else [word[:-2]]
    else:
        ending = next((s for s in _SUFFIXES if word.endswith(s) and len(word) > len(s)), None)
        parts = [word[: -len(ending)], _SUFFIXES[ending]] if ending else [word]
    return tuple((part, *stem(part)) for part in parts)


def clean(text: str) -> str:
    """The first LONGEST characters without markup, with plain apostrophes and dashes."""
    text = text[:LONGEST].replace("\r\n", "\n").replace("\r", "\n").replace("’", "'").replace("‘", "'")
    lines = []
    for line in text.split("\n"):
        stripped = line.lstrip()
        if stripped.startswith(">") or not stripped:
            lines.append("")  # somebody else's words
            continue
        if "|" in stripped and stripped.startswith("|"):
            line = stripped.strip("|").replace("|", ": ")
        item = _ITEM.match(line)
        lines.append("- " + line[item.end() :] if item else line)
    return "\n".join(line if line.startswith("- ") else _MARKUP.sub("", line) for line in lines) if text else ""


def sentences(text: str) -> tuple[list[Sentence], list[str]]:
    """(sentences of a message, its lines without markup); tokens have their place in their sentence's line.

    A sentence ends by a mark or with its line. Long quotations are left out. Linear in the text.
    """
    found: list[Sentence] = []
    lines = clean(text).split("\n")
    for number, raw in enumerate(lines):
        if not raw.strip():
            continue
        item = raw.startswith("- ")
        line = _MARKUP.sub("", raw[2:]) if item else raw
        lines[number] = line
        line = _QUOTES.sub(lambda m: m[0] if len(m[1].split()) <= QUOTED else "…" * len(m[0]), line)
        _split(line, item, number, found)
    return found, lines


def _split(line: str, item: bool, number: int, found: list[Sentence]) -> None:
    """Adds the sentences of one line."""
    tokens: list[Token] = []
    streets = [match.span() for match in _STREET.finditer(line)] if not line.islower() else []
    for match in _TOKEN.finditer(line):
        if len(tokens) >= TOKENS:
            found.append(Sentence(tokens, False, item, False, number))
            tokens = []
        kind, here = match.lastgroup, match[0]
        start, end = match.span()
        if kind == "end":
            after = line[end : end + 1]
            if here == "." and after and not after.isspace() and after not in "\"')]*":
                continue
            if here[0] == "…" and "?" not in here:
                tokens.append(Token(",", ",", BASE, "mark", start, end))
                continue
            if tokens:
                found.append(Sentence(tokens, "?" in here, item, False, number, "!" in here))
                tokens = []
            elif "?" in here and found and found[-1].line == number:
                found[-1].question = True
        elif kind == "mark":
            if here in CURRENCIES and tokens and tokens[-1].kind == "number" and line[start - 2 : start].strip():
                tokens[-1].stem = MONEY
            else:
                tokens.append(Token(here, here, BASE, "mark", start, end))
        elif kind in ("email", "url"):
            tokens.append(Token(fold(here), "@", BASE, "value", start, end))
        elif kind == "number":
            money = bool(tokens) and (tokens[-1].word in CURRENCIES)
            if money:
                tokens.pop()
            plain = "#street" if any(s[0] <= start < s[1] for s in streets) else "#"
            tokens.append(Token(here, MONEY if money else plain, BASE, "number", start, end))
        else:
            word = fold(here)
            if word in CURRENCY_WORDS and tokens and tokens[-1].kind == "number":
                tokens[-1].stem = MONEY
            if street := next((s for s in streets if s[0] <= start and end <= s[1]), None):
                tokens.append(Token(word, "street" if end == street[1] else "#", BASE, "word", start, end))
                continue
            _word(word, start, end, tokens)
    if any(token.kind != "mark" for token in tokens):
        colon = tokens[-1].word == ":"
        found.append(Sentence(tokens, False, item, colon, number))


def _word(word: str, start: int, end: int, tokens: list[Token]) -> None:
    """Adds the tokens of one word; "and/or" and "card/cash" are alternatives, an id such as "w-204" is a value."""
    if word not in CONTRACTED and any(c.isdigit() for c in word):
        tokens.append(Token(word, "#", BASE, "value", start, end))
        return
    if word not in CONTRACTED and "/" in word:
        parts = word.split("/")
        for k, part in enumerate(parts):
            if k:
                tokens.append(Token("or", "or", BASE, "word", start, end))
            _word(part, start, end, tokens)
        return
    if word not in CONTRACTED and ("-" in word or "." in word):
        for part in re.split(r"[-.]", word):
            if part:
                tokens.extend(Token(w, s, f, "word", start, end) for w, s, f in expanded(part))
        return
    tokens.extend(Token(w, s, f, "word", start, end) for w, s, f in expanded(word))
