"""The baseline beside the network: the reply to the nearest known question, by TF-IDF of words.

A generator is worth its trouble where it beats this.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from workloads.chatbot.data import Turn, clean

ASSET = "pairs.json"
MOST_PAIRS = 20_000
MOST_BYTES = 4 * 2**20
WORD = re.compile(r"\w+|[^\w\s]")


def keep(pairs: Sequence[tuple[Sequence[Turn], str]]) -> bytes:
    """The questions (last messages) with their replies, at most MOST_PAIRS of them evenly chosen, as JSON."""
    step = max(1, -(-len(pairs) // MOST_PAIRS))
    chosen: list[list[str]] = []
    size = 0
    for messages, reply in pairs[::step]:
        size += len(messages[-1].text.encode()) + len(reply.encode())
        if size > MOST_BYTES:
            break
        chosen.append([messages[-1].text, reply])
    return json.dumps({"format": 1, "pairs": chosen}, ensure_ascii=False).encode()


class Retrieval:
    """Known questions, found by their words."""

    def __init__(self, asset: bytes) -> None:
        self.pairs: list[tuple[str, str]] = [(q, a) for q, a in json.loads(asset)["pairs"]]
        counts = [Counter(words(question)) for question, _ in self.pairs]
        often = Counter(word for count in counts for word in count)
        self.weight = {word: math.log((1 + len(counts)) / (1 + n)) + 1 for word, n in often.items()}
        places: dict[str, list[int]] = defaultdict(list)
        values: dict[str, list[float]] = defaultdict(list)
        for place, count in enumerate(counts):
            vector = self.vector(count)
            for word, value in vector.items():
                places[word].append(place)
                values[word].append(value)
        self.postings = {word: (np.array(places[word]), np.array(values[word])) for word in places}

    def vector(self, count: Counter[str]) -> dict[str, float]:
        """TF-IDF of a text's known words, of length 1."""
        raw = {word: n * self.weight[word] for word, n in count.items() if word in self.weight}
        length = math.sqrt(math.fsum(value * value for value in raw.values()))
        return {word: value / length for word, value in raw.items()} if length else {}

    def reply(self, question: str) -> str:
        """The reply to the nearest question (largest cosine, the first of equals); "" where none is known."""
        if not self.pairs:
            return ""
        score = np.zeros(len(self.pairs))
        for word, value in self.vector(Counter(words(question))).items():
            places, values = self.postings[word]
            score[places] += value * values
        return self.pairs[int(score.round(12).argmax())][1]


def words(text: str) -> list[str]:
    return WORD.findall(clean(text).casefold())


@lru_cache(maxsize=2)
def retrieval_of(asset: bytes) -> Retrieval:
    """The index of a data set, made once: every validation asks for it."""
    return Retrieval(asset)
