"""A two-way LSTM reads the conversation, another LSTM with attention on it writes the reply; tied embedding.

Shapes: B conversations, S tokens of the longest prompt, T of the longest reply, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from penstock.nn import Dropout
from workloads.chatbot.config import Net
from workloads.chatbot.model import Example, Scores, Start, Words, sums


class Padded(NamedTuple):
    """Prompts and replies side by side, filled up with 0."""

    prompt: Tensor  # int64 [B, S]
    length: Tensor  # int64 [B], of each prompt
    given: Tensor  # int64 [B, T], the mark of the assistant and the reply without its end
    target: Tensor  # int64 [B, T], the reply and its end, -1 beyond
    intent: Tensor  # int64 [B]


@dataclass
class Memory:
    """What was read, and where the writer stands."""

    read: Tensor  # [B, S, D]
    mask: Tensor  # bool [B, S], where there was something to read
    hidden: list[Tensor]  # of each layer, [1, B, D]
    cell: list[Tensor]


class Lstm(nn.Module):
    """Foretells the next token of a reply from the conversation and the reply so far."""

    def __init__(self, net: Net, vocabulary: int, intents: int) -> None:
        super().__init__()
        width = net.width
        self.embedding = Words(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.2)  # what it is multiplied with stays within -1 to 1
        self.reader = nn.ModuleList(
            nn.LSTM(width, width // 2, batch_first=True, bidirectional=True) for _ in range(net.layers)
        )
        self.writer = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(net.layers))
        self.bridge = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(net.layers))
        self.look = nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(2 * width, width)
        self.intents = nn.Linear(width, intents) if intents else None
        self.dropout = Dropout(net.dropout)

    # ------------------------------------------------------------ learning and scoring

    def batch(self, examples: Sequence[Example]) -> Padded:
        prompts = [one.prompt[:-1] for one in examples]  # its last token, the mark, is the writer's first
        given = [[one.prompt[-1], *one.reply[:-1]] for one in examples]
        return Padded(
            padded(prompts, 0),
            torch.tensor([len(prompt) for prompt in prompts], dtype=torch.int64),
            padded(given, 0),
            padded([one.reply for one in examples], -1),
            torch.tensor([one.intent for one in examples], dtype=torch.int64),
        )

    def forward(self, batch: Padded) -> Scores:
        count = len(batch.prompt)
        if not count:  # a worker without items still takes part, but an LSTM wants a conversation
            batch = Padded(*(part.new_ones(1, *part.shape[1:]) for part in batch))
        memory, meant = self.listen(batch.prompt, batch.length, count)
        x = self.write(memory, batch.given, count)[:count]
        there = batch.target[:count] >= 0
        owner = torch.arange(count, device=there.device)[:, None].expand_as(there)[there]
        foretold = self.embedding(x[there])
        return Scores(sums(foretold, batch.target[:count][there], owner, count), meant[:count])

    def listen(self, prompt: Tensor, length: Tensor, count: int) -> tuple[Memory, Tensor]:
        """Prompts [B, S] to what is remembered of them, and the scores of the intents [B, K]. `count`: of
        those that are there, 0 for a stand-in."""
        x = self.drop(self.embedding(prompt), count)
        hidden, cell = [], []
        on_host = length.cpu()
        for reader, bridge in zip(self.reader, self.bridge, strict=True):
            packed = pack_padded_sequence(x, on_host, batch_first=True, enforce_sorted=False)
            out, (last, inner) = reader(packed)
            x = self.drop(pad_packed_sequence(out, batch_first=True, total_length=prompt.shape[1])[0], count)
            ends = torch.cat([last[0], last[1], inner[0], inner[1]], 1)
            first, second = torch.tanh(bridge(ends)).chunk(2, 1)
            hidden.append(first[None].contiguous())
            cell.append(second[None].contiguous())
        mask = torch.arange(prompt.shape[1], device=prompt.device) < length[:, None]
        mean = (x * mask[..., None]).sum(1) / length[:, None]
        meant = mean[:, :0] if self.intents is None else self.intents(mean)
        return Memory(x, mask, hidden, cell), meant

    def write(self, memory: Memory, given: Tensor, count: int) -> Tensor:
        """Tokens given [B, T] to what is known after each [B, T, D]; the memory moves on."""
        x = self.drop(self.embedding(given), count)
        for number, writer in enumerate(self.writer):
            x, (memory.hidden[number], memory.cell[number]) = writer(
                x, (memory.hidden[number], memory.cell[number])
            )
            x = self.drop(x, count)
        seen = F.scaled_dot_product_attention(
            self.look(x), memory.read, memory.read, attn_mask=memory.mask[:, None]
        )
        return self.drop(torch.tanh(self.mix(torch.cat([x, seen], -1))), count)

    def drop(self, x: Tensor, count: int) -> Tensor:
        """x [B, T, D] with the same numbers of each conversation left out at all times (Gal 2016)."""
        if not self.training or not count:
            return x
        mask: Tensor = self.dropout(x.new_ones(len(x), 1, x.shape[-1]))
        return x * mask

    # ------------------------------------------------------------ speaking

    def begin(self, prompts: Sequence[Sequence[int]], room: int) -> Start:
        device = self.embedding.weight.device
        read = [prompt[:-1] for prompt in prompts]
        length = torch.tensor([len(prompt) for prompt in read], device=device)
        memory, meant = self.listen(padded(read, 0).to(device), length, len(read))
        first = torch.tensor([prompt[-1] for prompt in prompts], device=device)
        return Start(memory, self.step(memory, first), meant)

    def step(self, state: Memory, tokens: Tensor) -> Tensor:
        scores: Tensor = self.embedding(self.write(state, tokens[:, None], len(tokens))[:, 0])
        return scores

    def keep(self, state: Memory, rows: Tensor) -> Memory:
        hidden, cell = ([one[:, rows] for one in kept] for kept in (state.hidden, state.cell))
        return Memory(state.read[rows], state.mask[rows], hidden, cell)


def padded(lists: Sequence[Sequence[int]], fill: int) -> Tensor:
    """int64 [n, longest], at least one column."""
    longest = max([1, *(len(one) for one in lists)])
    filled = torch.full((len(lists), longest), fill, dtype=torch.int64)
    for row, one in enumerate(lists):
        filled[row, : len(one)] = torch.tensor(one)
    return filled
