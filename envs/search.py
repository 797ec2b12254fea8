"""The search world: questions about a corpus of pages with BM25 search; an answer takes facts from several pages.

A corpus is a list of pages {"id", "title", "text"}: a generated one (synth/corpora/facts.py) or a user's JSONL file.
`search` shows titles only, so a page must be opened to be read. The reward of a wrong answer is 0. That of a right
answer is 0.5 plus 0.5 times the share of the question's evidence pages that were opened, so a guess earns half.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

from envs import actors, asking, tools
from envs.base import Actor
from synth import jsonl
from synth.corpora import facts
from synth.question import Question

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs every index it makes

MOST_RESULTS = 10
# Characters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")

TOOLS = [
    tools.schema(
        "search",
        "Find pages. Returns ids and titles, best first.",
        {"query": {"type": "string"}, "k": {"type": "integer", "minimum": 1, "maximum": MOST_RESULTS}},
    ),
    tools.schema("open", "Read a page.", {"id": {"type": "string"}}),
]


@dataclasses.dataclass(frozen=True)
class Index:
    """A corpus with its BM25 index over title and text (no stop words, no stemming). pages: id -> page, in order."""

    pages: dict[str, dict[str, str]]
    ranking: bm25s.BM25

    @classmethod
    def of(cls, pages: Sequence[dict[str, str]]) -> Index:
        """Indexes pages."""
        ranking = bm25s.BM25()
        ranking.index([_words(f"{page['title']} {page['text']}") for page in pages], show_progress=False)
        return cls({page["id"]: page for page in pages}, ranking)

    def search(self, query: str, k: int) -> list[dict[str, str]]:
        """The {"id", "title"} of the k best pages that share a word with the query; ties keep the corpus's order."""
        known = [word for word in _words(query) if word in self.ranking.vocab_dict]
        if not known:
            return []
        scores = self.ranking.get_scores(known)
        order = np.argsort(-scores, kind="stable")[:k]
        pages = list(self.pages.values())
        return [{"id": pages[i]["id"], "title": pages[i]["title"]} for i in order if scores[i] > 0]


def _words(text: str) -> list[str]:
    """Splits text into words, folding case and composition (NFKC). In _UNSPACED scripts each character is a word."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = _UNSPACED.sub(r" \g<0> ", folded)
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in spaced).split()


@functools.lru_cache(maxsize=8)
def _index(corpus: str) -> Index:
    """The index of a question's corpus, which is given as JSON: a file's path, or the arguments of facts.corpus."""
    source = json.loads(corpus)
    return Index.of(read_corpus(source) if isinstance(source, str) else facts.corpus(**source).pages)


def read_corpus(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads the pages of a JSONL file.

    Raises ValueError, naming the line, if a page lacks id, title or text, has no word, or repeats an id, and if the
    file has no pages.
    """
    pages: dict[str, dict[str, str]] = {}
    for number, record in jsonl.records(path):
        if not all(isinstance(record.get(key), str) for key in ("id", "title", "text")):
            raise ValueError(f"{path}, line {number}: expected a page with the texts id, title and text")
        if not (record["id"].strip() and _words(f"{record['title']} {record['text']}")):
            raise ValueError(f"{path}, line {number}: expected an id, and a word in title or text to find the page by")
        if record["id"] in pages:
            raise ValueError(f"{path}, line {number}: the id {record['id']!r} occurs twice")
        pages[record["id"]] = {key: record[key] for key in ("id", "title", "text")}
    if not pages:
        raise ValueError(f"{path}: the file has no pages")
    return list(pages.values())


def read_questions(path: str | os.PathLike, corpus: str | os.PathLike, split: str) -> list[Question]:
    """Reads questions about a user's corpus: JSONL of question, answer and evidence (ids of pages to be opened).

    Raises ValueError, naming the line, if a record is malformed or its evidence is not in the corpus, and if the file
    has no questions.
    """
    return [question for _, question in located_questions(path, corpus, split)]


def located_questions(path: str | os.PathLike, corpus: str | os.PathLike, split: str) -> list[tuple[str, Question]]:
    """As `read_questions`, each question with its place, "<file>, line <number>"."""
    known, found = {page["id"] for page in read_corpus(corpus)}, []
    for number, record in jsonl.records(path):
        evidence = record.get("evidence")
        if not (isinstance(evidence, list) and evidence and all(isinstance(page, str) for page in evidence)):
            raise ValueError(f"{path}, line {number}: expected evidence, a list of the ids of pages")
        prompt, answer = (jsonl.text(record, key, f"{path}, line {number}") for key in ("question", "answer"))
        if unknown := [page for page in evidence if page not in known]:
            raise ValueError(f"{path}, line {number}: the corpus {corpus} has no pages {unknown}")
        root = f"{split}-search-{Path(path).stem}-{number - 1:05d}"
        source = {"corpus": os.fspath(corpus), "evidence": evidence}
        question = Question(f"{root}@r0/0", root, "", "", 0, 0, "search", prompt, answer, source)
        found.append((f"{path}, line {number}", question))
    if not found:
        raise ValueError(f"{path}: the file has no questions")
    return found


class Search(asking.Asking):
    """One episode of one question; implements envs.base.Env."""

    tools = TOOLS
    system = (
        "Answer the question from the pages you find; search shows titles only, open shows a page. "
        "Where pages contradict each other, the register is right."
    )

    def __init__(self, question: Question):
        super().__init__(question)
        self._index = _index(json.dumps(question.source["corpus"], sort_keys=True))
        self.opened: set[str] = set()

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Searches, or opens a page."""
        if name == "search":
            return True, json.dumps(self._index.search(arguments["query"], int(arguments["k"])), ensure_ascii=False)
        page = self._index.pages.get(arguments["id"])
        if page is None:
            return False, json.dumps({"error": f"no page {arguments['id']}"})
        self.opened.add(page["id"])
        return True, json.dumps(page, ensure_ascii=False)

    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """(reward, whether each page of the evidence was opened); see the module's docstring."""
        evidence = self.question.source["evidence"]
        met = {f"open_{page}": page in self.opened for page in evidence}
        return (0.5 + 0.5 * sum(met.values()) / len(met) if right else 0.0), met

    def node(self, answer: str | None) -> str | None:
        """ "hop <n>/open" for the first page of the evidence that was not opened, "answer/read" if all were opened."""
        del answer
        evidence = self.question.source["evidence"]
        missed = next((i for i, page in enumerate(evidence) if page not in self.opened), None)
        return "answer/read" if missed is None else f"hop {missed + 1}/open"


def make(question: Question) -> Search:
    """A new episode of a question."""
    return Search(question)


def oracle(question: Question) -> Actor:
    """A scripted actor that earns reward 1.0: finds and opens the evidence's pages in order, then answers."""
    index, steps = _index(json.dumps(question.source["corpus"], sort_keys=True)), []
    for page in question.source["evidence"]:
        steps.append({"call": "search", "args": {"query": index.pages[page]["title"], "k": 3}, "say": ""})
        steps.append({"call": "open", "args": {"id": page}, "say": ""})
    return actors.scripted([*steps, {"say": f"Answer: {question.answer}"}])


def tasks(split: str, rounds: int = 3, roots: int = 24, seed: int = 0) -> list[Question]:
    """Makes questions of a split ("train" | "heldout") about generated corpora.

    roots: number of roots in each of `rounds` rounds. Raises ValueError for an unknown split.
    """
    return [q for number in range(rounds) for q in facts.questions(split, roots, 2, number, seed)]
