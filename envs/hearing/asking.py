"""Which facts a message asks for, and whether it asks which of several things is meant."""

from __future__ import annotations

from envs.hearing import cues
from envs.hearing.lexicon import Lexicon
from envs.hearing.patterns import Match
from envs.hearing.tokens import Sentence

_TELL = frozenset(
    "tell know me us confirm whether and or ask say advise specify state need see check on in at for to with from "
    "under into of by up".split()
)
_AUX = frozenset(
    "is are was were do does did would will shall should can could may might exactly suits works have has best suit "
    "and , or of to you made makes brings".split()
)
_PURPOSE = frozenset("so because since before as".split())
_NESTING = frozenset("for of on from under in with behind linked about regarding at to".split())


def facts_asked(
    sentences: list[Sentence], lexicon: Lexicon, found: list[list[Match]], taken: set[int]
) -> tuple[list[str], bool, list[bool]]:
    """(facts in order, whether it is asked which is meant, which sentences ask for anything).

    taken: sentences that ask for consent, in which only what/which/when count.
    """
    facts: list[str] = []
    asking = [False] * len(sentences)
    which = False
    listing = False  # a list of what is needed has begun
    for index, sentence in enumerate(sentences):
        words = sentence.words
        scope, wh = _scope(sentence, found[index], index in taken)
        if listing and sentence.item and scope is None:
            scope = 0
        if not sentence.item and listing and not sentence.colon:
            listing = False
        here: list[tuple[int, str]] = []
        if scope is not None:
            here = _facts(sentence, scope, lexicon, wh, sentence.item and listing)
            if sentence.colon or (index + 1 < len(sentences) and sentences[index + 1].item):
                listing = True
        if not here and sentence.question and index not in taken:
            here = _choice(sentence, lexicon)
        if not here and sentence.question and index not in taken and _fragment(words):
            here = _facts(sentence, 0, lexicon, False, False)
        if here:
            asking[index] = True
            facts += [fact for _, fact in sorted(here)]
        elif scope is not None and (wh is not None or sentence.question):
            if _which(sentence, wh, lexicon):
                which = asking[index] = True
        if index not in taken and not here and (sentence.question and _alternatives(words)):
            which = asking[index] = True
    return list(dict.fromkeys(facts)), which, asking


def _scope(sentence: Sentence, found: list[Match], consent: bool) -> tuple[int | None, int | None]:
    """(the token from which on facts are asked for or None, the token of the what/which/when or None)."""
    words = sentence.words
    wh = _interrogative(sentence)
    if wh is not None:
        return wh, wh
    if consent:
        return None, None
    starts = []
    for match in found:
        if match.label == "need" and (words[match.start] not in ("once", "when", "if") or "," not in words):
            starts.append(match.start if words[match.start] in ("needed", "required") else match.end)
        elif match.label == "have" and sentence.question:
            starts.append(match.end)
    starts += _requests(sentence)
    if any(
        words[i : i + 2] in (["is", "needed"], ["are", "needed"], ["is", "required"], ["are", "required"])
        for i in range(len(words))
    ):
        starts.append(0)
    if "please" in words and len(words) <= 6 and not sentence.question:
        starts.append(0)
    return (min(starts), None) if starts else (None, None)


def _interrogative(sentence: Sentence) -> int | None:
    """The token of the word that asks: of a question, or after "tell me"; none for a relative pronoun."""
    words = sentence.words
    for i, word in enumerate(words):
        if word not in cues.WH:
            continue
        before = words[i - 1] if i else ""
        opening = i == 0 or before in (
            ",",
            "-",
            ":",
            "–",
            "—",
            ".",
            "!",
            "and",
            "but",
            "so",
            "or",
            "ok",
            "just",
            "then",
            "please",
            "right",
        )
        after = words[i + 1] if i + 1 < len(words) else ""
        if word == "when" and opening and after not in _AUX and not (sentence.item and i <= 1) and after:
            continue
        if word == "which" and before == ",":
            if after in (
                "is",
                "are",
                "was",
                "appears",
                "will",
                "can",
                "has",
                "may",
                "should",
                "would",
            ):
                continue
        told = before in _TELL or {"tell", "know", "specify", "advise", "confirm", "say", "ask", "state"} & set(
            words[max(0, i - 3) : i]
        )
        if sentence.question and (opening or before in _TELL or i <= 2 or i >= len(words) - 2):
            return i
        if told or (sentence.item and i <= 1):
            if word in ("who", "which", "what") or told or sentence.item:
                if word == "when" and after == "i":
                    continue
                return i
        if opening and (sentence.question or i <= 1 and word != "when" and word != "who"):
            if word == "which" and i > 0 and not sentence.question:
                continue
            return i
    return None


def _requests(sentence: Sentence) -> list[int]:
    """Tokens after which facts follow: "could I take ...", "please tell me ...", "... confirm ..."."""
    words = sentence.words
    starts = []
    for i, word in enumerate(words):
        if (
            word
            in (
                "can",
                "could",
                "may",
                "might",
                "would",
                "will",
            )
            and i + 2 < len(words) + 1
        ):
            person = words[i + 1] if i + 1 < len(words) else ""
            verbs = cues.TAKE if person in ("i", "we") else cues.GIVE if person == "you" else frozenset()
            if person and verbs.intersection(words[i + 2 : i + 6]):
                starts.append(i + 2)
        elif (
            word in cues.GIVE
            and i <= 5
            and (word != "let" or "know" in words[i + 1 : i + 4])
            and sentence.tokens[i].form in ("base", "either")
        ):
            lead = [
                w
                for w in words[:i]
                if w
                not in (
                    "please",
                    "just",
                    "and",
                    "then",
                    "so",
                    ",",
                    "ok",
                    "great",
                    "also",
                    "thanks",
                    "!",
                    "first",
                    "now",
                )
            ]
            if not lead or words[i - 1] == "please" or words[i - 1] == "you" and "if" in words[:i]:
                starts.append(i + 1)
        elif word == "please" and i + 1 < len(words) and words[i + 1] in cues.GIVE:
            starts.append(i + 2)
    return starts


def _facts(sentence: Sentence, scope: int, lexicon: Lexicon, wh: int | None, item: bool) -> list[tuple[int, str]]:
    """(token, fact) of what is asked for from a token on."""
    tokens, words = sentence.tokens, sentence.words
    part = tokens[scope:]
    questions = lexicon.questions.find(part)
    nouns = lexicon.nouns.find(part)
    ranked = [(m.start, m.end, m.label, m.weight + 0.5, False) for m in questions]
    ranked += [(m.start, m.end, m.label[0], m.weight + 0.25 * m.label[1], True) for m in nouns]
    if not ranked:
        return []
    cut = len(part)
    first = min(start for start, *_ in ranked)
    for i in range(first + 1, len(part)):
        word = part[i].word
        if (
            word in _PURPOSE
            and i + 1 < len(part)
            and part[i + 1].word
            in (
                "i",
                "we",
                "that",
                "it",
            )
        ):
            cut = i
            break
        if word == "to" and i + 1 < len(part) and part[i + 1].word in _DOING:
            cut = i
            break
    new = {"new", "instead", "prefer", "move", "moving", "changed", "rather", "better"} & set(words)
    ranked.sort(key=lambda r: (-r[3], r[4], _rank(r[2], bool(new)), r[0]))
    taken: list[tuple[int, int, str]] = []
    for start, end, fact, _, _noun in ranked:
        if start >= cut or any(start < e and s < end for s, e, _ in taken):
            continue
        taken.append((start, end, fact))
    taken.sort()
    kept: list[tuple[int, str]] = []
    last_end = -1
    for start, end, fact in taken:
        between = [token.word for token in part[last_end:start]] if last_end >= 0 else []
        nested = (
            bool(kept)
            and bool(between)
            and any(w in _NESTING for w in between)
            and not {"and", ",", "or", "plus", "&", "/"} & set(between)
        )
        valued = end < len(part) and part[end].kind in ("value",) and not item
        if nested or valued:
            last_end = max(last_end, end)
            continue
        kept.append((scope + start, fact))
        last_end = end
    return kept


_DOING = frozenset(
    "cancel change update send find look process refund move book verify complete proceed check avoid help make".split()
)


def _rank(fact: str, new: bool) -> int:
    """Which of two facts with the same words is meant: "new_address" where something is to be changed."""
    if fact.startswith("new_"):
        return 0 if new else 1
    return 0 if not new else 1


def _fragment(words: list[str]) -> bool:
    """Whether a question is no sentence: "Your postcode?", "Serial?"."""
    return len(words) <= 8 and not {"is", "are", "do", "did", "does", "was", "were", "would", "will", "has", "i"} & set(
        words
    )


def _choice(sentence: Sentence, lexicon: Lexicon) -> list[tuple[int, str]]:
    """The fact whose usual values are offered: "card or cash?"."""
    if "or" not in sentence.words:
        return []
    counts: dict[str, set[int]] = {}
    at = sentence.words.index("or")
    for match in lexicon.choices.find(sentence.tokens):
        counts.setdefault(match.label, set()).add(match.start)
    best = [fact for fact, places in counts.items() if min(places) < at < max(places)]
    return [(0, best[0])] if best else []


def _which(sentence: Sentence, wh: int | None, lexicon: Lexicon) -> bool:
    words = sentence.words
    if wh is None:
        return False
    if words[wh] in ("which", "whose"):
        return True
    after = words[wh + 1 : wh + 4]
    if words[wh] == "what" and lexicon.record_nouns.find(sentence.tokens[wh + 1 : wh + 3]):
        return True
    return words[wh] == "what" and "prefer" in words or "option" in after


def _alternatives(words: list[str]) -> bool:
    """Whether a question offers two things: "the red or the blue one?"; not "yes or no"."""
    for i, word in enumerate(words):
        if word == "or" and 0 < i < len(words) - 1:
            if (
                words[i - 1] in ("yes", "one")
                and words[i + 1] in ("no", "two")
                or words[i + 1]
                in (
                    "not",
                    "no",
                    "anything",
                    "something",
                )
            ):
                continue
            return True
    return False
