"""What a text is worth beside another, as counts that add up: a bootstrap sample is then a sum."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

CHARACTERS = 6  # longest n-gram of chrF
WORDS = 4  # longest n-gram of BLEU
STRETCH = 200  # pairs of words, about fifteen replies
BETA = 2.0  # of chrF: recall counts twice as much as precision
CHRF, BLEU_COUNTS = 3 * CHARACTERS, 2 * WORDS + 2


def chrf_counts(said: str, right: str) -> list[int]:
    """Of each n-gram length of characters (without spaces): said, right, in both."""
    counts = []
    ours, theirs = "".join(said.split()), "".join(right.split())
    for size in range(1, CHARACTERS + 1):
        a, b = (Counter(text[i : i + size] for i in range(len(text) - size + 1)) for text in (ours, theirs))
        # as sacrebleu has it, what is said beside a right text too short for the length does not count
        counts += [a.total() if b else 0, b.total(), (a & b).total()]
    return counts


def chrf(counts: NDArray[Any]) -> float:
    """chrF, 0 to 100, from counts added up over texts."""
    said, right, both = counts.reshape(CHARACTERS, 3).T.astype(np.float64)
    there = (said > 0) & (right > 0)
    if not there.any():
        return 0.0
    precision, recall = (both[there] / said[there]).mean(), (both[there] / right[there]).mean()
    if precision + recall == 0:
        return 0.0
    return float(100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall))


def bleu_counts(said: str, right: str) -> list[int]:
    """Of each n-gram length of words: in both, said; then the words said and right (sacrebleu, 13a)."""
    found = METER.sentence_score(said, [right])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def bleu(counts: NDArray[Any]) -> float:
    """BLEU, 0 to 100, from counts added up over texts."""
    numbers = [int(count) for count in counts]
    correct, total = numbers[:WORDS], numbers[WORDS : 2 * WORDS]
    made = BLEU.compute_bleu(correct, total, numbers[-2], numbers[-1], smooth_method="exp")
    return float(made.score)


def bigrams(text: str) -> list[int]:
    """The pairs of neighbouring words of a text, each as a number that stands for it."""
    words = text.casefold().split()
    pairs = (f"{a} {b}".encode() for a, b in itertools.pairwise(words))
    return [int.from_bytes(hashlib.blake2b(pair, digest_size=7).digest()) for pair in pairs]


def distinct(pairs: NDArray[Any]) -> float:
    """The share of different ones in each stretch of STRETCH, on average; NaN where there are none. Over all
    of them it would sink with the number of texts, and be another one in every bootstrap sample."""
    if not len(pairs):
        return float("nan")
    parts = np.array_split(pairs, max(1, round(len(pairs) / STRETCH)))
    return float(np.mean([len(np.unique(part)) / len(part) for part in parts]))


def lists(rows: Sequence[Sequence[int]]) -> Any:
    """Rows of whole numbers as a column."""
    import pyarrow as pa

    return pa.array([list(row) for row in rows], pa.list_(pa.int64()))


METER = BLEU(effective_order=True)  # said once a text otherwise; the counts are the same
