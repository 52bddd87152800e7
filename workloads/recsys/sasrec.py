"""Self-attention over what a user watched: which item comes next, or is missing.

SASRec (Kang and McAuley 2018) with cross-entropy over all items in place of one negative (as Klenitskiy and
Vasilev 2023 found far better). `target = "next"`: causal, each watched item is predicted from those before
it. `target = "held_out"`: a random part of the history is taken out and asked for, from a token that sees
the rest with its times; this is what a random split of the ratings tests. Items start from their vectors
(who watched them too). Attention learns what popularity and, where asked for, a linear memory (EASE) leave
to be said: both are part of the scores.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penstock.nn import Dropout
from penstock.workload import Batch, Schema
from workloads.recsys.baselines import FAR, Shrunken
from workloads.recsys.catalogue import Catalogue
from workloads.recsys.config import Net
from workloads.recsys.ease import Ease
from workloads.recsys.histories import DAY, Past

TRUST = 8.0  # what a score of the memory, which is at most about 1, counts at first
PERIODS = 4  # sines and cosines of the time, the slowest over twice the data's span


class Sequences(NamedTuple):
    """B histories of at most L items, at the end of their rows, and what is asked of them."""

    item: Tensor  # int64 [B, L]
    day: Tensor  # float32 [B, L]
    there: Tensor  # bool [B, L]
    target: Tensor  # int64 [T]
    owner: Tensor  # int64 [T]
    place: Tensor  # int64 [T], the position in the history that answers (next)
    negative: Tensor  # int64 [B, K], of a sampled softmax
    whole: Tensor  # int64 [H], all that the users watched, what is asked for included
    whose: Tensor  # int64 [H]


class Attention(nn.Module):
    """A pre-norm Transformer block without dependence on its neighbours in the batch."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop, self.drop_feed = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.first(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.drop(self.out(seen.transpose(1, 2).reshape(batch, length, width)))
        out: Tensor = x + self.drop_feed(self.feed(self.second(x)))
        return out


class SasRec(nn.Module):
    """Ranks; its ratings are those of the shrunken biases."""

    facts: Tensor

    def __init__(self, net: Net, catalogue: Catalogue, schema: Schema) -> None:
        super().__init__()
        self.net, self.items = net, len(catalogue)
        self.first = float(catalogue.fields["first"])
        self.span = max((float(catalogue.fields["last"]) - self.first) / DAY, 1.0)
        facts = np.concatenate([catalogue.traits, catalogue.decades[:, None]], 1)
        self.register_buffer("facts", torch.from_numpy(facts), persistent=False)
        self.item = nn.Embedding(self.items, net.width)
        nn.init.normal_(self.item.weight, std=0.02)
        rank = min(net.width, catalogue.vectors.shape[1])
        with torch.no_grad():
            self.item.weight[:, :rank] += (
                0.1 * rank**0.5 * torch.from_numpy(catalogue.vectors[:, :rank].copy())
            )
        self.fact = nn.Linear(facts.shape[1], net.width, bias=False)
        nn.init.normal_(self.fact.weight, std=0.01)
        self.place = nn.Embedding(net.history + 1, net.width)
        nn.init.normal_(self.place.weight, std=0.02)
        self.time = nn.Linear(2 * PERIODS, net.width)
        self.asking = nn.Parameter(torch.zeros(net.width))
        self.skip = nn.Parameter(torch.tensor(0.3))
        self.popularity = nn.Parameter(torch.from_numpy(np.log(catalogue.count + 1).astype(np.float32)))
        self.sharpness = nn.Parameter(torch.tensor(0.0))
        self.ease = Ease(schema, catalogue, net.ridge) if net.remembers(self.items) else None
        self.trust = nn.Parameter(torch.tensor(TRUST).log()) if self.ease else None
        self.drop = Dropout(net.dropout)
        self.blocks = nn.ModuleList(Attention(net.width, net.heads, net.dropout) for _ in range(net.layers))
        self.last = nn.LayerNorm(net.width)
        self.rating = Shrunken(catalogue)

    # ---------------------------------------------------------------- batches

    def batch(self, items: Batch) -> Sequences:
        """Histories with their targets: each drawn from the user's own generator."""
        length, causal = self.net.history, self.net.target == "next"
        item = np.zeros((len(items), length), np.int64)
        day = np.zeros((len(items), length), np.float32)
        there = np.zeros((len(items), length), bool)
        negative = np.zeros((len(items), self.net.negatives), np.int64)
        targets, owners, places = [], [], []
        for user, (row, draw) in enumerate(items):
            own = np.asarray(row["items"], np.int64)
            days = (np.asarray(row["times"], np.float64) - self.first) / DAY
            share = draw.uniform(0, 2 * self.net.held_out)
            chance = draw.random(len(own))
            negative[user] = draw.integers(self.items, size=self.net.negatives)
            if causal:
                own, days = own[-length - 1 :], days[-length - 1 :]
                past, asked = np.arange(len(own) - 1), np.arange(1, len(own))
                places.append(np.arange(length - len(past), length))
            else:
                held = chance < share
                if held.all() or not held.any():
                    held = chance == chance.min()
                past, asked = np.flatnonzero(~held)[-length:], np.flatnonzero(held)
                if not len(past):
                    asked = asked[:0]
                places.append(np.zeros(len(asked), np.int64))
            if len(past):
                item[user, -len(past) :], day[user, -len(past) :] = own[past], days[past]
                there[user, -len(past) :] = True
            targets.append(own[asked])
            owners.append(np.full(len(asked), user))
        wholes = [np.asarray(row["items"], np.int64) for row, _ in items]
        whole = np.concatenate([np.empty(0, np.int64), *wholes])
        whose = np.repeat(np.arange(len(wholes)), [len(own) for own in wholes])
        flat = [np.concatenate(part) if part else np.empty(0, np.int64) for part in (targets, owners, places)]
        arrays = (item, day, there, *(part.astype(np.int64) for part in flat), negative, whole, whose)
        return Sequences(*(torch.from_numpy(array) for array in arrays))

    # ---------------------------------------------------------------- learning and answering

    def loss(self, batch: Sequences) -> tuple[Tensor, float]:
        table = self.table()
        state = self.encode(batch.item, batch.day, batch.there, table)
        answer = state[batch.owner, batch.place if self.net.target == "next" else 0]
        prior = self.prior(batch)
        right = (answer * table[batch.target]).sum(1) * self.sharpness.exp()
        right = right + prior[batch.owner, batch.target]
        if self.net.negatives:
            other = self.sampled(batch, answer, right, table, prior)
        else:
            score = answer @ table.T * self.sharpness.exp() + prior[batch.owner]
            if self.net.target == "held_out":
                score = score.masked_fill((self.watched(batch) > 0)[batch.owner], FAR)
            other = score.logsumexp(1)
        return (other - right).sum(), len(batch.target)

    def prior(self, batch: Sequences) -> Tensor:
        """What is added to the scores of every user, [B, I]: popularity, and what the memory says of the
        history to a user who was never in it."""
        if self.ease is None or self.trust is None:
            return self.popularity.expand(len(batch.item), -1)
        row = self.popularity.new_zeros(len(batch.item), self.items)
        row[batch.whose, batch.whole] = 1
        memory: Tensor = self.ease(self.watched(batch), row)
        return self.popularity + memory * self.trust.exp()

    def watched(self, batch: Sequences) -> Tensor:
        """1 for what each history holds, float [B, I]."""
        counts = self.popularity.new_zeros(len(batch.item), self.items)
        return counts.scatter_add(1, batch.item, batch.there.to(counts.dtype))

    def sampled(
        self, batch: Sequences, answer: Tensor, right: Tensor, table: Tensor, prior: Tensor
    ) -> Tensor:
        """An estimate of the log of the softmax's sum from items drawn evenly, [T]."""
        unfit = torch.zeros_like(batch.negative, dtype=torch.bool)
        if self.net.target == "held_out":  # what the history holds is not in the whole sum either
            unfit = ((batch.negative[:, :, None] == batch.item[:, None]) & batch.there[:, None]).any(2)
        negative = batch.negative[batch.owner]
        score = torch.einsum("td,tkd->tk", answer, table[negative]) * self.sharpness.exp()
        score = score + prior.gather(1, batch.negative)[batch.owner]
        score = score + math.log(self.items / self.net.negatives)
        score = score.masked_fill(unfit[batch.owner] | (negative == batch.target[:, None]), FAR)
        return torch.cat([right[:, None], score], 1).logsumexp(1)

    def table(self) -> Tensor:
        whole: Tensor = self.item(torch.arange(self.items, device=self.facts.device)) + self.fact(self.facts)
        return whole

    def encode(self, item: Tensor, day: Tensor, there: Tensor, table: Tensor) -> Tensor:
        """[B, L, D] of each position, or [B, 1, D] of the whole history."""
        length, causal = item.shape[1], self.net.target == "next"
        x = table[item] * self.net.width**0.5
        if causal:
            x = x + self.place.weight[-length:]
        else:
            x = x + self.time(self.waves(day).to(x.dtype))
        x = self.drop(x)
        if causal:
            order = torch.ones(length, length, dtype=torch.bool, device=item.device).tril()
            mask = there[:, None, None, :] & order | torch.eye(length, dtype=torch.bool, device=item.device)
        else:
            x = torch.cat([self.asking.expand(len(x), 1, -1), x], 1)
            mask = F.pad(there, (1, 0), value=True)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        if causal:
            out: Tensor = self.last(x)
            return out
        many = there.sum(1, keepdim=True).clamp(min=1)
        mean = (table[item] * there[..., None]).sum(1) / many.sqrt() * self.net.width**0.5
        whole: Tensor = self.last(x[:, 0]) + self.skip * mean
        return whole[:, None]

    def waves(self, day: Tensor) -> Tensor:
        periods = 2 * self.span / 2.0 ** torch.arange(PERIODS, device=day.device)
        angle = 2 * math.pi * day[..., None] / periods
        return torch.cat([angle.sin(), angle.cos()], -1)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        return self.rating.rate(past, item, day)

    def rank(self, past: Past) -> Tensor:
        """Scores of all items for one user, [I], of a past no longer than `history`."""
        item, day = past.item[None], past.day[None]
        table = self.table()
        state = self.encode(item, day, torch.ones_like(item, dtype=torch.bool), table)[0, -1]
        score: Tensor = table @ state * self.sharpness.exp() + self.popularity
        if self.ease is not None and self.trust is not None:
            # whether the memory holds this user or not changes the scale of its scores, hardly their order
            history = score.new_zeros(1, self.items).index_fill(1, past.item, 1.0)
            score = score + self.ease(history)[0] * self.trust.exp()
        return score
