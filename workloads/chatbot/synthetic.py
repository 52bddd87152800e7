"""A small generated world whose right answers are known: a grammar of eight intents.

A question is an intent, a way to say it, and the values of its slots; the answer is made of the slots and of
small tables (prices, lines, opposites). Combinations of values that are in the test split are nowhere in
training, though each value is: the reply to the nearest known question names a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from penstock.data.order import chance, hash_split
from penstock.errors import DataError
from penstock.workload import Scan
from workloads.chatbot.config import Data
from workloads.chatbot.data import Exchange, Exchanges, Split, scan_of
from workloads.chatbot.grammar import say

FEWEST = 400
TEST = (
    0.2  # share of the combinations; greetings and farewells, which have none, are split by how they are said
)


class Synthetic(Exchanges):
    """The source `synthetic`: `data.dialogues` dialogues of one or two replies."""

    def scan(self, path: str, config: Data) -> Scan:
        if config.dialogues < FEWEST:
            raise DataError(f"data.dialogues = {config.dialogues}: at least {FEWEST} are needed")
        found = (one for number in range(config.dialogues) for one in dialogue(number))
        return scan_of(found, Path(), [])


def dialogue(number: int) -> Iterator[Exchange]:
    """The replies of dialogue `number`; where several are right, chance says which."""
    intent, said = say(number)
    fixed = intent in ("greeting", "farewell")
    group = f"{intent}: {said.messages[0].text}" if fixed else said.combination
    split: Split = "test" if hash_split(group, TEST, 0, "test") else "train"
    messages = list(said.messages)
    for turn, accepted in enumerate(said.accepted):
        before = messages[: 2 * turn + 1]
        chosen = accepted[int(chance(f"{number}", 0, "reply") * len(accepted))]
        yield Exchange(f"{number:05d}.{turn}", before, chosen, group, split, intent, tuple(accepted))
