"""What the two networks have in common: what they learn from, what they say, how they are asked for a reply.

Shapes: B conversations, N tokens of a reply, V ids, K intents, D numbers a token is known by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.workload import Schema
from workloads.chatbot.config import Config
from workloads.chatbot.tokenizer import Text


class Example(NamedTuple):
    """A conversation that ends with the mark of the assistant, and the reply with its end."""

    prompt: Sequence[int]
    reply: Sequence[int]
    intent: int = -1


class Scores(NamedTuple):
    """What a network makes of a batch of examples."""

    log_probability: Tensor  # [B], natural logarithm, of the whole reply and its end
    intents: Tensor  # [B, K], before softmax


class Start(NamedTuple):
    """A network that has read its prompts. `state` is its own; it goes on from there."""

    state: Any
    scores: Tensor  # [B, V], of the first token of the reply
    intents: Tensor  # [B, K]


class Talker(Protocol):
    """Both networks: `batch` and a call are how they learn and score, the rest is how they speak."""

    def batch(self, examples: Sequence[Example]) -> Any: ...

    def __call__(self, batch: Any) -> Scores: ...

    def begin(self, prompts: Sequence[Sequence[int]], room: int) -> Start:
        """Read the prompts; up to `room` tokens will follow."""
        ...

    def step(self, state: Any, tokens: Tensor) -> Tensor:
        """The scores [B, V] after one more token [B] each; `state` moves on."""
        ...

    def keep(self, state: Any, rows: Tensor) -> Any:
        """The state of the conversations `rows` [n] alone."""
        ...


class Words(nn.Embedding):
    """One table both ways: ids [...] to what is known of them [..., D], and [N, D] to scores of the ids
    [N, V]. Always called, never looked into: where a table is spread over workers, a call gathers it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) if x.is_floating_point() else super().forward(x)


def sums(logits: Tensor, target: Tensor, owner: Tensor, count: int) -> Tensor:
    """The log-probabilities of `target` [N] under `logits` [N, V], added up by `owner` [N]: [count]."""
    known = F.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, -1)
    own = known.gather(1, target[:, None])[:, 0]
    return own.new_zeros(count).index_add(0, owner, own)


def build(config: Config, schema: Schema) -> nn.Module:
    """The network for these settings, this vocabulary and these intents."""
    from workloads.chatbot.lstm import Lstm
    from workloads.chatbot.transformer import Transformer

    kind = {"transformer": Transformer, "lstm": Lstm}[config.model.kind]
    intents = len(schema.labels) if config.model.intents else 0
    return kind(config.model, Text(schema).size, intents)
