"""From prompts to replies, token by token, several conversations at a time.

What a reply is does not depend on its company: prompts are filled up and masked, chance hangs on (seed, place
in the reply) only, and conversations that have ended leave the batch.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workloads.chatbot.messages import ChatRequest
from workloads.chatbot.model import Talker
from workloads.chatbot.tokenizer import Text

STREAM = 0x63686174  # keeps these draws apart from all others by seed
LOG2 = float(np.log2(np.e))


class Writer:
    """The text of a reply as its bytes come in. `text`: what there is, cut at the first stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.text, self.stopped = "", False
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun, self._shown = False, 0

    def write(self, raw: bytes, last: bool = False) -> str:
        """What can be shown by now and was not: whole characters that are no beginning of a stop text."""
        if self.stopped:
            return ""
        new = self._bytes.decode(raw, last)
        if new and not self._begun:  # the tokenizer puts a space before every text
            self._begun, new = True, new.removeprefix(" ")
        searched = len(self.text)
        self.text += new
        found = [
            place
            for stop in self.stops
            if (place := self.text.find(stop, max(0, searched - len(stop) + 1))) >= 0
        ]
        self.stopped = bool(found)
        self.text = self.text[: min(found, default=len(self.text))]
        safe = len(self.text) - (0 if self.stopped or last else self._unsure())
        piece = self.text[self._shown : safe]
        self._shown = max(self._shown, safe)
        return piece

    def _unsure(self) -> int:
        """Characters at the end that a stop text may begin with."""
        longest = min(len(self.text), max((len(stop) for stop in self.stops), default=1) - 1)
        for size in range(longest, 0, -1):
            if any(stop.startswith(self.text[-size:]) for stop in self.stops):
                return size
        return 0


@dataclass
class Reply:
    """One reply in the making."""

    request: ChatRequest
    writer: Writer
    chance: NDArray[Any]  # float64 [max_tokens], 0..1
    tokens: list[int] = field(default_factory=list)
    log2_probability: float = 0.0
    finish: Any = ""
    piece: str = ""  # what the last token allowed to show

    @classmethod
    def to(cls, request: ChatRequest) -> Reply:
        """A reply that is still to be made."""
        draws = np.random.Generator(np.random.Philox(key=(request.seed, STREAM)))
        return cls(request, Writer(request.stop), draws.random(request.max_tokens))

    @property
    def plain(self) -> bool:
        """Whether it takes the likeliest token each time, as it stands."""
        return self.request.temperature == 0 and self.request.repetition_penalty == 1

    def add(self, token: int, log_probability: float, text: Text) -> None:
        """Take the next token; sets `finish` when it is the last."""
        self.log2_probability += log_probability * LOG2
        if token == text.end:
            self.finish = "end"
        else:
            self.tokens.append(token)
        last = bool(self.finish) or len(self.tokens) == self.request.max_tokens
        self.piece = self.writer.write(text.bytes[token], last)
        if self.writer.stopped:
            self.finish = "stop"
        elif last and not self.finish:
            self.finish = "length"


def speak(
    talker: Talker, text: Text, state: Any, scores: Tensor, replies: Sequence[Reply]
) -> Iterator[Sequence[Reply]]:
    """Make `replies` from what `Talker.begin` gave, one token each a turn; gives those that moved, after
    each turn."""
    speaking = [reply for reply in replies if reply.request.max_tokens]
    if len(speaking) < len(replies):
        asked = [row for row, reply in enumerate(replies) if reply.request.max_tokens]
        rows = torch.tensor(asked, dtype=torch.int64, device=scores.device)
        state, scores = talker.keep(state, rows), scores[rows]
    going = list(range(len(speaking)))  # the rows of the state whose reply is not finished
    while going:
        # the marks of roles are never said
        scores[:, text.end + 1 :] = -torch.inf
        chosen = scores.argmax(1)
        for row in going:
            if not speaking[row].plain:
                chosen[row] = choose(scores[row].double().cpu().numpy(), speaking[row])
        sure = torch.log_softmax(scores.double(), 1).gather(1, chosen[:, None])[:, 0]
        for row, token, value in zip(range(len(speaking)), chosen.tolist(), sure.tolist(), strict=True):
            if not speaking[row].finish:
                speaking[row].add(token, value, text)
        yield [speaking[row] for row in going]
        going = [row for row in going if not speaking[row].finish]
        if len(going) <= len(speaking) // 2:  # copying costs about what half a turn does
            rows = torch.tensor(going, dtype=torch.int64, device=scores.device)
            state, chosen = talker.keep(state, rows), chosen[rows]
            speaking, going = [speaking[row] for row in going], list(range(len(going)))
        if going:
            scores = talker.step(state, chosen)


def choose(scores: NDArray[Any], reply: Reply) -> int:
    """The next token by the request's own settings: penalty, temperature, top-k, top-p, then chance."""
    request = reply.request
    if request.repetition_penalty > 1 and reply.tokens:
        said = np.unique(reply.tokens)
        value = scores[said]
        scores[said] = np.where(
            value > 0, value / request.repetition_penalty, value * request.repetition_penalty
        )
    if request.temperature == 0:
        return int(scores.argmax())
    order = np.argsort(-scores, kind="stable")  # of equals the smaller id first
    if request.top_k:
        order = order[: request.top_k]
    weight = np.exp((scores[order] - scores[order[0]]) / request.temperature)
    total = np.cumsum(weight)
    if request.top_p < 1:
        kept = int(np.searchsorted(total, request.top_p * total[-1])) + 1
        order, total = order[:kept], total[:kept]
    place = int(np.searchsorted(total, reply.chance[len(reply.tokens)] * total[-1], side="right"))
    return int(order[min(place, len(order) - 1)])
