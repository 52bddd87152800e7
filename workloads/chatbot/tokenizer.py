"""Text to tokens and back: byte-level BPE, learned from the training split at prepare.

Every byte is a token of its own, so nothing is unknown. The marks between messages are no text: their ids lie
beyond the vocabulary, and no message can hold one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from penstock.data.shards import Shards
from penstock.errors import ModelError
from penstock.workload import Schema
from workloads.chatbot import retrieval
from workloads.chatbot.config import Data
from workloads.chatbot.data import Turn, clean, conversation

# the library's threads do not survive a fork, and a command has its own idea of how many there are
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ASSET = "tokenizer.json"
ROLES = ("system", "user", "assistant")
KNOWN_TEXTS = 50_000  # kept encoded: a training run meets each text once an epoch


def fit(train: Shards, config: Data, schema: Schema) -> Mapping[str, bytes]:
    """The files of a data set: the tokenizer, and the pairs that the retrieval baseline answers from."""
    pairs = [(conversation(row["messages"]), str(row["reply"])) for row in map(train.row, range(len(train)))]

    def texts() -> Iterator[str]:
        for messages, reply in pairs:
            yield messages[-1].text  # what came before is in other rows
            yield reply

    return {ASSET: learn(texts(), config.vocabulary), retrieval.ASSET: retrieval.keep(pairs)}


def learn(texts: Iterator[str], vocabulary: int) -> bytes:
    """A tokenizer's JSON with at most so many tokens; pure, whatever the number of threads."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str().encode()


class Prompt(NamedTuple):
    """A conversation as a network reads it: its newest messages, and the mark of who is to speak."""

    tokens: list[int]
    forgotten: int  # messages that did not fit
    fits: bool = True  # whether the last message is whole


class Text:
    """A tokenizer at work. `end`, `roles`: ids of the marks; `size`: how many ids there are."""

    def __init__(self, schema: Schema) -> None:
        if ASSET not in schema.assets:
            raise ModelError(f"the data set has no {ASSET}; prepare it again with this workload")
        self._tokenizer = Tokenizer.from_str(schema.assets[ASSET].decode())
        words = self._tokenizer.get_vocab_size()
        self.end = words
        self.roles = {role: words + 1 + k for k, role in enumerate(ROLES)}
        self.size = words + 1 + len(ROLES)
        values = byte_values()
        # a mark has no bytes
        self.bytes = [b""] * self.size
        for piece, number in self._tokenizer.get_vocab().items():
            self.bytes[number] = bytes(values[character] for character in piece)
        self.encode = lru_cache(KNOWN_TEXTS)(self._encode)

    def _encode(self, text: str) -> tuple[int, ...]:
        """The tokens of a text, cleaned first."""
        return tuple(self._tokenizer.encode(clean(text), add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of whole tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.bytes[token] for token in tokens).decode(errors="replace").removeprefix(" ")

    def message(self, turn: Turn) -> list[int]:
        """A message with its marks: role, text, end."""
        return [self.roles[turn.role], *self.encode(turn.text), self.end]

    def prompt(self, turns: Sequence[Turn], room: int) -> Prompt:
        """A conversation in at most `room` tokens: the newest messages that fit, after a system message at
        the beginning. Where not even the last one fits, its end."""
        first = self.message(turns[0]) if turns[0].role == "system" and len(turns) > 1 else []
        rest = turns[1:] if first else turns
        last = self.message(rest[-1])
        left = room - 1 - len(first) - len(last)
        if left < 0:
            return Prompt([*first, *last, self.roles["assistant"]][-room:], len(turns) - 1, fits=False)
        kept = [last]
        for turn in reversed(rest[:-1]):
            message = self.message(turn)
            left -= len(message)
            if left < 0:
                break
            kept.append(message)
        tokens = [*first, *(token for message in reversed(kept) for token in message)]
        return Prompt([*tokens, self.roles["assistant"]], len(rest) - len(kept))


def byte_values() -> dict[str, int]:
    """The printable character that stands for a byte in the tokenizer's file -> that byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + k): byte for k, byte in enumerate(rest)}
