"""A decoder-only Transformer: pre-norm blocks, rotary positions, tied embedding, cache of keys and values.

Shapes: R rows that hold several conversations each, W tokens a row, B conversations, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.nn import Dropout
from workloads.chatbot.config import Net
from workloads.chatbot.model import Example, Scores, Start, Words, sums

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Drop = Callable[[Tensor], Tensor]
BASE = 10_000.0  # of the rotary positions


class Packed(NamedTuple):
    """Several conversations a row, which do not see each other; -1 where there is nothing."""

    tokens: Tensor  # int64 [R, W]
    owner: Tensor  # int64 [R, W], the conversation a token belongs to
    position: Tensor  # int64 [R, W], within its conversation
    at: Tensor  # int64 [N], where a token of a reply is foretold, as a place in [R * W]
    target: Tensor  # int64 [N], that token
    last: Tensor  # int64 [B], where each prompt ends, as a place in [R * W]
    intent: Tensor  # int64 [B]


@dataclass
class Cache:
    """Keys and values of what was read, a row a conversation; all end in the same column."""

    keys: list[Tensor]  # of each block, [B, H, room, D / H]
    values: list[Tensor]
    first: Tensor  # int64 [B], the column where each conversation begins
    hidden: Tensor  # [B, 1, 1, room], -inf before that column, else 0
    filled: int  # columns


class Block(nn.Module):
    """Attention and a wide layer, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, drop: Drop) -> Tensor:
        """x [R, W, D]; `turn`: cosines and sines [R, 1, W, D / H]."""
        rows, width, size = x.shape
        split = self.qkv(self.norm1(x)).view(rows, width, 3, self.heads, size // self.heads)
        pair, value = split.permute(2, 0, 3, 1, 4).split((2, 1))
        query, key = rotated(pair, turn)
        seen = attend(query, key, value[0])
        x = x + drop(self.out(seen.transpose(1, 2).reshape(rows, width, size)))
        return x + drop(self.down(F.gelu(self.up(self.norm2(x)))))


class Transformer(nn.Module):
    """Foretells the next token of a reply from all before it."""

    def __init__(self, net: Net, vocabulary: int, intents: int) -> None:
        super().__init__()
        self.net = net
        self.embedding = Words(vocabulary, net.width)
        self.norm0 = nn.LayerNorm(net.width, bias=False)
        self.blocks = nn.ModuleList(Block(net.width, net.heads) for _ in range(net.layers))
        self.norm = nn.LayerNorm(net.width, bias=False)
        self.intents = nn.Linear(net.width, intents) if intents else None
        self.dropout = Dropout(net.dropout)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                spread = 0.02 if name.startswith("embedding") else net.width**-0.5
                # what is added block after block starts small
                nn.init.normal_(
                    weight, std=spread / 4 if name.endswith(("out.weight", "down.weight")) else spread
                )

    # ------------------------------------------------------------ learning and scoring

    def batch(self, examples: Sequence[Example]) -> Packed:
        """Examples laid out in as few rows as go; a row of nothing where there are none."""
        sizes = [len(one.prompt) + len(one.reply) - 1 for one in examples]
        rows, width = shelves(sizes, self.net.packed)
        tokens = np.zeros((max(len(rows), 1), width), np.int64)
        owner, position = np.full_like(tokens, -1), np.zeros_like(tokens)
        at: list[int] = []
        target: list[int] = []
        last = np.zeros(len(examples), np.int64)
        for row, members in enumerate(rows):
            start = 0
            for number in members:
                one, size = examples[number], sizes[number]
                place = slice(start, start + size)
                tokens[row, place] = [*one.prompt, *one.reply[:-1]]
                owner[row, place] = number
                position[row, place] = np.arange(size)
                last[number] = row * width + start + len(one.prompt) - 1
                at.extend(range(int(last[number]), row * width + start + size))
                target.extend(one.reply)
                start += size
        return Packed(
            tokens=torch.from_numpy(tokens),
            owner=torch.from_numpy(owner),
            position=torch.from_numpy(position),
            at=torch.tensor(at, dtype=torch.int64),
            target=torch.tensor(target, dtype=torch.int64),
            last=torch.from_numpy(last),
            intent=torch.tensor([one.intent for one in examples], dtype=torch.int64),
        )

    def forward(self, batch: Packed) -> Scores:
        count, width = len(batch.last), batch.tokens.shape[1]
        before = torch.ones(width, width, dtype=torch.bool, device=batch.tokens.device).tril()
        mask = ((batch.owner[:, :, None] == batch.owner[:, None, :]) & before)[:, None]

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

        def drop(x: Tensor) -> Tensor:
            if not self.training or self.net.dropout == 0:
                return x
            # one mask a conversation: masks a token would depend on how conversations are packed
            each = self.dropout(torch.ones(count, x.shape[-1], dtype=x.dtype, device=x.device))
            return x * torch.cat([each, each.new_ones(1, x.shape[-1])])[batch.owner]

        x = self.read(batch.tokens, batch.position, lambda number: attend, drop).flatten(0, 1)
        foretold = self.embedding(x[batch.at])
        said = sums(foretold, batch.target, batch.owner.flatten()[batch.at], count)
        return Scores(said, self.meant(x[batch.last]))

    def read(self, tokens: Tensor, position: Tensor, attend: Callable[[int], Attend], drop: Drop) -> Tensor:
        """Tokens [R, W] at their positions to what is known after each [R, W, D]; `attend` of each block."""
        x = drop(self.norm0(self.embedding(tokens)))
        turn = turns(position, self.net.width // self.net.heads, x.dtype)
        for number, block in enumerate(self.blocks):
            x = block(x, turn, attend(number), drop)
        known: Tensor = self.norm(x)
        return known

    def meant(self, known: Tensor) -> Tensor:
        """The scores of the intents, [B, K], from what is known at the end of each prompt."""
        if self.intents is None:
            return known[:, :0]
        scores: Tensor = self.intents(known)
        return scores

    # ------------------------------------------------------------ speaking

    def begin(self, prompts: Sequence[Sequence[int]], room: int) -> Start:
        device, size = self.embedding.weight.device, self.net.width // self.net.heads
        longest = max(len(prompt) for prompt in prompts)
        # shorter prompts begin later: then all end, and go on, in the same column
        first = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
        tokens = torch.tensor(
            [[0] * (longest - len(prompt)) + [*prompt] for prompt in prompts], device=device
        )
        shape = (len(prompts), self.net.heads, longest + room, size)
        keys, values = ([self.embedding.weight.new_zeros(shape) for _ in self.blocks] for _ in range(2))
        column = torch.arange(longest + room, device=device)
        hidden = torch.zeros(len(prompts), 1, 1, longest + room, device=device)
        hidden.masked_fill_((column < first[:, None])[:, None, None], -torch.inf)
        before = column[:longest, None] >= column[:longest]
        # what stands before a prompt sees itself, so that it is a number
        mask = before & (hidden[..., :longest] == 0) | torch.eye(longest, dtype=torch.bool, device=device)

        def attend(number: int) -> Attend:
            def all_before(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
                keys[number][:, :, :longest], values[number][:, :, :longest] = key, value
                return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

            return all_before

        position = (column[:longest] - first[:, None]).clamp(min=0)
        last = self.read(tokens, position, attend, lambda same: same)[:, -1]
        return Start(Cache(keys, values, first, hidden, longest), self.embedding(last), self.meant(last))

    def step(self, state: Cache, tokens: Tensor) -> Tensor:
        at, scale = state.filled, (self.net.width // self.net.heads) ** -0.5
        hidden = state.hidden[..., : at + 1]

        def attend(number: int) -> Attend:
            def cached(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
                keys, values = state.keys[number], state.values[number]
                keys[:, :, at : at + 1], values[:, :, at : at + 1] = key, value
                # one query a head: the library's attention costs more than these three lines
                fit = torch.matmul(query * scale, keys[:, :, : at + 1].transpose(2, 3))
                return torch.matmul((fit + hidden).softmax(-1), values[:, :, : at + 1])

            return cached

        x = self.read(tokens[:, None], at - state.first[:, None], attend, lambda same: same)
        state.filled += 1
        scores: Tensor = self.embedding(x[:, 0])
        return scores

    def keep(self, state: Cache, rows: Tensor) -> Cache:
        keys, values = ([one[rows] for one in kept] for kept in (state.keys, state.values))
        return Cache(keys, values, state.first[rows], state.hidden[rows], state.filled)


def shelves(sizes: Sequence[int], width: int) -> tuple[list[list[int]], int]:
    """Which go together into a row of `width` (of the longest, where that is more), the longest first each
    into the first row with room; and the width that the fullest row needs, at least 1."""
    width = max([width, *sizes])
    rows: list[list[int]] = []
    filled: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda one: -sizes[one]):
        row = next((row for row, used in enumerate(filled) if used + sizes[number] <= width), len(rows))
        if row == len(rows):
            rows.append([])
            filled.append(0)
        rows[row].append(number)
        filled[row] += sizes[number]
    return rows, max(filled, default=1)


def turns(position: Tensor, size: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles by which positions [R, W] turn pairs of numbers: [R, 1, W, size] each,
    the sines of the first half negative."""
    pace = BASE ** (-torch.arange(0, size, 2, dtype=torch.float64, device=position.device) / size)
    angle = position[:, None, :, None] * pace
    cosine, sine = angle.cos().to(kind), angle.sin().to(kind)
    return torch.cat([cosine, cosine], -1), torch.cat([-sine, sine], -1)


def rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """[..., W, size], the first half of the numbers paired with the second (Su et al. 2021)."""
    cosine, sine = turn
    return torch.addcmul(x * cosine, x.roll(x.shape[-1] // 2, -1), sine)
