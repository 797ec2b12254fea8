"""Which facts a message asks for, and whether it asks which of several things is meant."""

from __future__ import annotations

from envs.hearing import cues
from envs.hearing.lexicon import Lexicon
from envs.hearing.patterns import Match
from envs.hearing.tokens import Sentence, Token

_TELL = frozenset(
    "tell know me us confirm whether and or ask say advise specify state need see check on in at for to with from "
    "under into of by up until till".split()
)
_TOLD = frozenset("tell know specify advise confirm say ask state".split())
_PREPOSITIONS = frozenset("until till from to at in under for into by on with since of between".split())
_AUX = frozenset(
    "is are was were do does did would will shall should can could may might exactly suits works have has best "
    "suit and , or of to you made makes brings".split()
)
_MODALS = frozenset("can could may might would will".split())
_PURPOSE = frozenset("so because since before as".split())
_DOING = frozenset(
    "cancel change update send find look process refund move book verify complete proceed avoid help make".split()
)
_JOINS = frozenset("and , or plus & also".split())
_OPENING = frozenset(", - : – — . ! and but so or ok just then please right".split())
_LEAD = frozenset("please just and then so , ok great also thanks ! first now : - – —".split())
# verbs which are also nouns or something else: they ask with "me" only
_PICKY = frozenset("let email text name message list number point state quote check type note say mention".split())
_KIND = frozenset("kind good mind oblige obliged".split())
_BEFORE = frozenset("new instead prefer move moving changed rather better".split())
_ASKED = frozenset("if ask could need would kind".split())
_SENTENCE = frozenset("is are do did does was were would will has i want".split())


def facts_asked(
    sentences: list[Sentence], lexicon: Lexicon, found: list[list[Match]], taken: set[int]
) -> tuple[list[str], bool]:
    """(facts asked for, in order; whether it is asked which of several is meant).

    found: the matches of cues for each sentence. taken: sentences that ask for consent, in which only what/which/when
    count.
    """
    facts: list[str] = []
    which = False
    listing = False  # a list of what is needed has begun
    for index, sentence in enumerate(sentences):
        if any(match.label == "more" for match in found[index]):
            continue
        consent = index in taken
        scope, wh = _scope(sentence, found[index], consent)
        if listing and sentence.item and scope is None and not _filled(sentence.words):
            scope = 0
        if listing and not sentence.item and not sentence.colon:
            listing = False
        here: list[tuple[int, str]] = []
        if scope is not None:
            offered = _choice(sentence, lexicon) if wh is None and sentence.question else []
            here = offered or _facts(sentence, scope, lexicon, sentence.item and listing)
            following = index + 1 < len(sentences) and sentences[index + 1].item
            listing = listing or sentence.colon or following
        if not here and sentence.question and not consent:
            here = _choice(sentence, lexicon)
            if not here and len(sentence.words) <= 10 and not _SENTENCE.intersection(sentence.words[:6]):
                here = _facts(sentence, 0, lexicon, False)  # "Your postcode?"
        facts += [fact for _, fact in sorted(here)]
        if not here and _friendly(sentence, found[index]):
            continue
        if not here and wh is not None and _which(sentence, wh, lexicon):
            which = True
        if not here and sentence.question and not consent and _alternatives(sentence.words):
            which = True
    return list(dict.fromkeys(facts)), which


def _filled(words: list[str]) -> bool:
    """Whether the entry of a list tells a value, "Size: XL", and does not ask for one."""
    after = words[words.index(":") + 1 :] if ":" in words else []
    return bool(after) and after[0] != "("


def _friendly(sentence: Sentence, found: list[Match]) -> bool:
    """Whether a question only opens the talk: "what can I do for you?"."""
    return sentence.question and any(m.label == "friendly" for m in found) and len(sentence.words) < 18


def _scope(sentence: Sentence, found: list[Match], consent: bool) -> tuple[int | None, int | None]:
    """(the token from which on facts are asked for or None, the token of the what/which/when or None)."""
    words = sentence.words
    wh = _interrogative(sentence)
    starts = [] if wh is None else [wh - (wh > 0 and words[wh - 1] in _PREPOSITIONS)]
    if consent:
        return (starts[0] if starts else None), wh
    for match in found:
        if match.label == "need" and (words[match.start] not in ("once", "when", "if") or "," not in words):
            starts.append(match.end)
        elif match.label == "have" and sentence.question:
            starts.append(match.end)
    starts += _requests(sentence)
    pairs = list(zip(words, words[1:], [*words[2:], ""]))
    if any(a in ("is", "are") and b in ("needed", "required") and c != "to" for a, b, c in pairs):
        starts.append(0)
    if "please" in words and len(words) <= 6 and not sentence.question:
        starts.append(0)
    return (min(starts) if starts else None), wh


def _interrogative(sentence: Sentence) -> int | None:
    """The token of the word that asks: of a question, or after "tell me"; None for a relative pronoun."""
    words = sentence.words
    for i, word in enumerate(words):
        if word not in cues.WH:
            continue
        before = words[i - 1] if i else ""
        after = words[i + 1] if i + 1 < len(words) else ""
        opening = i == 0 or before in _OPENING
        if word == "when" and opening and after and after not in _AUX and not (sentence.item and i <= 1):
            continue
        if word in ("which", "who") and (before == "," and after in _AUX and after not in ("of", "do", "would", "did")):
            continue
        if word == "what" and before in ("is", "for", "this") and not sentence.question:
            continue
        told = before in _TELL and bool(_TOLD.intersection(words[max(0, i - 4) : i]))
        if told and not (word == "when" and after in ("i", "we")):
            return i
        if sentence.question and (opening or before in _PREPOSITIONS or i <= 2 or i >= len(words) - 2):
            return i
        if sentence.item and i <= 1 or i <= 1 and word not in ("when", "who") and not (word == "which" and i):
            return i
    return None


def _requests(sentence: Sentence) -> list[int]:
    """Tokens after which facts follow: "could I take ...", "please tell me ...", "if you could share ..."."""
    words = sentence.words
    starts = []
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        if word in _MODALS and following in ("i", "we", "you"):
            verbs = cues.GIVE if following == "you" else cues.TAKE
            if verbs.difference(_PICKY - {"note", "check", "name"}).intersection(words[i + 2 : i + 6]):
                starts.append(i + 2)
        elif word in cues.GIVE and sentence.tokens[i].form in ("base", "either"):
            before = words[i - 1] if i else ""
            if word == "confirm" and following in ("you", "that", "whether", "if"):
                continue
            polite = before in ("please", "could") or before == "to" and bool(_KIND.intersection(words[:i]))
            if word in _PICKY and not polite and not {"me", "us", "know"}.intersection(words[i + 1 : i + 3]):
                continue
            asked = before in ("please", "you", "would", "could", "to") and _asks_you(words[:i])
            if before in _LEAD or i == 0 or all(w in _LEAD for w in words[:i]) or asked:
                starts.append(i + 1)
    return starts


def _asks_you(before: list[str]) -> bool:
    """Whether a verb after these words is something the customer is to do: "if you could", "may I ask you to"."""
    return before[-1] == "please" or "you" in before[-6:] and bool(_ASKED.intersection(before[-8:]))


def _facts(sentence: Sentence, scope: int, lexicon: Lexicon, item: bool) -> list[tuple[int, str]]:
    """(token, fact) of what is asked for from a token on."""
    part = sentence.tokens[scope:]
    ranked = [(m.start, m.end, m.label, m.weight + 0.5) for m in lexicon.questions.find(part)]
    ranked += [(m.start, m.end, m.label[0], m.weight + 0.25 * m.label[1]) for m in lexicon.nouns.find(part)]
    if not ranked:
        return []
    cut = _cut([token.word for token in part], min(start for start, *_ in ranked) + 1)
    new = bool(_BEFORE.intersection(sentence.words))
    ranked.sort(key=lambda r: (-r[3], r[2].startswith("new_") != new, r[0]))
    taken: list[tuple[int, int, str]] = []
    for start, end, fact, _ in ranked:
        if start >= cut:
            continue
        if not any(start < e and s < end for s, e, _ in taken) or _both(start, end, fact, taken):
            taken.append((start, end, fact))
    kept: list[tuple[int, str]] = []
    last = -1
    for start, end, fact in sorted(taken):
        between = [token.word for token in part[last:start]] if last >= 0 else []
        # "the email on the account"
        nested = bool(kept) and not _JOINS.intersection(between) and kept[-1][0] != scope + start
        # "order number W-204", "the email we sent"
        told = end < len(part) and (part[end].kind == "value" or _sent(part, end)) and not item
        if not nested and not told:
            kept.append((scope + start, fact))
        last = max(last, end)
    return kept


def _both(start: int, end: int, fact: str, taken: list[tuple[int, int, str]]) -> bool:
    """Whether "between which dates" and "the first and last day" ask for this, too."""
    return any((s, e) == (start, end) and {f, fact} == {"start_date", "end_date"} for s, e, f in taken)


def _sent(part: list[Token], at: int) -> bool:
    """Whether a relative clause begins that says that the customer got it: "the email we sent"."""
    return part[at].word in ("we", "i") and at + 1 < len(part) and part[at + 1].word in ("sent", "send")


def _cut(words: list[str], start: int) -> int:
    """Where after a fact begins what it is needed for: "so that I can ...", "to change ..."."""
    for i in range(start, len(words) - 1):
        if (
            words[i] in _PURPOSE
            and words[i + 1] in ("i", "we", "that", "it")
            or words[i] == "to"
            and words[i + 1] in _DOING
        ):
            return i
    return len(words)


def _choice(sentence: Sentence, lexicon: Lexicon) -> list[tuple[int, str]]:
    """The fact whose usual values are offered: "card or cash?"."""
    if "or" not in sentence.words:
        return []
    at = sentence.words.index("or")
    places: dict[str, set[int]] = {}
    for match in lexicon.choices.find(sentence.tokens):
        places.setdefault(match.label, set()).add(match.start)
    best = [fact for fact, starts in places.items() if min(starts) < at < max(starts)]
    return [(0, best[0])] if best else []


def _which(sentence: Sentence, wh: int, lexicon: Lexicon) -> bool:
    """Whether what/which at a token asks for one of several things."""
    words = sentence.words
    if words[wh] in ("which", "whose"):
        return True
    if words[wh] != "what":
        return False
    return (
        "prefer" in words
        or "option" in words[wh + 1 : wh + 4]
        or bool(lexicon.record_nouns.find(sentence.tokens[wh + 1 : wh + 3]))
    )


def _alternatives(words: list[str]) -> bool:
    """Whether a question offers two things: "the red or the blue one?"; not "yes or no"."""
    for before, word, after in zip(words, words[1:], words[2:]):
        if word == "or" and before not in ("yes", "y") and after not in ("not", "no", "anything", "something"):
            return True
    return False
