"""The format `text`: plain text, a message a line, spoken in turn; an empty line ends a dialogue.

A line may begin with who speaks (`Q:` and `A:`, `User:` and `Assistant:`, `Human:` and `Bot:`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from penstock.workload import Scan
from workloads.chatbot.config import Data
from workloads.chatbot.data import Bad, Exchange, Exchanges, Turn, clean, files_in, replies_of, scan_of, utf8

ROLES = ("user", "assistant")
SPEAKER = re.compile(r"(?i)(?:(q|user|human)|(a|assistant|bot)):\s*")


class PlainText(Exchanges):
    """The format `text`."""

    def scan(self, path: str, config: Data) -> Scan:
        files = files_in(path, (".txt",), "text")
        return scan_of((one for file in files for one in exchanges(file)), Path(path), files)


def exchanges(file: Path) -> Iterator[Exchange | Bad]:
    """Every exchange of a file, or why a dialogue holds none. A dialogue is called by its first line."""
    turns: list[Turn] = []
    start, fault = 1, ""
    for number, raw in enumerate([*file.read_bytes().split(b"\n"), b""], 1):
        if raw.strip():
            start = start if turns or fault else number
            try:
                turns.append(turn(utf8(raw), len(turns)))
            except ValueError as error:
                fault = f"line {number}: {error}"
        elif turns or fault:
            name = f"{file.name}:{start}"
            yield from [Bad(name, fault)] if fault else replies_of(name, turns, clean(turns[0].text))
            turns, fault = [], ""


def turn(line: str, place: int) -> Turn:
    """A line as a message; who speaks is said, or follows from its place in the dialogue."""
    said = SPEAKER.match(line)
    if said is None:
        return Turn(ROLES[place % 2], line)
    return Turn(ROLES[0] if said[1] else ROLES[1], line[said.end() :])
