"""The Transformer as a graph: tokens to scores of the next one, everywhere at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.errors import PenstockError
from penstock.graphs import Export, Graph
from workloads.chatbot.lstm import padded
from workloads.chatbot.messages import ChatRequest
from workloads.chatbot.model import Example, Scores, Start, Talker, sums
from workloads.chatbot.predict import ChatPredictor
from workloads.chatbot.tokenizer import ASSET
from workloads.chatbot.transformer import Transformer

MOST = 16  # tokens of a reply that is compared


class NextToken(nn.Module):
    """Tokens int64 [B, W] -> scores of what follows each [B, W, V], and of the intents there [B, W, K]."""

    def __init__(self, inner: Transformer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        position = torch.arange(tokens.shape[1], device=tokens.device)[None]
        known = self.inner.read(tokens, position, lambda number: before, lambda same: same)
        scores: Tensor = self.inner.embedding(known)
        return scores if self.inner.intents is None else (scores, self.inner.intents(known))


def before(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention to oneself and to all before."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


class Conversation(NamedTuple):
    """An example to score, as a row."""

    tokens: Tensor  # int64 [1, W], the prompt and the reply without its end
    at: Tensor  # int64 [N], where a token of the reply is foretold
    target: Tensor  # int64 [N], that token


class Rereading:
    """A Talker that keeps nothing: for every token it reads the whole conversation again."""

    def __init__(self, network: NextToken) -> None:
        self.network = network

    def read(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Scores [B, V] of what follows each row, and of the intents [B, K]."""
        given = self.network(padded(rows, 0))
        scores, intents = (given, given[..., :0]) if isinstance(given, Tensor) else given
        each, last = torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])
        return scores[each, last], intents[each, last]

    def begin(self, prompts: Sequence[Sequence[int]], room: int) -> Start:
        rows = [list(prompt) for prompt in prompts]
        return Start(rows, *self.read(rows))

    def step(self, state: list[list[int]], tokens: Tensor) -> Tensor:
        for row, token in zip(state, tokens.tolist(), strict=True):
            row.append(token)
        return self.read(state)[0]

    def keep(self, state: list[list[int]], rows: Tensor) -> list[list[int]]:
        return [list(state[row]) for row in rows.tolist()]

    def batch(self, examples: Sequence[Example]) -> Conversation:
        (one,) = examples
        tokens = [*one.prompt, *one.reply[:-1]]
        return Conversation(
            torch.tensor([tokens]),
            torch.arange(len(one.prompt) - 1, len(tokens)),
            torch.tensor(list(one.reply)),
        )

    def __call__(self, batch: Conversation) -> Scores:
        given = self.network(batch.tokens)
        scores, intents = (given, given[..., :0]) if isinstance(given, Tensor) else given
        foretold = scores[0, batch.at]
        said = sums(foretold, batch.target, torch.zeros_like(batch.target), 1)
        return Scores(said, intents[:, int(batch.at[0])])


def export(predictor: ChatPredictor) -> Export:
    """The Transformer; PenstockError for the LSTM."""
    inner = predictor.talker
    if not isinstance(inner, Transformer):
        raise PenstockError(
            "model.kind = 'lstm' packs conversations by their lengths, for which ONNX has no operation; "
            "model.kind = 'transformer' can be exported"
        )
    network = NextToken(inner)
    predictor.talker = cast(Talker, Rereading(network))
    text, labels = predictor.text, list(predictor.labels)
    outputs: dict[str, tuple[int | str, ...]] = {"scores": ("batch", "tokens", text.size)}
    if labels:
        outputs["intents"] = ("batch", "tokens", len(labels))
    return Export(
        {"model": Graph(network, {"tokens": ("batch", "tokens")}, outputs)},
        preprocessing={
            "steps": [
                "each message: the mark of its role, its text (NFC, no space around it) by byte-level BPE "
                "(assets/tokenizer.json), `end`; after the last the mark of the assistant",
                "the oldest messages but a system message are left out until prompt and reply fit into "
                "`context` tokens",
                "shorter rows are filled up with 0 at their end: nothing looks ahead",
            ],
            "context": predictor.context,
            "end": text.end,
            "roles": text.roles,
        },
        postprocessing={
            "steps": [
                "`scores` at the last token of a row are those of the next one, before softmax; ids above "
                "`end` are marks and never said; `end` ends the reply",
                "then the request's penalty, temperature, top-k, top-p; append the token and ask again: keys "
                "and values that were computed before are not kept in the graph",
                "`intents` at the end of the prompt, before softmax" if labels else "there are no intents",
            ],
            "end": text.end,
            "intents": labels,
        },
        assets=[ASSET],
        ask=plain,
    )


def plain(request: ChatRequest) -> ChatRequest:
    """The likeliest tokens, and few of them."""
    return request.model_copy(update={"temperature": 0.0, "max_tokens": min(request.max_tokens, MOST)})
