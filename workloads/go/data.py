"""Game records to rows, and the games that a model is judged by.

`sgf:PATH` reads a file, or a folder with all its folders; `train.txt` and `test.txt` there hold the split, a
name a line, else a hash does. A raw row is either a record (`sgf`, and `accepted`: JSON, the right actions at
each ply where the source knows more than the one that was played) or a match game (`opponent`, and from where
it is played: `size`, `komi`, `moves` in JSON).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from penstock.data.order import hash_split
from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.go.board import Rules
from workloads.go.config import Data
from workloads.go.games import row_of
from workloads.go.messages import Opponent
from workloads.go.notation import vertex
from workloads.go.openings import openings
from workloads.go.planes import PLANES
from workloads.go.record import MOST_BYTES

OPPONENTS: tuple[Opponent, ...] = get_args(Opponent)
Split = Literal["train", "validation", "test"]
VALIDATED = 4  # times fewer match games in a validation than in a test


class Sgf:
    """The format `sgf`."""

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        files = [root] if root.is_file() else sorted(root.rglob("*.sgf"))
        if not files:
            raise DataError(f"{path!r} holds no .sgf files; sgf:PATH is one, or a folder of them")
        folder = root.parent if root.is_file() else root
        names = {file.relative_to(folder).as_posix(): file for file in files}
        listed = read_lists(folder, names)
        items = [
            Item(name, listed.get(name) or split_of(name, config), name, {"file": str(file.resolve())})
            for name, file in names.items()
        ]
        lists = [folder / f"{name}.txt" for name in ("train", "test") if (folder / f"{name}.txt").is_file()]
        return scan_of(items, config, [*files, *lists], licence(folder))

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        for item in items:
            if "opponent" in item.where:
                yield match_row(item)
                continue
            try:
                with Path(item.where["file"]).open("rb") as file:
                    content = file.read(MOST_BYTES + 1)
            except OSError as error:
                yield Fault(error.strerror or "cannot be read")
            else:
                yield record_row(content)


def scan_of(records: list[Item], config: Data, files: Sequence[Path], licence: str) -> Scan:
    """The items of a source: the match games that belong to `config`, and its records."""
    return Scan(matches(config) + records, Schema(fields={"planes": PLANES}), files, licence)


def read_lists(folder: Path, names: Iterable[str]) -> dict[str, Split]:
    """What `train.txt` and `test.txt` say of the files; DataError where a name is no file, or a file has
    none."""
    found: dict[str, Split] = {}
    splits: tuple[Split, ...] = ("train", "test")
    known = set(names)
    for split in splits:
        file = folder / f"{split}.txt"
        if not file.is_file():
            continue
        for line in file.read_text(encoding="utf-8").split():
            if line not in known:
                raise DataError(f"{file.name} names {line!r}, which is not there")
            found[line] = split
    for split, other in ((splits[0], splits[1]), (splits[1], splits[0])):
        if split in found.values() and other not in found.values():
            rest = known - set(found)
            found |= dict.fromkeys(rest, other)
    if found and (missing := known - set(found)):
        raise DataError(f"{min(missing)!r} is neither in train.txt nor in test.txt; add it to one")
    return found


def split_of(name: str, config: Data) -> Split:
    """By a hash of the name."""
    if hash_split(name, config.test, 0, "test"):
        return "test"
    return "validation" if hash_split(name, config.validation, 0, "validation") else "train"


def matches(config: Data) -> list[Item]:
    """The match games: each opening against each opponent, with both colours. Those of validation have other
    openings. DataError where the board is too small for so many."""
    rules = Rules(config.size, config.size, config.komi)
    fewer = max(1, config.matches // VALIDATED)
    try:
        starts = openings(rules, config.matches + fewer, 0, "numpy")
    except ValueError as error:
        raise DataError(f"data.size = {config.size}, data.matches = {config.matches}: {error}") from None
    items = []
    for number, start in enumerate(starts):
        split: Split = "test" if number < config.matches else "validation"
        for opponent in OPPONENTS:
            for second in (0, 1):  # whether the opponent has the move: one random ply more or less
                moves = [vertex(action, config.size, config.size) for action in start[: 4 - second]]
                where = {"opponent": opponent, "size": config.size, "komi": config.komi, "moves": moves}
                name = f"match/{opponent}/{number:03}/{'white' if second else 'black'}"
                items.append(Item(name, split, f"opening {number:03}", where))
    return items


def match_row(item: Item) -> Row:
    where = item.where
    game = {"opponent": where["opponent"], "size": where["size"], "komi": float(where["komi"])}
    return {"sgf": b"", "accepted": "", **game, "moves": json.dumps(where["moves"])}


def record_row(content: bytes, accepted: Sequence[Sequence[int]] = ()) -> Row:
    known = json.dumps(accepted) if accepted else ""
    return {"sgf": content, "accepted": known, "opponent": "", "size": 0, "komi": 0.0, "moves": ""}


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row, see games.py; nothing of a match game, which nobody learns from."""
    return {} if row["opponent"] else row_of(row["sgf"])
