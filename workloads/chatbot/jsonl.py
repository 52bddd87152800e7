"""The format `jsonl`: a question with its answer, or a whole dialogue, on each line.

    {"question": "…", "answer": "…"}                       also "intent"; "conversation_id" joins lines
    {"messages": [{"role": "user", "content": "…"}, …]}    or the list alone; a message may have an "intent"

Of a folder, `train.jsonl` and `test.jsonl` hold the split; other files, or one alone, are split by a hash.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.errors import DataError
from penstock.workload import Scan
from workloads.chatbot.config import Data
from workloads.chatbot.data import (
    MOST_TURNS,
    Bad,
    Exchange,
    Exchanges,
    Split,
    Turn,
    files_in,
    replies_of,
    scan_of,
    utf8,
)

ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "bot": "assistant"}


class Jsonl(Exchanges):
    """The format `jsonl`."""

    def scan(self, path: str, config: Data) -> Scan:
        files = files_in(path, (".jsonl",), "jsonl")
        marked = {file.stem: file for file in files if file.stem in ("train", "test")}
        if len(marked) == 2:
            files = list(marked.values())
        elif "test" in marked and len(files) > 1:
            raise DataError("there is a test.jsonl but no train.jsonl; name what trains so")
        splits: dict[Path, Split] = dict.fromkeys(files, "")
        if len(marked) == 2:
            splits = {marked["train"]: "train", marked["test"]: "test"}
        found = [one for file in files for one in exchanges(file, splits[file])]
        return scan_of(found, Path(path), files)


def exchanges(file: Path, split: Split) -> Iterator[Exchange | Bad]:
    """Every exchange of a file, or why a line holds none."""
    histories: dict[str, list[Turn]] = defaultdict(list)
    for number, raw in enumerate(file.read_bytes().split(b"\n"), 1):
        if not raw.strip():
            continue
        name = f"{file.name}:{number}"
        try:
            yield from line(name, json.loads(utf8(raw)), split, histories)
        except RecursionError:
            yield Bad(name, "nested too deeply")
        except json.JSONDecodeError as error:
            yield Bad(name, f"not JSON: {error.msg} at character {error.pos + 1}")
        except ValueError as error:
            yield Bad(name, str(error))


def line(name: str, value: Any, split: Split, histories: dict[str, list[Turn]]) -> Iterator[Exchange | Bad]:
    if isinstance(value, list):
        value = {"messages": value}
    if not isinstance(value, dict):
        raise ValueError('neither {"question", "answer"} nor {"messages": […]}')
    if "messages" in value:
        yield from dialogue(name, value, split)
        return
    question, answer = word(value, "question"), word(value, "answer")
    intent = word(value, "intent") if value.get("intent") is not None else ""
    group = str(value.get("conversation_id", ""))
    history = histories[group] if group else []
    messages = [*history[-MOST_TURNS + 1 :], Turn("user", question)]
    history += [Turn("user", question), Turn("assistant", answer)]
    yield Exchange(name, messages, answer, group or question, split, intent)


def dialogue(name: str, value: dict[str, Any], split: Split) -> Iterator[Exchange | Bad]:
    messages = value["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ValueError('"messages" must be a list of {"role", "content"}')
    turns = []
    for message in messages:
        role = word(message, "role")
        if role not in ROLES:
            raise ValueError(f"role {role[:40]!r}; known: {', '.join(ROLES)}")
        turns.append(Turn(ROLES[role], word(message, "content")))
    given = [message.get("intent") for message in messages]
    intents = {place: intent for place, intent in enumerate(given) if isinstance(intent, str)}
    first = next((turn.text for turn in turns if turn.role != "system"), name)
    group = str(value.get("conversation_id") or first)
    yield from replies_of(name, turns, group, split, intents)


def word(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise ValueError(f"{key!r} is {'missing' if key not in value else 'no text'}")
    return text
