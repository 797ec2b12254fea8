"""The search world: corpora, BM25 as its formula says, oracles and those who do not look, a user's own corpus."""

import json
import math
from collections import Counter

import pytest

from envs import actors, base, search
from synth.corpora import facts

TASKS = {split: search.tasks(split) for split in ("train", "heldout")}


def play(task, *steps):
    return base.run(actors.play(search.make(task), actors.scripted(steps)))


def opening(*pages):
    return [{"call": "open", "args": {"id": page}, "say": ""} for page in pages]


def test_oracles_earn_one_and_those_who_do_not_look_do_not():
    for tasks in TASKS.values():
        most_frequent = Counter(task.answer for task in tasks).most_common(1)[0][0]
        for task in tasks[::2]:
            messages, score = base.run(actors.play(search.make(task), search.oracle(task)))
            assert score.reward == 1.0 and score.violations == [] and all(score.subgoals.values()), task.id
            assert play(task, {"say": "Done."})[1].reward == 0.0
            assert play(task, {"say": f"Answer: {most_frequent}"})[1].reward <= 0.5
            found = [m for m in messages if m["role"] == "tool"][::2]
            # The oracle could have found every page by what it had read so far.
            for page, result in zip(task.source["evidence"], found, strict=True):
                assert page in [hit["id"] for hit in json.loads(result["content"])], task.id
        assert {len(task.source["evidence"]) for task in tasks} == {2, 3, 4}


def test_reward_is_by_answer_and_by_evidence():
    task = next(t for t in TASKS["train"] if len(t.source["evidence"]) == 4)
    pages, right = task.source["evidence"], {"say": f"Answer: {task.answer}"}
    assert play(task, right)[1].reward == 0.5
    _, score = play(task, *opening(pages[0], pages[2]), right)
    assert score.reward == 0.75 and score.subgoals[f"open_{pages[2]}"] and not score.subgoals[f"open_{pages[1]}"]
    _, score = play(task, *opening(*pages), {"say": "Answer: Nobody"})
    assert (score.reward, score.node) == (0.0, "answer/read")
    assert play(task, *opening(*pages[:2]), {"say": "Answer: Nobody"})[1].node == "hop 3/open"
    messages, score = play(task, *opening("p99999"), right)
    assert json.loads(messages[3]["content"]) == {"error": "no page p99999"} and score.reward == 0.5
    whole = {"call": "search", "args": {"query": "register", "k": 3.0}, "say": ""}  # an integer to JSON Schema
    assert len(json.loads(play(task, whole)[0][3]["content"])) == 3
    wrong = {"call": "search", "args": {"query": "x", "k": 99}, "say": ""}
    assert play(task, wrong, right)[1].violations == ["invalid_call"]


def test_answers_follow_from_the_pages():
    """Each hop's fact stands on the register page that is its evidence, in a sentence that names both things."""
    for task in TASKS["heldout"]:
        found = facts.corpus(**task.source["corpus"])
        pages = {page["id"]: page for page in found.pages}
        things = [next(t for t, page in found.page.items() if page == p) for p in task.source["evidence"]]
        assert things[0] in task.prompt and task.answer not in task.prompt
        for page, thing, after in zip(task.source["evidence"], things, [*things[1:], task.answer], strict=True):
            sentences = pages[page]["text"].split(". ")
            assert "register" in pages[page]["title"] and any(thing in s and after in s for s in sentences)


def test_corpora_hold_contradictions_and_namesakes_and_splits_share_no_name():
    corpora = {split: facts.corpus(split, 0, 0) for split in ("train", "heldout")}
    for found in corpora.values():
        rumours = [page for page in found.pages if "rumour" in page["title"]]
        assert len(rumours) > 50 and len(found.pages) > len(found.kinds) + len(rumours) + 50
        contradicted = 0
        for page in rumours:
            name = page["title"].split()[0]
            said = page["text"].split(": ")[1].split(". ")[0]
            contradicted += said not in next(p["text"] for p in found.pages if p["id"] == found.page[name])
        assert contradicted == len(rumours)
    assert not set(corpora["train"].kinds) & set(corpora["heldout"].kinds)
    assert facts.corpus.__wrapped__("train", 0, 0) == corpora["train"] != facts.corpus("train", 1, 0)
    prompts = [task.prompt for tasks in TASKS.values() for task in tasks]
    assert len(set(prompts)) == len(prompts)


def test_ranking_is_bm25():
    """Against the formula (Robertson & Zaragoza 2009, with Lucene's idf), k1 1.5 and b 0.75."""
    texts = ["red fox", "red red hen and fox", "blue whale in the blue sea", "a sea of red"]
    index = search.Index.of([{"id": str(i), "title": "", "text": text} for i, text in enumerate(texts)])
    documents = [text.split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)

    def score(words, document):
        total = 0.0
        for word in words:
            holding, count = sum(word in d for d in documents), document.count(word)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            total += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
        return total

    for query in ("red fox", "blue sea", "RED, sea!", "hen"):
        words = query.lower().replace(",", "").replace("!", "").split()
        scores = [score(words, document) for document in documents]
        expected = [str(i) for i in sorted(range(4), key=lambda i: -scores[i]) if scores[i] > 0]
        assert [hit["id"] for hit in index.search(query, 10)] == expected
    assert index.search("unknown", 5) == [] and index.search("", 5) == []
    assert len(index.search("red", 2)) == 2


@pytest.mark.parametrize(
    "query, found",
    [
        ("\u9996\u90fd", ["a", "c"]),  # "capital" in Chinese, which puts no spaces
        ("\u5317\u4eac \u9996\u90fd", ["a", "c"]),
        ("\u6771\u4eac", ["c", "a"]),  # Tokyo and Beijing share a character
        ("caf\u00e9", ["b"]),  # composed; the page has an accent of its own
        ("CAFE\u0301", ["b"]),
        ("stra\u00dfe", ["b"]),
        ("\ufb01sh", ["b"]),  # a ligature
        ("\u0926\u093f\u0932\u094d\u0932\u0940", ["d"]),  # Delhi, with vowel signs
        ("\ud800", []),
    ],
)
def test_search_knows_other_scripts_and_ways_to_write(query, found):
    texts = {
        "a": "\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd\u3002",
        "b": "Cafe\u0301 Central, STRASSE 1: fish.",
        "c": "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd",
        "d": "\u0926\u093f\u0932\u094d\u0932\u0940 \u092d\u093e\u0930\u0924",
    }
    index = search.Index.of([{"id": name, "title": "", "text": text} for name, text in texts.items()])
    assert [hit["id"] for hit in index.search(query, 10)] == found


def test_a_users_own_corpus(tmp_path):
    corpus, questions = tmp_path / "pages.jsonl", tmp_path / "questions.jsonl"
    pages = [{"id": "a", "title": "Rome", "text": "Rome lies on the Tiber."}, {"id": "b", "title": "x", "text": ""}]
    corpus.write_text("\n \n".join(map(json.dumps, pages)), encoding="utf-8-sig")
    record = {"question": "Which river?", "answer": "Tiber", "evidence": ["a"]}
    questions.write_text(json.dumps(record) + "\n\n" + json.dumps({**record, "answer": 3}))
    task, other = search.read_questions(questions, corpus, "heldout")
    assert base.run(actors.play(search.make(task), search.oracle(task)))[1].reward == 1.0
    assert (other.answer, other.root) == ("3", "heldout-search-questions-00002")

    def without(key, value):
        return json.dumps({**record, key: value})

    ids = "line 1: expected evidence, a list of the ids of pages"
    for file, text, message in (
        (questions, '{"question": "x", "answer": "y"}', ids),
        (questions, without("evidence", [["a"]]), ids),
        (questions, without("evidence", []), ids),
        (questions, without("evidence", ["z"]), r"has no pages \['z'\]"),
        (questions, without("question", None), "line 1: expected question, a text that is not empty"),
        (questions, without("question", " "), "line 1: expected question, .* got ' '"),
        (questions, without("answer", True), "line 1: expected answer, .* got True"),
        (questions, "[]", "line 1: expected an object"),
        (questions, "\n", "the file has no questions"),
        (corpus, '{"id": "a", "title": "x"}', "line 1: expected a page"),
        (corpus, json.dumps({"id": "a", "title": "?", "text": ""}), "line 1: expected an id, and a word"),
        (corpus, json.dumps({**pages[0], "id": ""}), "line 1: expected an id, and a word"),
        (corpus, json.dumps(pages[0]) + "\n" + json.dumps(pages[0]), "line 2: the id 'a' occurs twice"),
        (corpus, "{", "line 1: not JSON"),
        (corpus, b'{"id": "a", "title": "caf\xe9", "text": ""}', "pages.jsonl, line 1: not JSON in UTF-8"),
        (corpus, "", "the file has no pages"),
    ):
        whole = file.read_bytes()
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=message):
            search.read_questions(questions, corpus, "heldout")
        file.write_bytes(whole)


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="unknown split 'test'"):
        search.tasks("test")
