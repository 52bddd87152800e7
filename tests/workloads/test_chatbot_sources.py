"""The chatbot's sources: what they read from each format, what they clean, what they refuse and say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config import build
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError, DataError
from penstock.store import Store
from penstock.workload import Scan
from workloads.chatbot import workload
from workloads.chatbot.config import Config, Data
from workloads.chatbot.data import Turn, clean
from workloads.chatbot.jsonl import Jsonl
from workloads.chatbot.retrieval import Retrieval, keep
from workloads.chatbot.synthetic import Synthetic
from workloads.chatbot.text import PlainText
from workloads.chatbot.yaml_corpus import Yaml


def jsonl(file: Path, *lines: Any) -> Path:
    """A file of JSON lines; bytes and text are written as they are."""
    raw = [
        line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\n".join(raw) + b"\n")
    return file


def pair(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **more}


def pairs(count: int) -> list[dict[str, Any]]:
    return [pair(f"question {number}", f"answer {number}") for number in range(count)]


def said(scan: Scan) -> list[tuple[list[str], str]]:
    """(texts before, reply) of each item."""
    return [([text for _, text in item.where["messages"]], item.where["reply"]) for item in scan.items]


# ---------------------------------------------------------------- settings and texts


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["data.vocabulary=256"], "data.vocabulary = 256: 257 to 65536 are possible"),
        (["data.longest=0"], "data.longest = 0: 1 to 8000 bytes are possible"),
        (
            ["model.width=100"],
            "model.width = 100, model.heads = 4: a multiple of 16 and of two heads is needed",
        ),
        (["model.layers=0"], "model.layers = 0: 1 to 48 are possible"),
        (["model.context=8"], "model.context = 8: 16 to 8192 tokens are possible"),
        (["model.dropout=1.0"], "model.dropout = 1.0: 0 up to 1 (without 1) is possible"),
        (["model.kind=gru"], "model.kind = 'gru': input should be 'transformer' or 'lstm'"),
    ],
)
def test_a_setting_that_cannot_be_is_named(words: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        build(Config, None, None, words)


def test_texts_are_nfc_without_control_characters() -> None:
    assert clean("  Cafe\u0301\x00 \x1bau\r\nlait\t! \ufeff") == "Caf\u00e9 au\nlait !"
    assert clean("\x07\r\n") == ""
    assert clean("\u200dabc") == "\u200dabc"  # joins letters in some scripts, and emoji


@settings(deadline=None)  # a busy machine
@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


# ---------------------------------------------------------------- jsonl


def test_lines_of_one_conversation_hold_its_beginning(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "chat.jsonl",
        pair("Tea?", "Yes.", conversation_id="a"),
        pair("Hello", "Hi!", conversation_id="b"),
        pair("With milk?", "No.", conversation_id="a"),
        pair("Alone", "So am I."),
    )
    scan = Jsonl().scan(str(file), Data())
    assert said(scan) == [
        (["Tea?"], "Yes."),
        (["Hello"], "Hi!"),
        (["Tea?", "Yes.", "With milk?"], "No."),
        (["Alone"], "So am I."),
    ]
    assert [item.group for item in scan.items] == ["a", "b", "a", "Alone"]
    assert [item.unit for item in scan.items] == ["a", "b", "a", "Alone"]


def test_a_dialogue_gives_one_item_a_reply(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tea?", "intent": "ask"},
        {"role": "assistant", "content": "Yes."},
        {"role": "human", "content": "Thanks", "intent": "thank"},
        {"role": "bot", "content": "Bye."},
    ]
    file = jsonl(tmp_path / "chat.jsonl", {"messages": turns}, turns[1:3])
    scan = Jsonl().scan(str(file), Data())
    assert said(scan) == [
        (["Be brief.", "Tea?"], "Yes."),
        (["Be brief.", "Tea?", "Yes.", "Thanks"], "Bye."),
        (["Tea?"], "Yes."),
    ]
    assert [item.name for item in scan.items] == ["chat.jsonl:1.2", "chat.jsonl:1.4", "chat.jsonl:2"]
    assert scan.schema.labels == ("ask", "thank") and not scan.exclusive
    assert [item.where["intent"] for item in scan.items] == ["ask", "thank", "ask"]


def test_train_and_test_files_are_the_split(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", *pairs(3))
    jsonl(tmp_path / "test.jsonl", pair("question 0", "answer 0"))
    scan = Jsonl().scan(str(tmp_path), Data())
    assert Counter(item.split for item in scan.items) == {"train": 3, "test": 1}
    assert {item.split for item in Jsonl().scan(str(tmp_path / "train.jsonl"), Data()).items} == {""}


def test_exact_duplicates_stand_once_and_are_counted(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "chat.jsonl", pair("Café?", "Yes."), pair("Cafe\u0301? ", "Yes.\x00"), pair("Café?", "No.")
    )
    scan = Jsonl().scan(str(file), Data())
    assert len(scan.items) == 2 and scan.schema.fields == {"duplicates": 1}
    assert [item.where["accepted"] for item in scan.items] == [["Yes.", "No."]] * 2, "both are right"


def test_a_dialogue_is_never_parted(tmp_path: Path, store: Store) -> None:
    lines = [pair(f"q{n}.{turn}", f"a{turn}", conversation_id=str(n)) for n in range(60) for turn in range(3)]
    source = f"jsonl:{jsonl(tmp_path / 'chat.jsonl', *lines)}"
    dataset = prepare(workload, source, Data(vocabulary=300), store, mapper=in_process)
    sides = {
        split: {row["messages"].partition("q")[2].partition(".")[0] for row in rows.rows(range(len(rows)))}
        for split, rows in (
            ("train", dataset.train),
            ("validation", dataset.validation),
            ("test", dataset.test),
        )
    }
    assert sum(map(len, sides.values())) == 60 and all(sides.values())


# ---------------------------------------------------------------- yaml, text


CORPUS = """categories:
- small talk
conversations:
- - Do you sleep?
  - No
- - Do you sleep?
  - Never.
- - How old are you?
  - 1.50
  - And in months?
  - 'Eighteen'
"""


def test_a_corpus_is_read_as_texts_whatever_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "talk.yml").write_text(CORPUS)
    scan = Yaml().scan(str(tmp_path), Data())
    assert said(scan) == [
        (["Do you sleep?"], "No"),
        (["Do you sleep?"], "Never."),
        (["How old are you?"], "1.50"),
        (["How old are you?", "1.50", "And in months?"], "Eighteen"),
    ]
    assert scan.items[0].where["accepted"] == ["No", "Never."]
    assert scan.items[0].group == scan.items[1].group == "Do you sleep?"


def test_plain_text_is_lines_in_turn(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("Hello\nHi!\n\nQ: Tea?\nA: Yes.\nQ: Now?\nA: No.\n")
    scan = PlainText().scan(str(tmp_path / "talk.txt"), Data())
    assert said(scan) == [(["Hello"], "Hi!"), (["Tea?"], "Yes."), (["Tea?", "Yes.", "Now?"], "No.")]
    assert [item.name for item in scan.items] == ["talk.txt:1", "talk.txt:4.1", "talk.txt:4.3"]


# ---------------------------------------------------------------- what cannot be used

LONG = "x" * 2001
BAD_LINES = [
    (b"\xff{}", "invalid UTF-8 at byte 1"),
    (b'{"question": "a"', "not JSON: "),
    (pair("Tea?", " \x00 "), "the reply is empty"),
    (pair("", "Yes."), "the message is empty"),
    (pair(LONG, "Yes."), "a text of 2001 bytes; data.longest allows 2000"),
    (pair("Tea?", LONG), "a text of 2001 bytes; data.longest allows 2000"),
    ({"question": "Tea?"}, "'answer' is missing"),
    ({"question": "Tea?", "answer": 7}, "'answer' is no text"),
    ("Tea?", 'neither {"question", "answer"} nor {"messages": […]}'),
    ({"messages": "Tea?"}, '"messages" must be a list of {"role", "content"}'),
    ({"messages": [{"role": "robot", "content": "Tea?"}]}, "role 'robot'; known: "),
    ({"messages": [{"role": "user", "content": "Tea?"}]}, "no reply follows"),
    ({"messages": [{"role": "system", "content": "Be kind."}]}, "no reply follows"),
    (b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("line", "why"), BAD_LINES)
def test_a_bad_line_is_named_or_skipped(line: Any, why: str, tmp_path: Path, store: Store) -> None:
    source = f"jsonl:{jsonl(tmp_path / 'chat.jsonl', *pairs(8), line)}"
    with pytest.raises(DataError, match=re.escape(f"chat.jsonl:9: {why}")) as caught:
        prepare(workload, source, Data(vocabulary=300), store, mapper=in_process)
    assert "\n" not in str(caught.value) and "--skip-bad 1" in str(caught.value)
    dataset = prepare(workload, source, Data(vocabulary=300), store, skip_bad=1, mapper=in_process)
    assert [fault["item"] for fault in dataset.card["skipped"]] == ["chat.jsonl:9"]
    assert sum(dataset.counts.values()) == 8


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        (b"conversations:\n- just a text\n", "bad.yml:0", "a bare string, not a list of texts"),
        (b"conversations:\n- - - a\n  - b\n", "bad.yml:0", "a text is missing, or is a list itself"),
        (b"conversations:\n- - only a question\n", "bad.yml:0", "no reply follows"),
        (b"conversations:\n- - a\n  - ''\n", "bad.yml:0", "the reply is empty"),
        (b"conversations:\n- - caf\xe9\n  - b\n", "bad.yml", "not YAML: invalid UTF-8 at byte 23"),
        (b"conversations: [", "bad.yml", "not YAML: "),
        (b"other: []", "bad.yml", "no list `conversations`"),
        (b"a: &a [x]\nconversations: [*a, *a]", "bad.yml", "not YAML: aliases (*name) are not read"),
        (
            b"!!python/object/apply:os.system ['true']",
            "bad.yml",
            "not YAML: could not determine a constructor",
        ),
        (b"[" * 5000, "bad.yml", "nested too deeply"),
    ],
)
def test_a_bad_entry_of_a_corpus_is_named_or_skipped(
    text: bytes, name: str, why: str, tmp_path: Path, store: Store
) -> None:
    good = "conversations:\n" + "".join(f"- - q{n}\n  - a{n}\n" for n in range(8))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "good.yml").write_text(good)
    (tmp_path / "raw" / "bad.yml").write_bytes(text)
    source = f"yaml:{tmp_path / 'raw'}"
    with pytest.raises(DataError, match=re.escape(f"{name}: {why}")) as caught:
        prepare(workload, source, Data(vocabulary=300), store, mapper=in_process)
    assert "\n" not in str(caught.value)
    dataset = prepare(workload, source, Data(vocabulary=300), store, skip_bad=1, mapper=in_process)
    assert [fault["item"] for fault in dataset.card["skipped"]] == [name]


def test_bad_plain_text_is_named_by_its_line(tmp_path: Path, store: Store) -> None:
    lines = b"".join(b"q%d\na%d\n\n" % (n, n) for n in range(8))
    (tmp_path / "talk.txt").write_bytes(lines + b"Hello\n\xff\n\nalone\n")
    with pytest.raises(
        DataError, match=re.escape("talk.txt:25: line 26: invalid UTF-8 at byte 1 (2 bad of 10")
    ):
        prepare(workload, f"text:{tmp_path}", Data(vocabulary=300), store, mapper=in_process)


def test_a_folder_without_files_of_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("holds no .jsonl files; jsonl:PATH is one, or a folder")):
        Jsonl().scan(str(tmp_path), Data())


# ---------------------------------------------------------------- generated dialogues, the baseline


def test_held_out_combinations_are_nowhere_in_training_and_retrieval_fails_on_them() -> None:
    scan = Synthetic().scan("", Data())
    train, test = ([item for item in scan.items if item.split == split] for split in ("train", "test"))
    assert len(train) > 1500 and len(test) > 400 and len(scan.schema.labels) == 8
    exact = Retrieval(
        keep([([Turn(*turn) for turn in item.where["messages"]], item.where["reply"]) for item in train])
    )
    right = [exact.reply(item.where["messages"][-1][1]) in item.where["accepted"] for item in test]
    assert sum(right) / len(right) < 0.3
    loose = {"greeting", "farewell", "recall"}
    answers = {item.where["reply"] for item in train}
    assert not [item for item in test if item.where["intent"] not in loose and item.where["reply"] in answers]
    words = {word for item in train for word in re.findall(r"\w+", item.where["reply"])}
    assert {word for item in test for word in re.findall(r"\w+", item.where["reply"])} <= words


def test_retrieval_finds_the_question_with_the_rarest_words_in_common() -> None:
    known = [("what is tea", "a drink"), ("what is zinc", "a metal"), ("is it tea time", "at five")]
    found = Retrieval(keep([([Turn("user", question)], reply) for question, reply in known]))
    assert found.reply("Zinc?") == "a metal"
    assert found.reply("tea time") == "at five"
    assert found.reply("nothing known") == "a drink", "the first of equals"
    assert Retrieval(keep([])).reply("tea") == ""


def test_the_baseline_keeps_no_more_than_it_may() -> None:
    many = [([Turn("user", "x" * 1000)], "y" * 1000)] * 30_000
    assert len(keep(many)) < 2**23


# ---------------------------------------------------------------- real conversations


@pytest.mark.real_data
def test_chatterbot_s_corpus_holds_one_bare_string(real_data: Path, store: Store) -> None:
    source = f"yaml:{real_data / 'chatbot' / 'chatterbot-english'}"
    with pytest.raises(
        DataError, match=re.escape("trivia.yml:13: a bare string, not a list of texts (1 bad of")
    ):
        prepare(workload, source, Data(), store, mapper=in_process)
    dataset = prepare(workload, source, Data(), store, skip_bad=1, mapper=in_process)
    assert sum(dataset.counts.values()) > 900 and dataset.counts["test"] > 150
    assert dataset.card["licence"].startswith("Copyright (c) 2017, Gunther Cox")


@pytest.mark.real_data
def test_taskmaster_is_read_as_its_files_say(real_data: Path) -> None:
    scan = Jsonl().scan(str(real_data / "chatbot" / "taskmaster4-qa"), Data())
    assert Counter(item.split for item in scan.items)["test"] == 408
    assert sum(item.split == "train" for item in scan.items) + scan.schema.fields["duplicates"] == 3312
    assert len({item.unit for item in scan.items if item.split == "test"}) == 210
