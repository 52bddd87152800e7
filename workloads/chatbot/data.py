"""Conversations from any format: cleaned, cut into replies with what came before, without duplicates.

A raw row holds `messages` (JSON: [[role, text], …], the last one the user's), `reply`, `accepted` (JSON: all
right replies) and `labels` (the intent, none where it is unknown).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.chatbot.config import Data

Split: TypeAlias = Literal["train", "test", ""]
FILE_BYTES = 64 * 2**20  # of one file; a source is read whole
MOST_TURNS = 64  # of the messages before a reply
UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]+")


class Turn(NamedTuple):
    """One message: who says what. `role`: system, user or assistant."""

    role: str
    text: str


class Exchange(NamedTuple):
    """A reply with the messages before it, as a source found it. `group`: what belongs to one side of a
    split (a dialogue, a question); `split`: the source's own."""

    name: str
    messages: Sequence[Turn]
    reply: str
    group: str
    split: Split = ""
    intent: str = ""
    accepted: tuple[str, ...] = ()  # the right replies, where the source knows them


class Bad(NamedTuple):
    """A place in a source that holds no exchange: why."""

    name: str
    why: str


def clean(text: str) -> str:
    """A text as the model reads it: NFC, lines end with \\n, no control characters, no space around it."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return unicodedata.normalize("NFC", UNWANTED.sub("", plain)).strip()


def conversation(text: str) -> list[Turn]:
    """The messages of a row."""
    return [Turn(role, content) for role, content in json.loads(text)]


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row: `messages` (JSON) and `reply`, cleaned, and `intent` (-1 where it is unknown). ValueError
    names an empty or overlong message."""
    messages = [Turn(turn.role, clean(turn.text)) for turn in conversation(row["messages"])]
    reply = clean(row["reply"])
    for what, text in (("message", messages[-1].text), ("reply", reply)):
        if not text:
            raise ValueError(f"the {what} is empty")
    for text in (*(turn.text for turn in messages), reply):
        if (size := len(text.encode())) > config.longest:
            raise ValueError(f"a text of {size} bytes; data.longest allows {config.longest}")
    labels = row["labels"]
    return {
        "messages": json.dumps(messages, ensure_ascii=False),
        "reply": reply,
        "intent": int(labels[0]) if len(labels) else -1,
    }


# ---------------------------------------------------------------- what every source does


def scan_of(found: Iterable[Exchange | Bad], root: Path, files: Sequence[Path]) -> Scan:
    """What a source lists: each exchange once (cleaned, within its split), whole groups in one split, all
    replies to the same messages as right ones."""
    exchanges: list[Exchange] = []
    items: list[Item] = []
    seen: set[bytes] = set()
    repeated = 0
    for one in found:
        if isinstance(one, Bad):
            items.append(Item(one.name, where={"fault": one.why}))
            continue
        same = key_of(one, one.split, clean(one.reply))
        if same in seen:
            repeated += 1
            continue
        seen.add(same)
        exchanges.append(one)
    accepted: dict[bytes, dict[str, None]] = defaultdict(dict)
    for one in exchanges:
        accepted[key_of(one, one.split)] |= dict.fromkeys(map(clean, one.accepted or [one.reply]))
    intents = sorted({one.intent for one in exchanges if one.intent})
    for one in exchanges:
        where = {
            "messages": [list(turn) for turn in one.messages],
            "reply": one.reply,
            "accepted": list(accepted[key_of(one, one.split)]),
            "intent": one.intent,
        }
        items.append(Item(one.name, one.split, one.group, where, one.group))
    return Scan(
        items,
        Schema(tuple(intents), fields={"duplicates": repeated}),
        files,
        licence(root if root.is_dir() else root.parent) if files else "CC0-1.0",
        exclusive=False,
    )


def key_of(one: Exchange, *more: str) -> bytes:
    """16 bytes that stand for the cleaned messages and whatever else is to be told apart."""
    said = [[turn.role, clean(turn.text)] for turn in one.messages]
    return hashlib.blake2b(json.dumps([said, more]).encode(), digest_size=16).digest()


class Exchanges:
    """What every source does with its items once `scan` has found them."""

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            yield row_of(item.where, schema)


def row_of(where: Mapping[str, Any], schema: Schema) -> Row | Fault:
    if "fault" in where:
        return Fault(where["fault"])
    labels = [schema.labels.index(where["intent"])] if where["intent"] in schema.labels else []
    return {
        "messages": json.dumps(where["messages"], ensure_ascii=False),
        "reply": where["reply"],
        "accepted": json.dumps(where["accepted"], ensure_ascii=False),
        "labels": np.array(labels, np.int64),
    }


def replies_of(
    name: str, turns: Sequence[Turn], group: str, split: Split = "", intents: Mapping[int, str] | None = None
) -> list[Exchange | Bad]:
    """Every reply of a dialogue with what came before it. `intents`: by the place of the user's message."""
    known = intents or {}
    found: list[Exchange | Bad] = []
    for place, turn in enumerate(turns):
        if turn.role != "assistant" or not place or turns[place - 1].role == "assistant":
            continue  # a greeting of the assistant's answers nobody
        before = turns[max(0, place - MOST_TURNS) : place]
        label = f"{name}.{place}" if len(turns) > 2 else name
        found.append(Exchange(label, before, turn.text, group, split, known.get(place - 1, "")))
    return found or [Bad(name, "no reply follows; a dialogue needs a message and a reply to it")]


def files_in(path: str, suffixes: Sequence[str], kind: str) -> list[Path]:
    """The files of a format: `path` itself, or those in the folder; DataError when there are none, or one is
    too large."""
    root = Path(path)
    found = [root] if root.is_file() else sorted(f for f in root.glob("*") if f.suffix.lower() in suffixes)
    if not found:
        raise DataError(f"{path!r} holds no {' or '.join(suffixes)} files; {kind}:PATH is one, or a folder")
    for file in found:
        if (size := file.stat().st_size) > FILE_BYTES:
            raise DataError(f"{file.name} has {size:,} bytes; cut it into files of up to {FILE_BYTES:,}")
    return found


def utf8(raw: bytes) -> str:
    """The text; ValueError says where it is none."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start + 1}") from None
